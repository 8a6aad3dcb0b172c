use std::path::{Path, PathBuf};

use crate::Probe;

/// A machine as seen through its root directory: the one this program runs on, or a fake one that tests lay out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The machine this program runs on.
    pub fn this() -> Machine {
        Machine { root: PathBuf::from("/") }
    }

    /// A machine whose files lie under `root`. Programs are never run for it.
    pub fn at(root: impl Into<PathBuf>) -> Machine {
        Machine { root: root.into() }
    }

    /// Whether this is the running machine, so that processes and system calls tell about it too.
    pub fn is_this(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where an absolute path of the machine is found.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text; bytes that are not UTF-8 are replaced.
    pub fn read(&self, path: &str) -> Probe<String> {
        Probe::of_io(std::fs::read(self.path(path)), path).map(|bytes| match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    /// Whether something stands at a path (a broken link does).
    pub fn exists(&self, path: &str) -> Probe<()> {
        Probe::of_io(std::fs::symlink_metadata(self.path(path)).map(|_| ()), path)
    }

    /// Where a program is, on the standard path of the machine.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            let path = self.path(name);
            return path.is_file().then_some(path);
        }
        let directories = crate::STANDARD_PATH.split(':').map(|directory| self.path(directory));
        let path = std::env::join_paths(directories).ok()?;
        which::which_in(name, Some(path), "/").ok()
    }
}
