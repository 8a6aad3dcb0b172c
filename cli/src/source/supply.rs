use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toril_archive::{PackError, Parcel, everything, pack};
use toril_runner::{Source, SourceInfo};

use super::git::{Git, GitError};
use crate::agent::SourceOrder;

/// A tree that is ready to be sent, or that a host fetches.
#[derive(Debug)]
pub(crate) struct Supply {
    /// What hosts are told.
    pub(crate) order: SourceOrder,
    /// What is sent to them, if something is.
    pub(crate) parcel: Option<Parcel>,
    /// What the user should know of it.
    pub(crate) notes: Vec<String>,
}

/// A tree could not be made ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("{0}")]
    Git(#[from] GitError),
    #[error("{0}")]
    Pack(#[from] PackError),
    #[error("the extra `{0}` is like no file of the working tree")]
    NoExtra(String),
    #[error("{} is a repository of its own inside of the tree, and git does not say what belongs to it: make it a submodule, or leave it out of the extras", .0.display())]
    Nested(PathBuf),
    #[error("the submodule {} is not there: `git submodule update --init` fetches it", .0.display())]
    Submodule(PathBuf),
    #[error("cannot look at {}: {source}", path.display())]
    Look { path: PathBuf, source: io::Error },
    #[error("there is nothing in {} that git knows, so there is nothing to send", .0.display())]
    Empty(PathBuf),
}

impl Supply {
    /// Makes ready what a suite in this directory tests. Nothing of the repository is changed. `each` is told how many bytes
    /// were read.
    pub(crate) fn make(
        source: &Source,
        suite_directory: &Path,
        each: &mut dyn FnMut(u64),
    ) -> Result<Supply, SourceError> {
        match source {
            Source::Fetch { url, reference } => {
                let order = SourceOrder::Fetch { url: url.clone(), reference: reference.clone() };
                Ok(Supply { order, parcel: None, notes: Vec::new() })
            }
            Source::Tree { directory, extras } => {
                let root = Git::at(suite_directory).root()?;
                working_tree(&root.join(directory), extras, each)
            }
            Source::Ref(reference) => commit(&Git::at(suite_directory).root()?, reference, each),
        }
    }
}

fn working_tree(
    directory: &Path,
    extras: &[String],
    each: &mut dyn FnMut(u64),
) -> Result<Supply, SourceError> {
    let git = Git::at(directory);
    // A repository without a commit has a working tree, too.
    let commit = git.commit("HEAD").ok();
    let mut paths = BTreeSet::new();
    let mut notes = Vec::new();
    let absent = collect(directory, Path::new(""), &mut paths)?;
    if absent > 0 {
        let files = if absent == 1 {
            "1 file that git knows is".into()
        } else {
            format!("{absent} files that git knows are")
        };
        notes.push(format!("{files} not in the working tree, and not sent"));
    }
    let known = paths.len();
    for extra in extras {
        let found = git.like(extra)?;
        if found.is_empty() {
            return Err(SourceError::NoExtra(extra.clone()));
        }
        for path in found {
            // That is how git names a repository that it does not look into.
            if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
                return Err(SourceError::Nested(directory.join(path)));
            }
            if exists(&directory.join(&path))? {
                paths.insert(path);
            }
        }
    }
    if paths.is_empty() {
        return Err(SourceError::Empty(directory.to_owned()));
    }
    let additional = (paths.len() - known) as u64;
    let changed = match &commit {
        Some(commit) => git.changed_since(commit)? + additional,
        None => paths.len() as u64,
    };
    let parcel = pack(directory, paths.iter().map(PathBuf::as_path), each)?;
    let info = SourceInfo { origin: "the working tree".into(), commit, changed };
    Ok(Supply { order: SourceOrder::Sent(info), parcel: Some(parcel), notes })
}

/// Collects what git knows below a directory and is there, submodules included; returns how many files are not there.
fn collect(top: &Path, below: &Path, paths: &mut BTreeSet<PathBuf>) -> Result<usize, SourceError> {
    let directory = top.join(below);
    let mut absent = 0;
    for tracked in Git::at(&directory).tracked()? {
        let path = below.join(&tracked.path);
        let full = top.join(&path);
        if tracked.submodule {
            if !exists(&full.join(".git"))? {
                return Err(SourceError::Submodule(full));
            }
            absent += collect(top, &path, paths)?;
        } else if exists(&full)? {
            paths.insert(path);
        } else {
            absent += 1;
        }
    }
    Ok(absent)
}

fn exists(path: &Path) -> Result<bool, SourceError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(source) => Err(SourceError::Look { path: path.to_owned(), source }),
    }
}

/// A commit, checked out into a directory for temporary files by an index of its own: what attributes and filters (such as
/// those of git-lfs) make of its files is sent, as in every checkout.
fn commit(root: &Path, reference: &str, each: &mut dyn FnMut(u64)) -> Result<Supply, SourceError> {
    let look = |path: &Path| {
        let path = path.to_owned();
        move |source| SourceError::Look { path, source }
    };
    let scratch = tempfile::Builder::new().prefix("toril-source-").tempdir();
    let scratch = scratch.map_err(look(&std::env::temp_dir()))?;
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).map_err(look(&tree))?;
    let git = Git::at(root);
    let commit = git.commit(reference)?;
    let git = git.with_index(&scratch.path().join("index"));
    git.run(&["read-tree", &commit].map(OsStr::new))?;
    let submodules = git.tracked()?.into_iter().filter(|tracked| tracked.submodule).count();
    let mut prefix = OsStr::new("--prefix=").to_owned();
    prefix.push(tree.join(""));
    git.run(&[OsStr::new("checkout-index"), OsStr::new("--all"), OsStr::new("--quiet"), &prefix])?;
    let paths = everything(&tree).map_err(look(&tree))?;
    let parcel = pack(&tree, paths.iter().map(PathBuf::as_path), each)?;
    let mut notes = Vec::new();
    if submodules > 0 {
        let plural = if submodules == 1 { " of" } else { "s of" };
        notes.push(format!(
            "{submodules} submodule{plural} {reference} left out: only the working tree is sent with its submodules"
        ));
    }
    let info = SourceInfo { origin: format!("ref {reference}"), commit: Some(commit), changed: 0 };
    Ok(Supply { order: SourceOrder::Sent(info), parcel: Some(parcel), notes })
}

#[cfg(test)]
mod tests;
