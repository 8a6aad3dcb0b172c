//! Where a report goes that the user has given a file for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use toril_machine::write_atomically;

/// More links than these in a row are a ring, as the kernel has it.
const LINKS: usize = 40;

#[derive(Debug)]
pub(super) enum Place {
    /// A regular file, or one that is to be: replaced as a whole.
    File(PathBuf),
    /// What cannot be replaced (a FIFO, a device, what a shell has opened): written to, once.
    Stream { path: PathBuf, file: File },
}

impl Place {
    /// Follows symbolic links, which stay what they are. A FIFO is waited for until somebody reads it.
    pub(super) fn find(path: &Path) -> io::Result<Place> {
        let mut path = whole(path);
        for _ in 0..LINKS {
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_symlink() && !is_of_a_process(&path) => {
                    let target = fs::read_link(&path)?;
                    path = path.parent().unwrap_or(Path::new("/")).join(target);
                }
                Ok(found) if !found.is_file() => {
                    let file = OpenOptions::new().write(true).truncate(true).open(&path)?;
                    return Ok(Place::Stream { path, file });
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(_) | Err(_) => return Ok(Place::File(path)),
            }
        }
        Err(io::Error::other("its symbolic links lead round in a ring"))
    }

    pub(super) fn write(&self, text: &str) -> Result<(), String> {
        match self {
            Place::File(path) => {
                write_atomically(path, text.as_bytes(), None).map_err(|error| error.to_string())
            }
            Place::Stream { path, file } => {
                let written = (&*file).write_all(text.as_bytes());
                written.map_err(|error| format!("cannot write {}: {error}", path.display()))
            }
        }
    }
}

/// Whether a link is one of a process's open files (`/dev/fd/63`), whose text is no path to what it leads to.
fn is_of_a_process(link: &Path) -> bool {
    let directory = link.parent().and_then(|parent| parent.canonicalize().ok());
    directory.is_some_and(|directory| directory.starts_with("/proc"))
}

/// A path whose directory can be opened.
pub(super) fn whole(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new(".").join(path),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn put(path: &Path, text: &str) {
        Place::find(path).unwrap().write(text).unwrap();
    }

    #[test]
    fn links_stay_and_their_targets_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("reports")).unwrap();
        fs::write(at("reports/old"), "old").unwrap();
        symlink("reports/old", at("link")).unwrap();
        symlink("link", at("second")).unwrap();
        put(&at("second"), "new");
        assert_eq!(fs::read_to_string(at("reports/old")).unwrap(), "new");
        // One that leads nowhere yet.
        symlink("reports/none", at("dangling")).unwrap();
        put(&at("dangling"), "first");
        assert_eq!(fs::read_to_string(at("reports/none")).unwrap(), "first");
        for link in ["link", "second", "dangling"] {
            assert!(at(link).is_symlink(), "{link}");
        }
        symlink("ring", at("ring")).unwrap();
        let error = Place::find(&at("ring")).unwrap_err();
        assert!(error.to_string().contains("in a ring"), "{error}");
    }

    #[test]
    fn what_is_open_elsewhere_is_written_to_and_not_replaced() {
        use std::io::{Read, Seek};
        use std::os::fd::AsRawFd;

        let mut file = tempfile::tempfile().unwrap();
        put(Path::new(&format!("/dev/fd/{}", file.as_raw_fd())), "seen");
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "seen");
        assert!(Place::find(Path::new("/")).is_err());
    }
}
