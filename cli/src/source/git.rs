use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set by git for its hooks: they would have it look at another repository than the one that is asked about.
pub(super) const HOOKS: [&str; 6] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"];

/// A git that is asked about the repository that a directory is in.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    directory: PathBuf,
    /// Instead of the repository's own.
    index: Option<PathBuf>,
}

/// git could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("cannot run `git`, which knows what belongs to the tree: {0}")]
    Start(io::Error),
    #[error("`git {words}` in {}: {said}", directory.display())]
    Failed { directory: PathBuf, words: String, said: String },
}

/// A file of a repository, relative to the directory that was asked about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tracked {
    pub(crate) path: PathBuf,
    /// Whether it is a repository of its own.
    pub(crate) submodule: bool,
}

impl Git {
    pub(crate) fn at(directory: &Path) -> Git {
        Git { directory: directory.to_owned(), index: None }
    }

    /// The same, with an index of its own.
    pub(crate) fn with_index(&self, index: &Path) -> Git {
        Git { index: Some(index.to_owned()), ..self.clone() }
    }

    /// What git prints.
    pub(crate) fn run(&self, arguments: &[&OsStr]) -> Result<Vec<u8>, GitError> {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.directory).args(arguments);
        command.env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0").stdin(Stdio::null());
        for name in HOOKS {
            command.env_remove(name);
        }
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        let output = command.output().map_err(GitError::Start)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let said = if said.is_empty() { format!("it ended with {}", output.status) } else { said };
        Err(GitError::Failed { directory: self.directory.clone(), words: words.join(" "), said })
    }

    /// The same as text, in a line.
    fn line(&self, arguments: &[&str]) -> Result<String, GitError> {
        let printed = self.run(&arguments.iter().map(OsStr::new).collect::<Vec<_>>())?;
        Ok(String::from_utf8_lossy(&printed).trim_end_matches('\n').to_owned())
    }

    /// The root of the repository.
    pub(crate) fn root(&self) -> Result<PathBuf, GitError> {
        let printed = self.run(&["rev-parse", "--show-toplevel"].map(OsStr::new))?;
        let path = printed.strip_suffix(b"\n").unwrap_or(&printed);
        Ok(PathBuf::from(OsStr::from_bytes(path)))
    }

    /// The commit that a reference names.
    pub(crate) fn commit(&self, reference: &str) -> Result<String, GitError> {
        self.line(&[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &format!("{reference}^{{commit}}"),
        ])
        .map_err(|error| match error {
            GitError::Failed { directory, words, .. } => {
                let said = format!("there is no commit `{reference}`");
                GitError::Failed { directory, words, said }
            }
            other => other,
        })
    }

    /// How many files below the directory are not as in a commit.
    pub(crate) fn changed_since(&self, commit: &str) -> Result<u64, GitError> {
        let printed =
            self.run(&["diff", "--name-only", "-z", "--no-ext-diff", commit, "--", "."].map(OsStr::new))?;
        Ok(records(&printed).count() as u64)
    }

    /// The files below the directory that are in the index.
    pub(crate) fn tracked(&self) -> Result<Vec<Tracked>, GitError> {
        let printed = self.run(&["ls-files", "-z", "--cached", "--stage", "--", "."].map(OsStr::new))?;
        let mut tracked: Vec<Tracked> = records(&printed).filter_map(tracked).collect();
        // One in the middle of a merge is there several times.
        tracked.sort();
        tracked.dedup();
        Ok(tracked)
    }

    /// The files below the directory that are like a pattern, whether git knows them or not.
    pub(crate) fn like(&self, pattern: &str) -> Result<Vec<PathBuf>, GitError> {
        let pattern = format!(":(glob){pattern}");
        let words = ["ls-files", "-z", "--cached", "--others", "--", &pattern];
        let printed = self.run(&words.map(OsStr::new))?;
        Ok(records(&printed).map(|path| PathBuf::from(OsStr::from_bytes(path))).collect())
    }
}

fn records(printed: &[u8]) -> impl Iterator<Item = &[u8]> {
    printed.split(|byte| *byte == 0).filter(|record| !record.is_empty())
}

/// A record of `ls-files --stage`: mode, object, stage, tab, path.
fn tracked(record: &[u8]) -> Option<Tracked> {
    let tab = record.iter().position(|byte| *byte == b'\t')?;
    let (head, path) = record.split_at(tab);
    let path = path.get(1..)?;
    Some(Tracked { path: PathBuf::from(OsStr::from_bytes(path)), submodule: head.starts_with(b"160000 ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_index() {
        let printed = b"100644 aa 0\ta b\x00160000 bb 0\tsub\x00100755 cc 2\tx\ty\0";
        let read: Vec<_> = records(printed).filter_map(tracked).collect();
        let of = |path: &str, submodule| Tracked { path: path.into(), submodule };
        assert_eq!(read, [of("a b", false), of("sub", true), of("x\ty", false)]);
        assert_eq!(tracked(b"rubbish"), None);
    }
}
