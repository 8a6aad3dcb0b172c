//! What an archive was unpacked to: a file beside what was unpacked, which says from what, and each of its files.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

/// The file's name in the directory that was unpacked.
pub(super) const MANIFEST: &str = ".toril-unpacked";

/// From what a directory was made, and what there was in it then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Of the archive.
    pub(super) sha256: String,
    /// How many parts of each path were taken off.
    pub(super) strip: usize,
    pub(super) files: Vec<Entry>,
}

/// A file, directory or link, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Below the directory; what is no UTF-8 in hexadecimal digits after a NUL, which no path has.
    path: String,
    mode: u32,
    uid: u32,
    /// In bytes; of directories, which others may put files into, nothing.
    size: u64,
    /// In seconds.
    modified: i64,
}

/// How a directory is not as it was any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Differences {
    pub(super) changed: usize,
    pub(super) missing: usize,
    /// One of them.
    pub(super) first: String,
}

impl Manifest {
    /// Of a directory that nobody else can write to.
    pub(super) fn of(top: &Path, sha256: &str, strip: usize) -> io::Result<Manifest> {
        let mut files = Vec::new();
        for path in toril_archive::everything(top)? {
            files.push(Entry::of(&path, &fs::symlink_metadata(top.join(&path))?));
        }
        Ok(Manifest { sha256: sha256.to_owned(), strip, files })
    }

    /// Each path in it, directories before what is in them.
    pub(super) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(Entry::path)
    }

    /// Whether there is no file or link.
    pub(super) fn is_empty(&self) -> bool {
        self.files.iter().all(|entry| entry.mode & 0o170_000 == 0o040_000)
    }

    /// Nothing: there is none, or none that can be understood; or one that others wrote, in a directory of theirs. By that,
    /// whoever reads the directory's files would read whatever they list.
    pub(super) fn read(top: &Path) -> io::Result<Option<Manifest>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match rustix::fs::open(top.join(MANIFEST), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        let is_own = [0, geteuid().as_raw()].contains(&metadata.uid()) && metadata.mode() & 0o002 == 0;
        if !metadata.is_file() || !is_own {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes).ok())
    }

    pub(super) fn write(&self, top: &Path) -> io::Result<()> {
        use std::io::Write;
        let mut file = fs::File::create_new(top.join(MANIFEST))?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()
    }

    /// What of it is not as it was. What was put beside it is not looked at.
    pub(super) fn differences(&self, top: &Path) -> io::Result<Differences> {
        let mut differences = Differences::default();
        for entry in &self.files {
            match fs::symlink_metadata(top.join(entry.path())) {
                Ok(now) if Entry::of(&entry.path(), &now) == *entry => continue,
                Ok(_) => differences.changed += 1,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    differences.missing += 1;
                }
                Err(error) => return Err(error),
            }
            if differences.first.is_empty() {
                differences.first = entry.path().display().to_string();
            }
        }
        Ok(differences)
    }
}

impl Entry {
    fn of(path: &Path, metadata: &Metadata) -> Entry {
        let path = match path.to_str() {
            Some(path) => path.to_owned(),
            None => format!("\0{}", hex::encode(path.as_os_str().as_bytes())),
        };
        let is_directory = metadata.is_dir();
        Entry {
            path,
            mode: metadata.mode(),
            uid: metadata.uid(),
            size: if is_directory { 0 } else { metadata.len() },
            // A link's is not that of the archive.
            modified: if metadata.is_file() { metadata.mtime() } else { 0 },
        }
    }

    fn path(&self) -> PathBuf {
        let bytes = self.path.strip_prefix('\0').and_then(|digits| hex::decode(digits).ok());
        bytes.map_or_else(|| PathBuf::from(&self.path), |bytes| std::ffi::OsString::from_vec(bytes).into())
    }
}

impl Differences {
    /// Such as `2 changed, 1 missing, bin/x among them`; nothing where all is as it was.
    pub(super) fn describe(&self) -> Option<String> {
        let counts = [(self.changed, "changed"), (self.missing, "missing")];
        let counts: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!counts.is_empty()).then(|| format!("{}, {} among them", counts.join(", "), self.first))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_is_not_as_it_was_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        fs::create_dir(top.join("d")).unwrap();
        fs::write(top.join("d/f"), "abc").unwrap();
        fs::write(top.join(OsStr::from_bytes(b"\xff")), "").unwrap();
        symlink("d/f", top.join("l")).unwrap();
        let manifest = Manifest::of(top, "00", 1).unwrap();
        manifest.write(top).unwrap();
        assert_eq!(Manifest::read(top).unwrap(), Some(manifest.clone()));
        assert_eq!(manifest.differences(top).unwrap().describe(), None);
        fs::write(top.join("d/beside"), "").unwrap();
        assert_eq!(manifest.differences(top).unwrap().describe(), None, "what a build leaves is no drift");
        fs::write(top.join("d/f"), "abcd").unwrap();
        fs::remove_file(top.join(OsStr::from_bytes(b"\xff"))).unwrap();
        fs::remove_file(top.join("l")).unwrap();
        let shown = manifest.differences(top).unwrap().describe().unwrap();
        assert!(shown.starts_with("1 changed, 2 missing, ") && shown.ends_with(" among them"), "{shown}");
        fs::write(top.join(MANIFEST), "?").unwrap();
        assert_eq!(Manifest::read(top).unwrap(), None);
    }

    #[test]
    fn one_that_others_can_have_written_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (top, place) = (dir.path(), dir.path().join(MANIFEST));
        let manifest = Manifest::of(top, "00", 0).unwrap();
        manifest.write(top).unwrap();
        let mode = |mode| fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o646);
        assert_eq!(Manifest::read(top).unwrap(), None);
        mode(0o644);
        assert_eq!(Manifest::read(top).unwrap(), Some(manifest));
        if geteuid().is_root() {
            std::os::unix::fs::chown(&place, Some(1), None).unwrap();
            assert_eq!(Manifest::read(top).unwrap(), None);
        }
        fs::rename(&place, top.join("elsewhere")).unwrap();
        symlink("elsewhere", &place).unwrap();
        assert_eq!(Manifest::read(top).unwrap(), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_manifest_or_none(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(MANIFEST), bytes).unwrap();
            proptest::prop_assert!(Manifest::read(dir.path()).is_ok());
        }
    }
}
