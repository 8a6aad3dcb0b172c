use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Flock, FlockType, fcntl_getlk};
use serde::{Deserialize, Serialize};

use crate::Probe;

/// Who holds a host, as the others are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// Who asked for the run, such as `ci@builder`.
    pub who: String,
    /// What they are doing, such as `apply microvm-host`.
    pub what: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// The process on the host.
    pub pid: u32,
}

/// The lock of which a host has one: who holds it may change or measure the host. The kernel frees it when its
/// holder is gone, however that ended.
#[derive(Debug)]
pub struct HostLock {
    path: PathBuf,
    _file: File,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody has it.
    #[error("the host is in use by {} ({}, pid {})", .0.who, .0.what, .0.pid)]
    Held(LockHolder),
    /// Somebody has it and has not said who.
    #[error("the host is in use by a run that has only just started")]
    HeldUnnamed,
    /// The lock file could not be used.
    #[error("cannot use the lock {}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl HostLock {
    /// Takes the lock at `path` (its directory is made where missing), or says at once who has it.
    ///
    /// # Errors
    /// It is held, or the file cannot be used.
    pub fn try_acquire(path: &Path, holder: &LockHolder) -> Result<HostLock, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                // Whoever can read a file can lock it.
                .mode(0o600)
                .open(path)
                .map_err(failed)?;
            match file.try_lock() {
                // Its last holder has removed it in the meantime, and others lock the next.
                Ok(()) if !is_at(&file, path) => {}
                Ok(()) => {
                    let text = serde_json::to_vec(holder).map_err(|error| failed(error.into()))?;
                    file.set_len(0).and_then(|()| file.write_all(&text)).map_err(failed)?;
                    return Ok(HostLock { path: path.to_owned(), _file: file });
                }
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    file.rewind().and_then(|()| file.read_to_string(&mut text)).map_err(failed)?;
                    return Err(serde_json::from_str(&text).map_or(LockError::HeldUnnamed, LockError::Held));
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    /// Gives the lock back and leaves no file of it.
    ///
    /// # Errors
    /// The file could not be removed.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Whether a path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|file| (file.dev(), file.ino()));
    id(file.metadata()).is_some_and(|own| id(fs::metadata(path)) == Some(own))
}

/// The process that holds a record lock (fcntl) on a file, as dpkg and apt take theirs. `Absent`: nobody does.
pub fn record_lock_holder(path: &Path) -> Probe<u32> {
    // Read-only, which is enough to ask: to open for writing copies the file up where it is of an overlay's base.
    let file = match Probe::of_io(File::open(path), &path.to_string_lossy()) {
        Probe::Known(file) => file,
        Probe::Absent => return Probe::Absent,
        Probe::Unreadable(reason) => return Probe::Unreadable(reason),
    };
    match fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)) {
        Ok(None) => Probe::Absent,
        // A holder in another PID namespace has no number here.
        Ok(Some(lock)) => Probe::Known(lock.pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())),
        Err(error) => Probe::Unreadable(format!("cannot ask for the lock on {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(who: &str) -> LockHolder {
        LockHolder { who: who.into(), what: "apply".into(), since: 1, pid: 7 }
    }

    #[test]
    fn the_second_is_told_who_the_first_is_and_gets_it_when_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/lock");
        let first = HostLock::try_acquire(&path, &holder("a-rather-long-name@somewhere")).unwrap();
        let error = HostLock::try_acquire(&path, &holder("b")).unwrap_err();
        assert!(matches!(&error, LockError::Held(h) if h.who == "a-rather-long-name@somewhere"), "{error}");
        drop(first);
        let second = HostLock::try_acquire(&path, &holder("b")).unwrap();
        let error = HostLock::try_acquire(&path, &holder("c")).unwrap_err();
        assert!(matches!(&error, LockError::Held(h) if h.who == "b"), "{error}");
        drop(second);
    }

    #[test]
    fn a_lock_that_was_removed_is_none_for_who_opened_it_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = HostLock::try_acquire(&path, &holder("a")).unwrap();
        let opened = File::open(&path).unwrap();
        assert!(is_at(&opened, &path));
        first.remove().unwrap();
        assert!(!path.exists() && !is_at(&opened, &path));
        let _second = HostLock::try_acquire(&path, &holder("b")).unwrap();
        assert!(opened.try_lock().is_ok() && !is_at(&opened, &path), "it is another file");
    }
}
