//! `directory`: a directory with this owner and mode.

use std::fs;
use std::io::ErrorKind;

use toril_document::Table;
use toril_machine::Probe;

use super::attributes::Attributes;
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, read_path};

#[derive(Debug)]
struct Directory {
    path: String,
    attributes: Attributes,
}

enum DirectoryState {
    Absent,
    Other,
    There(Attributes),
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let path = read_path(table, "path");
    let attributes = Attributes::read(table, 0o755);
    Some(Box::new(Directory { path: path?, attributes }))
}

impl Kind for Directory {
    type State = DirectoryState;

    fn observe(&self, context: Context<'_>) -> Result<DirectoryState, ResourceError> {
        let metadata = Probe::of_io(fs::symlink_metadata(context.machine.path(&self.path)), &self.path);
        Ok(match metadata.known().map_err(ResourceError)? {
            None => DirectoryState::Absent,
            Some(metadata) if metadata.is_dir() => {
                DirectoryState::There(Attributes::of(&metadata, context.machine))
            }
            Some(_) => DirectoryState::Other,
        })
    }

    fn compare(&self, _: Context<'_>, state: &DirectoryState) -> Judged {
        let changes = match state {
            DirectoryState::Absent => vec![Change::new("directory", "not there", &self.path)],
            DirectoryState::Other => vec![Change::new("type", "not a directory", "a directory")],
            DirectoryState::There(attributes) => self.attributes.compare(attributes),
        };
        changes.into()
    }

    fn apply(
        &self,
        context: Context<'_>,
        _: &[Change],
        _: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        match fs::create_dir(context.machine.path(&self.path)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if !context.machine.path(&self.path).is_dir() {
                    let text = format!(
                        "{} is there and is no directory; move it away and run this again",
                        self.path
                    );
                    return Err(ResourceError(text));
                }
            }
            Err(error) => {
                return Err(ResourceError(format!("cannot make the directory {}: {error}", self.path)));
            }
        }
        self.attributes.apply(&self.path, context.machine)
    }

    fn provides(&self) -> Vec<Thing> {
        vec![Thing::Path(self.path.clone())]
    }

    fn follows(&self) -> Vec<Wanted> {
        self.attributes.follows(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::testing::Fake;

    fn resource() -> Directory {
        let attributes = Attributes { owner: "root".into(), group: "root".into(), mode: 0o750 };
        Directory { path: "/srv/d".into(), attributes }
    }

    #[test]
    fn is_made_once() {
        let fake = Fake::new();
        std::fs::create_dir(fake.path("srv")).unwrap();
        assert_eq!(fake.changes(&resource()), ["directory: not there → /srv/d"]);
        fake.apply(&resource());
        assert_eq!(fake.changes(&resource()), [""; 0]);
    }

    #[test]
    fn a_file_in_its_place_is_not_destroyed() {
        let fake = Fake::new();
        std::fs::create_dir(fake.path("srv")).unwrap();
        std::fs::write(fake.path("srv/d"), "precious").unwrap();
        let error = Resource::apply(&resource(), fake.context(), &[], &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("is no directory"), "{error}");
        assert_eq!(std::fs::read_to_string(fake.path("srv/d")).unwrap(), "precious");
    }
}
