use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Who owns a file and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAttributes {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits, such as `0o644`.
    pub mode: u32,
}

/// A file could not be written; what was there is as it was.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}{}", path.display(), remedy(source))]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; free some space and run this again",
        io::ErrorKind::ReadOnlyFilesystem => "; remount the file system writable and run this again",
        _ => "",
    }
}

/// Replaces a file so that a reader, or a machine that loses power, finds either the old content or the new.
/// Without `attributes` a new file gets mode 0644 and the caller's user.
///
/// # Errors
/// The directory is missing or not writable, the disk is full, and the like.
pub fn write_atomically(
    path: &Path,
    content: &[u8],
    attributes: Option<FileAttributes>,
) -> Result<(), WriteError> {
    let write = || -> io::Result<()> {
        // Of a name alone it is the current one.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".toril-").tempfile_in(directory)?;
        file.write_all(content)?;
        match attributes {
            Some(FileAttributes { uid, gid, mode }) => {
                fchown(file.as_file(), Some(uid), Some(gid))?;
                // After the change of owner, which clears the set-id bits.
                file.as_file().set_permissions(Permissions::from_mode(mode))?;
            }
            None => file.as_file().set_permissions(Permissions::from_mode(0o644))?,
        }
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| WriteError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn replaces_content_and_mode_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "old").unwrap();
        write_atomically(&path, b"new", None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_names_the_file() {
        let error = write_atomically(Path::new("/nonexistent-toril/x"), b"", None).unwrap_err();
        assert!(error.to_string().starts_with("cannot write /nonexistent-toril/x: "), "{error}");
    }
}
