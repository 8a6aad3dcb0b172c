//! Directories in which something is being made, and files: on record from before they are there until they are gone, so that what a
//! killed apply leaves is found and removed, by its watcher or by the next apply of whatever recipe.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use toril_machine::Machine;

/// One file for each of them, with its path. Who makes it holds a lock on that, which the kernel frees however that ends.
pub const RECORD: &str = "/var/lib/toril/unfinished";

/// How long what was killed may go on writing.
const DYING: Duration = Duration::from_secs(5);

/// A directory, or a file, that is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Unfinished {
    directory: PathBuf,
    entry: PathBuf,
    is_kept: bool,
    _lock: File,
}

impl Unfinished {
    /// Records that a directory is to be made, and removes what is left of an earlier one.
    pub(crate) fn begin(machine: &Machine, directory: &Path) -> io::Result<Unfinished> {
        let unfinished = Unfinished::resume(machine, directory)?;
        remove(directory)?;
        Ok(unfinished)
    }

    /// The same with what an earlier one has kept, if it has.
    pub(crate) fn resume(machine: &Machine, directory: &Path) -> io::Result<Unfinished> {
        let record = machine.path(RECORD);
        DirBuilder::new().recursive(true).mode(0o755).create(&record)?;
        let name = hex::encode(Sha256::digest(directory.as_os_str().as_bytes()));
        let entry = record.join(&name[..16]);
        let mut lock = loop {
            let file = File::options().create(true).truncate(false).write(true).open(&entry)?;
            file.lock()?;
            // Whoever removed the directory before has removed the entry with it.
            if fs::metadata(&entry).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino())) {
                break file;
            }
        };
        lock.set_len(0)?;
        lock.write_all(directory.as_os_str().as_bytes())?;
        lock.sync_all()?;
        Ok(Unfinished { directory: directory.to_owned(), entry, is_kept: false, _lock: lock })
    }

    /// Leaves the directory as it is, for somebody to go on with.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }

    /// Removes the directory.
    pub(crate) fn remove(self) -> io::Result<()> {
        // An entry whose directory cannot be removed stays, for another try.
        remove(&self.directory)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.is_kept || remove(&self.directory).is_ok() {
            let _ = fs::remove_file(&self.entry);
        }
    }
}

/// Removes what killed applies have left, and leaves alone what is being made.
///
/// # Errors
/// Something could not be removed; it is found again by the next one.
pub fn sweep_unfinished(machine: &Machine) -> io::Result<()> {
    for Left { entry, path, _lock } in left(machine)? {
        // Killed before it was written, there is no directory either.
        if let Some(path) = path {
            remove(&path)?;
        }
        match fs::remove_file(&entry) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Where what killed applies have left is.
///
/// # Errors
/// The record cannot be read.
pub fn unfinished(machine: &Machine) -> io::Result<Vec<PathBuf>> {
    let paths = left(machine)?.into_iter().filter_map(|left| left.path);
    Ok(paths.filter(|path| fs::symlink_metadata(path).is_ok()).collect())
}

/// What is on record and made by nobody any more.
struct Left {
    entry: PathBuf,
    path: Option<PathBuf>,
    _lock: File,
}

fn left(machine: &Machine) -> io::Result<Vec<Left>> {
    let entries = match fs::read_dir(machine.path(RECORD)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry?.path();
        let mut file = match File::open(&entry) {
            // Another one has swept it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        let mut path = Vec::new();
        file.read_to_end(&mut path)?;
        let path = (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(&path)));
        all.push(Left { entry, path, _lock: file });
    }
    Ok(all)
}

fn remove(directory: &Path) -> io::Result<()> {
    let until = Instant::now() + DYING;
    loop {
        match fs::remove_dir_all(directory) {
            Ok(()) => return Ok(()),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => return Ok(()),
                io::ErrorKind::NotADirectory => return fs::remove_file(directory),
                io::ErrorKind::DirectoryNotEmpty if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(20));
                }
                kind => {
                    let text = format!("cannot remove {}: {error}", directory.display());
                    return Err(io::Error::new(kind, text));
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_removed_and_what_is_being_made_stays() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::at(root.path());
        sweep_unfinished(&machine).unwrap();
        let [left, made] = ["left", "made"].map(|name| root.path().join(name));
        let killed = Unfinished::begin(&machine, &left).unwrap();
        fs::create_dir_all(left.join("below")).unwrap();
        // As a process that is killed leaves it: no destructor runs, and its locks are gone.
        let Unfinished { _lock, .. } = &killed;
        _lock.unlock().unwrap();
        std::mem::forget(killed);
        let making = Unfinished::begin(&machine, &made).unwrap();
        fs::create_dir(&made).unwrap();
        assert_eq!(unfinished(&machine).unwrap(), [left.as_path()]);
        sweep_unfinished(&machine).unwrap();
        assert!(!left.exists() && made.exists() && unfinished(&machine).unwrap().is_empty());
        drop(making);
        assert!(!made.exists());
        assert_eq!(fs::read_dir(machine.path(RECORD)).unwrap().count(), 0);
        // What was kept is gone on with, and what becomes of that goes.
        let resume = || Unfinished::resume(&machine, &made).unwrap();
        let first = resume();
        fs::write(&made, "beginning").unwrap();
        first.keep();
        sweep_unfinished(&machine).unwrap();
        assert_eq!(fs::read_dir(machine.path(RECORD)).unwrap().count(), 0);
        let second = resume();
        assert_eq!(fs::read_to_string(&made).unwrap(), "beginning");
        drop(second);
        assert!(!made.exists());
        // What is there under the same name is of an earlier one.
        fs::create_dir(&made).unwrap();
        Unfinished::begin(&machine, &made).unwrap().remove().unwrap();
        assert!(!made.exists());
    }
}
