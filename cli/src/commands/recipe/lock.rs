//! `recipe lock`: what comes from outside, and what a host has, is written down beside the recipe.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use toril_machine::{Command, sha256_of, write_atomically};
use toril_provisioner::{Bundle, Lock, LockFile, LockedHost, OpenSource, Recipe, RecipeFile};

use crate::arguments::{RecipeLock, Way};
use crate::client::Trouble;
use crate::commands::choices::{Chooser, lock_path, sample};
use crate::commands::hosts::block_on;
use crate::commands::{UsageError, problem, reach};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::View;

/// How long fetching a file may take.
const DEADLINE: Duration = Duration::from_secs(1800);

/// `toril recipe lock`.
pub(super) fn lock(arguments: &RecipeLock) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let (name, mut bundle) = chooser.to_lock(arguments.recipe.as_ref(), &arguments.vars)?;
    let path = lock_path(&name);
    let mut lock = match &bundle.lock {
        Some(found) => Lock::read(&found.file)?,
        None => Lock::of(bundle.lock_name()),
    };
    if lock.recipe != bundle.lock_name() {
        let text =
            format!("{} is the lock of `{}`: move it away, or lock that recipe", path.display(), lock.recipe);
        return Err(UsageError::Other(text));
    }
    let view = View::new(&arguments.way.output);
    let sources = Recipe::open_sources(&bundle, &sample())?;
    lock.hashes.retain(|name, _| sources.iter().any(|source| source.resource == *name));
    let mut told = Vec::new();
    for source in sources {
        if lock.hashes.contains_key(&source.resource) {
            continue;
        }
        match pin(&source) {
            Ok(hash) => {
                told.push(format!("{}: {hash}, of {} as it is now", source.resource, source.url));
                lock.hashes.insert(source.resource, hash);
            }
            Err(error) => {
                problem(&view, None, &format!("pinning `{}`", source.resource), &error.into());
                return Ok(Status::Operation);
            }
        }
    }
    let file = RecipeFile { origin: path.display().to_string(), text: lock.to_string() };
    bundle.lock = Some(LockFile { file, only_hashes: true });
    Recipe::check(&bundle, &sample())?;
    if let Some(host) = &arguments.host {
        match look(&chooser, host, &arguments.way, bundle, &view)? {
            Ok((release, found)) => {
                told.push(words(host, &release, &found));
                lock.hosts.insert(release, found);
            }
            Err(error) => {
                problem(&view, Some(host), "looking at what it has", &error);
                return Ok(Status::Operation);
            }
        }
    }
    let what = write(&path, &lock.to_string()).map_err(UsageError::Other)?;
    told.push(format!("{} {what}", path.display()));
    // A reader that went away wants no more.
    drop(writeln!(io::stdout(), "{}", told.join("\n")));
    Ok(Status::Fine)
}

/// The version of a host's release, and what it has of the recipe.
fn look(
    chooser: &Chooser,
    host: &str,
    arguments: &Way,
    bundle: Bundle,
    view: &View,
) -> Result<Result<(String, LockedHost), Trouble>, UsageError> {
    let chosen = chooser.target(host, arguments)?;
    let way = reach::way_to(&chosen, &reach::way(arguments)?)?;
    block_on(view, async |interrupts: Interrupts| {
        let host = reach::host(&chosen, false, view)?;
        let mut client = reach::connect_unless_interrupted(&host, &way, view, &interrupts).await?;
        let found = client.lock(bundle, reach::info(&host)).await?;
        client.close().await?;
        Ok(found)
    })
}

fn words(host: &str, release: &str, found: &LockedHost) -> String {
    let programs: Vec<&str> = found.programs.values().map(|program| program.path.as_str()).collect();
    let programs = if programs.is_empty() { String::new() } else { format!(", {}", programs.join(", ")) };
    let count = found.packages.len();
    let packages = if count == 1 { "1 package".to_owned() } else { format!("{count} packages") };
    format!("{host}: debian {release}, {packages}, kernel {}{programs}", found.kernel)
}

/// Says in a word what became of the file.
fn write(path: &Path, text: &str) -> Result<&'static str, String> {
    let before = match fs::read_to_string(path) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    if before.as_deref() == Some(text) {
        return Ok("is as it was");
    }
    write_atomically(path, text.as_bytes(), None).map_err(|error| error.to_string())?;
    Ok(if before.is_some() { "has changed" } else { "is written" })
}

/// What something from outside is now: from then on, it has to stay that.
fn pin(source: &OpenSource) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot fetch {}: {error}", source.url);
    if source.kind == "git-checkout" {
        let command = Command::new("git", ["ls-remote", "--", &source.url, "HEAD"]);
        let printed = command.env("GIT_TERMINAL_PROMPT", "0").output().map_err(|error| failed(&error))?;
        let commit = printed.split_whitespace().next().filter(|word| word.len() == 40);
        return commit.map(str::to_owned).ok_or_else(|| failed(&"it has no commit"));
    }
    let directory = tempfile::tempdir().map_err(|error| failed(&error))?;
    let file = directory.path().join("file");
    let seconds = DEADLINE.as_secs().to_string();
    let shown = file.display().to_string();
    let args = [
        "--fail",
        "--silent",
        "--show-error",
        "--location",
        "--max-time",
        &seconds,
        "--output",
        &shown,
        "--",
    ];
    let command = Command::new("curl", args.into_iter().chain([source.url.as_str()])).deadline(DEADLINE);
    command.output().map_err(|error| failed(&error))?;
    sha256_of(&file).map_err(|error| failed(&error))
}
