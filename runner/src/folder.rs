//! Folders of tests, and removing them: whatever a test has left in them.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use tempfile::TempDir;

/// A folder that is removed with this, unless it is kept.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    is_kept: bool,
}

impl Folder {
    pub(crate) fn of(folder: TempDir) -> Folder {
        Folder { path: folder.keep(), is_kept: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets it stay.
    pub(crate) fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed now is found by the next sweep.
            let _ = remove_tree(&self.path);
        }
    }
}

/// How many names are read at a time.
const AT_A_TIME: usize = 4096;

/// Removes a directory with all that is in it, and follows no link. However deep that is, it takes no more open files and no
/// more of the stack, unlike `fs::remove_dir_all`: a test could leave what nobody can remove, and each later run would fail of
/// that.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let top = open(CWD, path)?;
    let mut raised = 0;
    loop {
        let names = names(&top)?;
        if names.is_empty() {
            return fs::remove_dir(path);
        }
        for name in names {
            if !is_removed(&top, &name)? {
                raise(&top, &name, &mut raised)?;
            }
        }
    }
}

fn open<P: rustix::path::Arg>(at: impl std::os::fd::AsFd, name: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// Some of the names in a directory; none are in an empty one.
fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let entries = Dir::read_from(directory)?.map(|entry| entry.map(|entry| entry.file_name().to_owned()));
    let names = entries.filter(|name| !name.as_deref().is_ok_and(|name| name == c"." || name == c".."));
    Ok(names.take(AT_A_TIME).collect::<Result<_, _>>()?)
}

/// Removes a file, or a directory that is empty; `false` where it is one that is not.
fn is_removed(directory: &OwnedFd, name: &CStr) -> io::Result<bool> {
    let removed = match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => unlinkat(directory, name, AtFlags::REMOVEDIR),
        removed => removed,
    };
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes what is in a directory and, of directories that are not empty, moves them up beside it.
fn raise(top: &OwnedFd, name: &CStr, raised: &mut u64) -> io::Result<()> {
    let directory = open(top, name)?;
    for name in names(&directory)? {
        if is_removed(&directory, &name)? {
            continue;
        }
        loop {
            let other = format!(".toril-raised-{raised}");
            *raised += 1;
            match renameat(&directory, &name, top, &other) {
                // The test has given that name.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                moved => break moved?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::mkdirat;

    use super::*;

    #[test]
    fn whatever_is_left_is_removed_and_nothing_that_it_leads_to() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), "").unwrap();
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("deep/er")).unwrap();
        symlink(outside.path(), tree.join("deep/er/link")).unwrap();
        symlink(outside.path(), tree.join("link")).unwrap();
        fs::write(tree.join(".toril-raised-0"), "").unwrap();
        fs::create_dir_all(tree.join(".toril-raised-1/x")).unwrap();
        (0..5000).for_each(|number| fs::write(tree.join(format!("deep/{number}")), "").unwrap());
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.path().join("file").exists());
        symlink(outside.path(), &tree).unwrap();
        assert!(remove_tree(&tree).is_err() && outside.path().join("file").exists());
    }

    #[test]
    fn no_depth_keeps_a_folder() {
        let folder = Folder::of(tempfile::tempdir().unwrap());
        let path = folder.path().to_owned();
        // Too deep for a path, for files that are open at the same time, and for the stack of a thread.
        let mut directory = open(CWD, &path).unwrap();
        for _ in 0..30_000 {
            mkdirat(&directory, c"d", Mode::RWXU).unwrap();
            directory = open(&directory, c"d").unwrap();
        }
        drop(directory);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn one_that_is_kept_stays() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::of(tempfile::tempdir_in(place.path()).unwrap());
        folder.keep();
        let path = folder.path().to_owned();
        drop(folder);
        assert!(path.exists());
    }
}
