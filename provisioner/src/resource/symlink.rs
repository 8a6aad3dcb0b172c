//! `symlink`: a symbolic link to this target.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use toril_document::Table;
use toril_machine::Probe;

use super::{
    Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, one_line, parsed, read_path,
};

#[derive(Debug)]
struct Symlink {
    path: String,
    /// As the link holds it: absolute, or relative to the link's directory.
    target: String,
    /// Or is not to be there.
    present: bool,
}

enum SymlinkState {
    Absent,
    Link(String),
    File { bytes: u64 },
    Directory { empty: bool },
    Other,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let path = read_path(table, "path");
    let target = parsed(table, "target", "R030", one_line);
    let present = table.boolean("present").unwrap_or(true);
    Some(Box::new(Symlink { path: path?, target: target?, present }))
}

impl Kind for Symlink {
    type State = SymlinkState;

    fn observe(&self, context: Context<'_>) -> Result<SymlinkState, ResourceError> {
        let place = context.machine.path(&self.path);
        let metadata = Probe::of_io(fs::symlink_metadata(&place), &self.path);
        let Some(metadata) = metadata.known().map_err(ResourceError)? else {
            return Ok(SymlinkState::Absent);
        };
        let cannot = |error| ResourceError(format!("cannot read {}: {error}", self.path));
        if metadata.is_symlink() {
            let target = fs::read_link(&place).map_err(cannot)?;
            return Ok(SymlinkState::Link(target.to_string_lossy().into_owned()));
        }
        if metadata.is_dir() {
            let empty = fs::read_dir(&place).map_err(cannot)?.next().is_none();
            return Ok(SymlinkState::Directory { empty });
        }
        Ok(match metadata.is_file() {
            true => SymlinkState::File { bytes: metadata.len() },
            false => SymlinkState::Other,
        })
    }

    fn compare(&self, _: Context<'_>, state: &SymlinkState) -> Judged {
        let link = || format!("a link to {}", self.target);
        if !self.present {
            // What leads elsewhere is somebody else's.
            return match state {
                SymlinkState::Link(target) if *target == self.target => {
                    vec![Change::new("link", link(), "not there")].into()
                }
                _ => Judged::default(),
            };
        }
        let change = match state {
            SymlinkState::Link(target) if *target == self.target => return Judged::default(),
            SymlinkState::Link(target) => Change::new("target", target, &self.target),
            SymlinkState::Absent => Change::new("link", "not there", link()),
            SymlinkState::File { bytes } => Change::new("type", format!("a file of {bytes} bytes"), link()),
            SymlinkState::Directory { empty: true } => Change::new("type", "an empty directory", link()),
            SymlinkState::Directory { empty: false } => {
                Change::new("type", "a directory that is not empty", link())
            }
            SymlinkState::Other => Change::new("type", "neither a link nor a file", link()),
        };
        vec![change].into()
    }

    fn apply(
        &self,
        context: Context<'_>,
        _: &[Change],
        _: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let place = context.machine.path(&self.path);
        if !self.present {
            return fs::remove_file(&place)
                .map_err(|error| ResourceError(format!("cannot remove {}: {error}", self.path)));
        }
        match self.observe(context)? {
            SymlinkState::Directory { empty: false } => {
                let text =
                    format!("{} is a directory and not empty; move it away and run this again", self.path);
                return Err(ResourceError(text));
            }
            SymlinkState::Directory { empty: true } => fs::remove_dir(&place)
                .map_err(|error| ResourceError(format!("cannot remove {}: {error}", self.path)))?,
            _ => {}
        }
        put_link(&place, &self.target)
            .map_err(|error| ResourceError(format!("cannot make the link {}: {error}", self.path)))
    }

    fn provides(&self) -> Vec<Thing> {
        self.present.then(|| Thing::Path(self.path.clone())).into_iter().collect()
    }

    fn follows(&self) -> Vec<Wanted> {
        let target = self.target.starts_with('/').then(|| Wanted::path(&self.target));
        target.into_iter().chain([Wanted::Above(self.path.clone())]).collect()
    }
}

/// Makes a link. One cannot be changed: another one takes its name, so that there is one at every moment.
pub(super) fn put_link(place: &Path, target: &str) -> io::Result<()> {
    let directory = place.parent().unwrap_or(Path::new("/"));
    tempfile::Builder::new()
        .prefix(".toril-")
        .make_in(directory, |temporary| symlink(target, temporary))
        .and_then(|link| link.into_temp_path().persist(place).map_err(|error| error.error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::testing::{self, Fake};

    fn resource() -> Box<dyn Resource> {
        testing::read("symlink = { path = \"/etc/link\", target = \"there\" }").unwrap()
    }

    #[test]
    fn whatever_is_in_its_place_is_named_and_mended() {
        let fake = Fake::new();
        let (resource, path) = (resource(), fake.path("etc/link"));
        let mend = |expected: &str| {
            assert_eq!(fake.changes(&*resource), [expected]);
            fake.apply(&*resource);
            assert_eq!(fake.changes(&*resource), [""; 0]);
            assert_eq!(fs::read_link(&path).unwrap(), Path::new("there"));
            fs::remove_file(&path).unwrap();
        };
        mend("link: not there → a link to there");
        symlink("elsewhere", &path).unwrap();
        mend("target: elsewhere → there");
        fs::write(&path, "abc").unwrap();
        mend("type: a file of 3 bytes → a link to there");
        fs::create_dir(&path).unwrap();
        mend("type: an empty directory → a link to there");
        assert_eq!(fs::read_dir(fake.path("etc")).unwrap().count(), 2, "passwd and group, nothing temporary");
    }

    #[test]
    fn one_that_is_not_to_be_there_is_removed_and_no_other() {
        let fake = Fake::new();
        let text = "symlink = { path = \"/etc/link\", target = \"there\", present = false }";
        let (resource, path) = (testing::read(text).unwrap(), fake.path("etc/link"));
        assert_eq!(fake.changes(&*resource), [""; 0]);
        symlink("there", &path).unwrap();
        assert_eq!(fake.changes(&*resource), ["link: a link to there → not there"]);
        fake.apply(&*resource);
        assert!(fs::symlink_metadata(&path).is_err());
        symlink("elsewhere", &path).unwrap();
        assert_eq!(fake.changes(&*resource), [""; 0]);
    }

    #[test]
    fn a_full_directory_is_not_destroyed() {
        let fake = Fake::new();
        fs::create_dir(fake.path("etc/link")).unwrap();
        fs::write(fake.path("etc/link/precious"), "").unwrap();
        let judged = resource().judge(fake.context()).unwrap();
        let error = resource().apply(fake.context(), &judged.changes, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("move it away"), "{error}");
        assert!(fake.path("etc/link/precious").exists());
    }

    #[test]
    fn wrong_words_are_refused() {
        testing::refuses(&[
            ("symlink = { path = \"/l\", target = \"\" }", "this must be one line"),
            ("symlink = { path = \"l\", target = \"t\" }", "must be an absolute path"),
            ("symlink = { path = \"/l\", traget = \"t\" }", "did you mean `target`?"),
        ]);
    }
}
