//! `file`: a regular file with this content, owner and mode.

use std::fs;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;

use toril_document::Table;
use toril_machine::{Probe, write_atomically};

use super::attributes::{Attributes, open_regular};
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, read_path};

#[derive(Debug)]
pub(super) struct FileResource {
    pub(super) path: String,
    pub(super) content: String,
    pub(super) attributes: Attributes,
}

pub(super) struct FileState {
    /// `None`: nothing is there. The text is `None` for what is not a regular file.
    found: Option<(Option<String>, Attributes)>,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let path = read_path(table, "path");
    let content = table.required_string("content");
    let attributes = Attributes::read(table, 0o644);
    Some(Box::new(FileResource { path: path?, content: content?.value, attributes }))
}

impl FileResource {
    /// As apply, for files in a directory of the system's that not every Debian has from the beginning.
    pub(super) fn apply_with_directory(
        &self,
        context: Context<'_>,
        changes: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        if let Some(directory) = context.machine.path(&self.path).parent() {
            let failed = |error| ResourceError(format!("cannot make {}: {error}", directory.display()));
            fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
        }
        Resource::apply(self, context, changes, log)
    }
}

impl Kind for FileResource {
    type State = FileState;

    fn observe(&self, context: Context<'_>) -> Result<FileState, ResourceError> {
        let metadata = Probe::of_io(fs::symlink_metadata(context.machine.path(&self.path)), &self.path);
        let Some(metadata) = metadata.known().map_err(ResourceError)? else {
            return Ok(FileState { found: None });
        };
        let failed = |error| ResourceError(format!("cannot read {}: {error}", self.path));
        let text = match open_regular(&context.machine.path(&self.path)).map_err(failed)? {
            Some(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(failed)?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            None => None,
        };
        Ok(FileState { found: Some((text, Attributes::of(&metadata, context.machine))) })
    }

    fn compare(&self, _: Context<'_>, state: &FileState) -> Judged {
        let changes = match &state.found {
            None => vec![Change::of_text(&self.path, None, &self.content)],
            Some((None, _)) => vec![Change::new("type", "not a regular file", "a regular file")],
            Some((Some(text), attributes)) => {
                let content =
                    (*text != self.content).then(|| Change::of_text(&self.path, Some(text), &self.content));
                content.into_iter().chain(self.attributes.compare(attributes)).collect()
            }
        };
        changes.into()
    }

    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        _: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        if changes.iter().all(|change| matches!(change.what.as_str(), "owner" | "group" | "mode")) {
            return self.attributes.apply(&self.path, context.machine);
        }
        let attributes = self.attributes.resolve(context.machine)?;
        write_atomically(&context.machine.path(&self.path), self.content.as_bytes(), Some(attributes))
            .map_err(ResourceError::new)
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

    fn resource() -> FileResource {
        let attributes = Attributes { owner: "root".into(), group: "root".into(), mode: 0o640 };
        FileResource { path: "/etc/f".into(), content: "a\nb\n".into(), attributes }
    }

    #[test]
    fn is_written_mended_and_then_left_alone() {
        let fake = Fake::new();
        let resource = resource();
        assert_eq!(fake.changes(&resource), ["content: no such file → 2 lines"]);
        fake.apply(&resource);
        assert_eq!(fake.changes(&resource), [""; 0]);
        std::fs::write(fake.path("etc/f"), "a\nc\n").unwrap();
        let judged = Resource::judge(&resource, fake.context()).unwrap();
        let diff = judged.changes[0].diff.as_deref().unwrap();
        assert!(diff.contains("-c\n") && diff.contains("+b\n"), "{diff}");
        fake.apply(&resource);
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(fake.path("etc/f"), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fake.changes(&resource), ["mode: 0600 → 0640"]);
        fake.apply(&resource);
        assert_eq!(fake.changes(&resource), [""; 0]);
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let fake = Fake::new();
        let target = fake.path("etc/target");
        std::fs::write(&target, "keep").unwrap();
        std::os::unix::fs::symlink(&target, fake.path("etc/f")).unwrap();
        assert_eq!(fake.changes(&resource()), ["type: not a regular file → a regular file"]);
        fake.apply(&resource());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "keep");
        assert_eq!(fake.changes(&resource()), [""; 0]);
    }
}
