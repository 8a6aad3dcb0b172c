//! What is kept of a run: what its builds and tests printed, how they were started, and how they ended.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};

use crate::capture::Capture;

/// What is kept of one run, in bytes.
const MOST: u64 = 64 << 20;

/// Nothing is kept where the disk has not so many bytes left.
const SPARED: u64 = 256 << 20;

/// The longest name of a test or build in a path.
const LONGEST: usize = 80;

/// Where artifacts went, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The directory on that machine.
    pub directory: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// How many files there was no room for.
    pub left_out: u64,
    /// The first reason why something could not be kept, if there was one.
    pub trouble: Option<String>,
}

/// One file.
#[derive(Debug)]
pub(crate) struct Artifact {
    pub name: String,
    pub content: Vec<u8>,
}

impl Artifact {
    pub(crate) fn new(name: impl Into<String>, content: impl Into<Vec<u8>>) -> Artifact {
        Artifact { name: name.into(), content: content.into() }
    }

    /// What was printed on a stream: its beginning and its end where it was long.
    pub(crate) fn of_stream(name: &str, printed: Capture) -> Artifact {
        Artifact::new(format!("{}.txt", plain(name)), printed.into_bytes())
    }

    /// Something as JSON.
    pub(crate) fn of_json(name: &str, value: &impl Serialize) -> Artifact {
        let mut content = serde_json::to_vec_pretty(value).unwrap_or_default();
        content.push(b'\n');
        Artifact::new(name, content)
    }
}

/// The artifacts of a run, below a directory; nothing is kept without one.
#[derive(Debug)]
pub(crate) struct Artifacts {
    directory: Option<PathBuf>,
    /// The folders of tests and builds, by what they are of.
    folders: HashMap<Subject, String>,
    state: Mutex<State>,
}

/// What artifacts are of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Test(String),
    Build(String),
}

#[derive(Debug, Default)]
struct State {
    bytes: u64,
    left_out: u64,
    trouble: Option<String>,
}

impl Artifacts {
    /// For these builds and tests, which are numbered in their order.
    pub(crate) fn new<'n>(
        directory: Option<PathBuf>,
        builds: impl Iterator<Item = &'n str>,
        tests: impl Iterator<Item = &'n str>,
    ) -> Artifacts {
        let folder = |kind, number, name| format!("{kind}/{number:03}-{}", plain(name));
        let builds = builds
            .zip(1..)
            .map(|(name, number)| (Subject::Build(name.to_owned()), folder("builds", number, name)));
        let tests = tests
            .zip(1..)
            .map(|(name, number)| (Subject::Test(name.to_owned()), folder("tests", number, name)));
        Artifacts { directory, folders: builds.chain(tests).collect(), state: Mutex::default() }
    }

    /// Keeps files of a test or build; those of an attempt that another followed in a folder of their own. What cannot be
    /// kept changes no verdict.
    pub(crate) fn keep(&self, subject: &Subject, attempt: Option<u32>, files: Vec<Artifact>) {
        let Some((directory, folder)) = self.directory.as_ref().zip(self.folders.get(subject)) else {
            return;
        };
        let mut folder = directory.join(folder);
        if let Some(number) = attempt {
            folder.push(format!("attempt-{number}"));
        }
        let mut state = self.state();
        if let Err(error) = has_room(directory).and_then(|()| make(&folder)) {
            state.left_out += files.len() as u64;
            state.trouble.get_or_insert(format!("cannot keep artifacts in {}: {error}", folder.display()));
            return;
        }
        for Artifact { name, content } in files {
            let size = content.len() as u64;
            if state.bytes + size > MOST {
                state.left_out += 1;
                continue;
            }
            let path = folder.join(name);
            match fs::write(&path, content) {
                Ok(()) => state.bytes += size,
                Err(error) => {
                    state.left_out += 1;
                    state.trouble.get_or_insert(format!("cannot write {}: {error}", path.display()));
                }
            }
        }
    }

    /// What was kept so far; nothing where nothing is to be.
    pub(crate) fn kept(&self) -> Option<Kept> {
        let directory = self.directory.as_ref()?.to_string_lossy().into_owned();
        let state = self.state();
        let (bytes, left_out, trouble) = (state.bytes, state.left_out, state.trouble.clone());
        Some(Kept { directory, bytes, left_out, trouble })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For root only: what is printed may be anything.
fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Fails where the disk is nearly full.
fn has_room(directory: &Path) -> io::Result<()> {
    make(directory)?;
    let disk = statvfs(directory)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < SPARED {
        return Err(io::Error::other(format!("the disk has only {} MiB left", free >> 20)));
    }
    Ok(())
}

/// A name that is one part of a path, of plain characters.
pub(crate) fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let text: String = name.chars().take(LONGEST).map(plain).collect();
    // Neither hidden nor the directory above.
    match text.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if text.is_empty() => "_".into(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn artifacts(directory: &Path) -> Artifacts {
        Artifacts::new(Some(directory.to_owned()), ["lib"].into_iter(), ["a/../b", "a"].into_iter())
    }

    #[test]
    fn each_has_its_folder_and_each_attempt_one_below() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = artifacts(dir.path());
        let file = |text: &str| vec![Artifact::new("x.txt", text)];
        artifacts.keep(&Subject::Test("a/../b".into()), None, file("last"));
        artifacts.keep(&Subject::Test("a/../b".into()), Some(1), file("first"));
        artifacts.keep(&Subject::Build("lib".into()), None, file("built"));
        artifacts.keep(&Subject::Test("nobody's".into()), None, file("lost"));
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
        assert_eq!(read("tests/001-a_.._b/x.txt"), "last");
        assert_eq!(read("tests/001-a_.._b/attempt-1/x.txt"), "first");
        assert_eq!(read("builds/001-lib/x.txt"), "built");
        let kept = artifacts.kept().unwrap();
        assert_eq!((kept.bytes, kept.left_out, kept.trouble), (14, 0, None));
    }

    #[test]
    fn what_is_kept_of_a_run_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = artifacts(dir.path());
        let large = || vec![Artifact::new("x.txt", vec![b'x'; 40 << 20])];
        artifacts.keep(&Subject::Test("a".into()), None, large());
        artifacts.keep(&Subject::Build("lib".into()), None, large());
        let kept = artifacts.kept().unwrap();
        assert_eq!((kept.bytes, kept.left_out), (40 << 20, 1));
    }

    #[test]
    fn where_nothing_can_be_written_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tests"), "").unwrap();
        let artifacts = artifacts(dir.path());
        artifacts.keep(&Subject::Test("a".into()), None, vec![Artifact::new("x.txt", "x")]);
        let kept = artifacts.kept().unwrap();
        assert!(kept.left_out == 1 && kept.trouble.unwrap().contains("cannot keep artifacts in "));
    }

    proptest! {
        #[test]
        fn a_plain_name_is_one_part_of_a_path(name in ".*") {
            let plain = plain(&name);
            prop_assert!(!plain.is_empty() && !plain.starts_with('.') && plain.len() <= LONGEST);
            prop_assert_eq!(Path::new(&plain).components().count(), 1);
        }
    }
}
