use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::folder::{Folder, remove_tree};
use crate::kept::{Purpose, folders, is_marked, mark};

const LOCK: &str = ".lock";

/// The folder of one run, locked by it and gone with it, unless it is kept. What a killed run left behind is removed by
/// [`sweep`], and by the next.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    is_kept: bool,
    _lock: File,
}

/// A run's folder could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the run's folder in {}: {source}", path.display())]
pub(crate) struct RunDirectoryError {
    path: PathBuf,
    source: io::Error,
}

impl RunDirectory {
    /// Makes a folder in `state`/runs, after removing those whose runs are gone.
    pub(crate) fn create(state: &Path) -> Result<RunDirectory, RunDirectoryError> {
        let runs = state.join("runs");
        let make = || {
            DirBuilder::new().recursive(true).mode(0o755).create(&runs)?;
            sweep_runs(&runs)?;
            let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&runs)?;
            let lock = File::create(folder.path().join(LOCK))?;
            lock.lock()?;
            // Tests pass through it to their own folders and see no others.
            fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
            Ok(RunDirectory { path: folder.keep(), is_kept: false, _lock: lock })
        };
        make().map_err(|source| RunDirectoryError { path: runs.clone(), source })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets it stay after the run, with what is in it then.
    pub(crate) fn keep(&mut self, purpose: &Purpose) -> io::Result<()> {
        mark(&self.path, purpose)?;
        self.is_kept = true;
        Ok(())
    }

    /// Makes a test's private folder, which is removed with its owner. Whatever is in it by a name may be something else the
    /// next moment: the user may have processes outside of this run.
    pub(crate) fn for_test(&self, account: &Account) -> io::Result<Folder> {
        let folder = self.make("test-")?;
        chown(folder.path(), Some(account.uid), Some(account.gid))?;
        Ok(folder)
    }

    /// Makes a folder that the user passes through, and in which root alone gives names: what root finds by a name in it is
    /// what root has put there.
    pub(crate) fn of_root(&self, account: &Account) -> io::Result<Folder> {
        let folder = self.make("root-")?;
        chown(folder.path(), Some(0), Some(account.gid))?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o710))?;
        Ok(folder)
    }

    fn make(&self, prefix: &str) -> io::Result<Folder> {
        tempfile::Builder::new().prefix(prefix).tempdir_in(&self.path).map(Folder::of)
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed now is found by the next sweep.
            let _ = remove(&self.path);
        }
    }
}

/// Removes what killed runs have left in the folder `state`, and leaves alone what runs. It fails while processes that are
/// dying still write there.
pub fn sweep(state: &Path) -> io::Result<()> {
    match sweep_runs(&state.join("runs")) {
        // There was no run yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        swept => swept,
    }
}

fn sweep_runs(runs: &Path) -> io::Result<()> {
    for path in folders(runs)? {
        match File::open(path.join(LOCK)).map(|lock| (lock.try_lock(), lock)) {
            // Its mark is looked for once its run is gone: that is the last that a run does.
            Ok((Ok(()), _)) if is_marked(&path)? => {}
            Ok((Ok(()), _lock)) => remove(&path)?,
            Ok((Err(TryLockError::WouldBlock), _)) => {}
            Ok((Err(TryLockError::Error(error)), _)) => return Err(error),
            // Made this moment, and not locked yet; or swept by another run.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes a run's folder, its lock last: what could not be removed yet is found again by that.
fn remove(folder: &Path) -> io::Result<()> {
    let removed = || {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name() == LOCK {
                continue;
            }
            if entry.file_type()?.is_dir() {
                remove_tree(&entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir_all(folder)
    };
    match removed() {
        // Another run has swept it.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_runs_left_is_removed_and_what_runs_is_kept() {
        let state = tempfile::tempdir().unwrap();
        super::sweep(state.path()).unwrap();
        let alive = RunDirectory::create(state.path()).unwrap();
        let left = state.path().join("runs/run-left");
        fs::create_dir_all(left.join("test-1")).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let next = RunDirectory::create(state.path()).unwrap();
        assert!(alive.path().exists() && next.path().exists() && !left.exists());
        fs::create_dir_all(left.join("test-1")).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        fs::write(left.join("qmp.sock"), "").unwrap();
        super::sweep(state.path()).unwrap();
        assert!(alive.path().exists() && next.path().exists() && !left.exists());
        drop((alive, next));
        assert_eq!(fs::read_dir(state.path().join("runs")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_folder_of_a_run_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let runs = state.path().join("runs");
        fs::create_dir_all(runs.join("notes")).unwrap();
        fs::write(runs.join("README"), "").unwrap();
        std::os::unix::fs::symlink("README", runs.join("link")).unwrap();
        std::os::unix::fs::symlink("loop", runs.join("loop")).unwrap();
        super::sweep(state.path()).unwrap();
        drop(RunDirectory::create(state.path()).unwrap());
        assert_eq!(fs::read_dir(&runs).unwrap().count(), 4);
    }

    #[test]
    fn one_that_is_kept_stays_and_no_sweep_removes_it() {
        let state = tempfile::tempdir().unwrap();
        let mut run = RunDirectory::create(state.path()).unwrap();
        fs::write(run.path().join("file"), "").unwrap();
        let kept = run.path().to_owned();
        run.keep(&Purpose::now("me", "s.toml")).unwrap();
        drop(run);
        super::sweep(state.path()).unwrap();
        drop(RunDirectory::create(state.path()).unwrap());
        assert!(kept.join("file").exists());
    }
}
