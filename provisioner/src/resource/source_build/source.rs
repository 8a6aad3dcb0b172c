//! What is built from: what it is called, and the copy of it that a build works in.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use toril_archive::{Owner, everything};
use toril_machine::{Machine, Probe};

use super::copy;
use super::package;
use crate::apt::Database;
use crate::resource::download::parse_hex;
use crate::resource::git::Git;
use crate::resource::manifest::Manifest;
use crate::resource::{Context, ResourceError};

/// How long git may take to write out a commit.
const DEADLINE: Duration = Duration::from_secs(1800);

#[derive(Debug)]
pub(super) enum Source {
    /// A directory that an `unpack` or a `git-checkout` keeps.
    Directory(String),
    /// The source of this installed package, in its version.
    Package(String),
}

/// What is there to build from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Such as `commit 0123…`.
    Source(String),
    /// Nothing yet, or nothing that can be told; why.
    Nothing(String),
}

impl Source {
    /// What is there to build from now.
    pub(super) fn look(&self, context: Context<'_>) -> Result<Found, ResourceError> {
        match self {
            Source::Directory(path) => {
                let place = context.machine.path(path);
                let failed = |error| ResourceError(format!("cannot read {path}: {error}"));
                if let Some(manifest) = Manifest::read(&place).map_err(failed)? {
                    return Ok(Found::Source(format!("sha256 {}", manifest.sha256)));
                }
                match context.machine.exists(&format!("{path}/.git")).known().map_err(ResourceError)? {
                    None => Ok(Found::Nothing(format!("there is no source in {path} yet"))),
                    Some(()) if context.machine.find_program("git").is_none() => Ok(Found::Nothing(format!(
                        "there is no git here to look at the source in {path} with"
                    ))),
                    Some(()) => head(context, path).map(|commit| Found::Source(format!("commit {commit}"))),
                }
            }
            Source::Package(name) => {
                let database = Database::read(context.machine)?;
                let installed = database.get(name).filter(|package| package.is_installed());
                Ok(match installed {
                    None => Found::Nothing(format!("{name} is not installed yet, whose source it is")),
                    Some(package) => {
                        let (name, version) = package.source(name);
                        Found::Source(format!("{name} {version}"))
                    }
                })
            }
        }
    }

    /// Puts exactly what `source` names, and nothing that merely lies there, into a new directory of the builder's. What it
    /// takes for that is below the scratch directory. Of a package, only the description's name is returned, which the
    /// builder unpacks.
    pub(super) fn provide(
        &self,
        context: Context<'_>,
        source: &str,
        scratch: &Path,
        (tree, owner): (&Path, Owner),
        log: &mut dyn FnMut(&str),
    ) -> Result<Option<String>, ResourceError> {
        let failed = |error: io::Error| ResourceError(format!("cannot write {}: {error}", scratch.display()));
        let fetched = scratch.join("fetched");
        DirBuilder::new().mode(0o755).create(&fetched).map_err(failed)?;
        let path = match self {
            Source::Directory(path) => path,
            Source::Package(_) => {
                let (name, version) = source.split_once(' ').unwrap_or((source, ""));
                return package::fetch(context, (name, version), &fetched, log).map(Some);
            }
        };
        DirBuilder::new().mode(0o755).create(tree).map_err(failed)?;
        chown(tree, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
        match source.strip_prefix("commit ") {
            Some(commit) => {
                let from = check_out(context, path, commit, &fetched)?;
                let paths = everything(&from).map_err(failed)?;
                copy(&from, tree, scratch, owner, &paths)?;
                fs::remove_dir_all(&fetched).map_err(failed)?;
            }
            None => {
                let from = context.machine.path(path);
                copy(&from, tree, scratch, owner, &unpacked(&from, path)?)?;
            }
        }
        Ok(None)
    }
}

/// The files that were unpacked to a directory, if they are as they were.
fn unpacked(from: &Path, path: &str) -> Result<Vec<PathBuf>, ResourceError> {
    let failed = |error: io::Error| ResourceError(format!("cannot read {path}: {error}"));
    let manifest = Manifest::read(from).map_err(failed)?;
    let manifest =
        manifest.ok_or_else(|| ResourceError(format!("{path} is not what was unpacked any more")))?;
    match manifest.differences(from).map_err(failed)?.describe() {
        None => Ok(manifest.paths().collect()),
        Some(differences) => Err(ResourceError(format!(
            "{path} is not as it was unpacked ({differences}): have it unpacked again by the `unpack` that made it"
        ))),
    }
}

/// Whose a checkout is, which is as whom git is run; nobody where that is who runs this.
fn owner(machine: &Machine, path: &str) -> Result<Option<String>, ResourceError> {
    let metadata = Probe::of_io(fs::metadata(machine.path(path)), path).known().map_err(ResourceError)?;
    let uid = metadata.map(|metadata| metadata.uid()).filter(|uid| *uid != geteuid().as_raw());
    Ok(uid.map(|uid| machine.user_name(uid)))
}

/// The commit that a checkout is at, by whatever branch.
fn head(context: Context<'_>, path: &str) -> Result<String, ResourceError> {
    let (owner, directory) = (owner(context.machine, path)?, context.machine.path(path));
    let git = Git { run_as: owner.as_deref(), directory: &directory, env: &[], deadline: DEADLINE };
    let name = git
        .run(context, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
        .map_err(|error| ResourceError(format!("git cannot tell which commit {path} is at: {error}")))?;
    parse_hex(name.trim(), 40).map_err(|_| {
        ResourceError(format!(
            "{path} is at `{}`, which is not a commit's 40 hexadecimal digits",
            name.trim()
        ))
    })
}

/// Has git write out all files of a commit, as its owner, and returns where.
fn check_out(context: Context<'_>, path: &str, commit: &str, below: &Path) -> Result<PathBuf, ResourceError> {
    let failed = |error: io::Error| ResourceError(format!("cannot write {}: {error}", below.display()));
    let (owner, directory) = (owner(context.machine, path)?, context.machine.path(path));
    let place = below.join("git");
    DirBuilder::new().mode(0o700).create(&place).map_err(failed)?;
    if let Some(name) = &owner {
        let user = context.machine.user(name).known().map_err(ResourceError)?;
        let user =
            user.ok_or_else(|| ResourceError(format!("there is no user `{name}`, whose {path} is")))?;
        chown(&place, Some(user.uid), Some(user.gid)).map_err(failed)?;
    }
    // An index of its own: neither that of the checkout nor its files take part.
    let (index, tree) = (place.join("index"), place.join("tree"));
    let env = [("GIT_INDEX_FILE", index.as_path())];
    let git = Git { run_as: owner.as_deref(), directory: &directory, env: &env, deadline: DEADLINE };
    git.run(context, &["read-tree", commit])?;
    git.run(context, &["checkout-index", "--all", "--quiet", &format!("--prefix={}/", tree.display())])?;
    match tree.is_dir() {
        true => Ok(tree),
        false => Err(ResourceError(format!("the commit {commit} of {path} has no files"))),
    }
}
