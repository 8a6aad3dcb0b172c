//! Folders of runs that were kept: they stay on the host until somebody removes them.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use toril_machine::{room_taken, write_atomically};

use crate::folder::remove_tree;

/// The file in a run's folder that keeps it. Its own, for no test can write there.
const MARK: &str = ".kept";

/// The folder of a run: the tree that was tested, and the folders of its tests and builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFolder {
    /// The directory on that machine.
    pub directory: String,
    /// Whether it stays after the run.
    pub kept: bool,
    /// Why it could not be kept, though that was wanted.
    pub trouble: Option<String>,
}

/// A run's folder that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFolder {
    /// The directory on that machine.
    pub directory: PathBuf,
    /// What it was kept for; nothing where that cannot be read.
    pub of: Option<Purpose>,
    /// What it takes of the disk, in bytes.
    pub bytes: u64,
    /// Why it is still there, though it was to be removed.
    pub trouble: Option<String>,
}

/// What a run's folder was kept for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purpose {
    /// Who wanted it, such as `ci@builder`.
    pub who: String,
    /// The suite that was run.
    pub suite: String,
    /// When the run ended, counted from 1970.
    pub since: Duration,
}

impl Purpose {
    /// From now on.
    pub(crate) fn now(who: &str, suite: &str) -> Purpose {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Purpose { who: who.to_owned(), suite: suite.to_owned(), since: Duration::from_secs(since.as_secs()) }
    }
}

/// Marks a run's folder, so that no sweep removes it.
pub(crate) fn mark(folder: &Path, purpose: &Purpose) -> io::Result<()> {
    let text = serde_json::to_vec(purpose).map_err(io::Error::other)?;
    write_atomically(&folder.join(MARK), &text, None).map_err(io::Error::other)
}

/// Whether a run's folder is to stay. An error is no answer.
pub(crate) fn is_marked(folder: &Path) -> io::Result<bool> {
    fs::exists(folder.join(MARK))
}

/// What may be a run's folder among what is in `runs`: somebody may have put a file there.
pub(crate) fn folders(runs: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(runs)? {
        let entry = entry?;
        // What is gone by now is none.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// The folders that runs have left on purpose in the folder `state`, the oldest first.
pub fn kept_folders(state: &Path) -> io::Result<Vec<KeptFolder>> {
    let directories = match folders(&state.join("runs")) {
        // There was no run yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        directories => directories?,
    };
    let mut kept = Vec::new();
    for directory in directories {
        if is_marked(&directory)? {
            let text = fs::read(directory.join(MARK));
            let of = text.ok().and_then(|text| serde_json::from_slice(&text).ok());
            let bytes = room_taken(&directory);
            kept.push(KeptFolder { directory, of, bytes, trouble: None });
        }
    }
    kept.sort_by_key(|folder| folder.of.as_ref().map(|purpose| purpose.since));
    Ok(kept)
}

/// Removes them, and says of each why it is still there, if it is.
pub fn remove_kept_folders(state: &Path) -> io::Result<Vec<KeptFolder>> {
    let mut kept = kept_folders(state)?;
    for folder in &mut kept {
        folder.trouble = remove(&folder.directory).err().map(|error| error.to_string());
    }
    Ok(kept)
}

/// Its mark last: what could not be removed is found again by that.
fn remove(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            _ if entry.file_name() == MARK => {}
            true => remove_tree(&entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_dir_all(folder)
}

/// Removes the sockets in a test's folder, whose other ends are gone.
pub(crate) fn remove_sockets(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
        match entry? {
            kind if kind.is_socket() => fs::remove_file(path)?,
            // One that the test has closed is left as it is.
            kind if kind.is_dir() => drop(remove_sockets(&path)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_was_kept_is_listed_and_removed_and_nothing_else() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(kept_folders(state.path()).unwrap(), []);
        let runs = state.path().join("runs");
        for name in ["run-second", "run-first", "run-other"] {
            fs::create_dir_all(runs.join(name).join("source")).unwrap();
            fs::write(runs.join(name).join("source/data"), "x".repeat(5000)).unwrap();
        }
        fs::write(runs.join("README"), "").unwrap();
        let purpose = |since| Purpose { since: Duration::from_secs(since), ..Purpose::now("me", "s.toml") };
        let text = |since| serde_json::to_vec(&purpose(since)).unwrap();
        fs::write(runs.join("run-first").join(MARK), text(1)).unwrap();
        fs::write(runs.join("run-second").join(MARK), text(2)).unwrap();
        let kept = kept_folders(state.path()).unwrap();
        let directories: Vec<_> = kept.iter().map(|folder| folder.directory.clone()).collect();
        assert_eq!(directories, [runs.join("run-first"), runs.join("run-second")]);
        assert_eq!(kept[0].of, Some(purpose(1)));
        assert!(kept[0].bytes >= 5000, "{kept:?}");
        assert_eq!(remove_kept_folders(state.path()).unwrap(), kept);
        assert_eq!(kept_folders(state.path()).unwrap(), []);
        assert!(runs.join("run-other/source/data").exists());
        // A mark that cannot be read is one all the same.
        fs::write(runs.join("run-other").join(MARK), "{").unwrap();
        assert_eq!(kept_folders(state.path()).unwrap()[0].of, None);
    }

    #[test]
    fn sockets_are_removed_and_links_are_not_followed() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(folder.path().join("deep")).unwrap();
        let listen = |path: PathBuf| drop(UnixListener::bind(path).unwrap());
        listen(folder.path().join("virtiofsd.sock"));
        listen(folder.path().join("deep/s"));
        listen(other.path().join("s"));
        fs::write(folder.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink(other.path(), folder.path().join("link")).unwrap();
        remove_sockets(folder.path()).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["deep", "file", "link"]);
        assert_eq!(fs::read_dir(folder.path().join("deep")).unwrap().count(), 0);
        assert!(other.path().join("s").exists());
    }
}
