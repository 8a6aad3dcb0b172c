//! Small steps on files that several modules take.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toril_machine::{FileAttributes, write_atomically};

use crate::Error;

/// Makes a directory, and what is missing above it, for the owner only. One that exists is left as it is.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("make the directory", path))
}

/// Opens a file for reading and appending, for the owner only.
pub(crate) fn open_private(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("open", path))
}

/// Takes the lock of an open file; `None` if somebody else has it. Kept until every copy of the file is closed.
pub(crate) fn try_lock(file: &File) -> io::Result<Option<()>> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(())),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|error| Error::Corrupt { path: path.to_owned(), problem: error.to_string() })
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::Corrupt { path: path.to_owned(), problem: error.to_string() })?;
    let attributes = FileAttributes { uid: 0, gid: 0, mode: 0o600 };
    Ok(write_atomically(path, &text, Some(attributes))?)
}

/// Empties a directory that is kept.
pub(crate) fn remove_content(dir: &Path) -> Result<(), Error> {
    for entry in list(dir)? {
        remove(&dir.join(entry))?;
    }
    Ok(())
}

/// The same where somebody foreign may have put a link: that is left alone.
pub(crate) fn remove_content_of_real_dir(dir: &Path) -> Result<(), Error> {
    if dir.symlink_metadata().is_ok_and(|meta| meta.is_dir()) { remove_content(dir) } else { Ok(()) }
}

/// Removes a file, or a directory with all that is in it; nothing there is fine. Never follows a link.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let result = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The names in a directory, sorted; none if there is no such directory. Names that are not UTF-8 are no business of
/// ours anywhere this is used.
pub(crate) fn list(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", dir)(error)),
    };
    let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
    let names = names.map_err(Error::io("list", dir))?;
    let mut names: Vec<_> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(path: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut text = Vec::new();
        file.take(4096).read_to_end(&mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(12)..].join("\n")
        }
        Err(error) => format!("(it cannot be read: {error})"),
    }
}
