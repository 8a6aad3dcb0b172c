//! Folders of runs that stay on a host, as people read of them.

use std::time::{SystemTime, UNIX_EPOCH};

use console::style;
use toril_runner::{KeptFolder, RunFolder};

use super::failures::is_fine;
use super::{HostOutcome, plan};

/// What became of a run's folder that was to be kept.
pub(super) fn line(host: Option<&str>, folder: &RunFolder) -> String {
    match &folder.trouble {
        Some(trouble) => format!("{} {trouble}", style("warning:").yellow().bold()),
        None => {
            let host = host.unwrap_or("HOST");
            format!("kept on the host in {}; `toril clean {host}` removes it", folder.directory)
        }
    }
}

/// How to keep what the commands name by which failures are reproduced, where it is gone.
pub(super) fn hint(outcome: &HostOutcome) -> Option<String> {
    let tests = outcome.tests.as_ref()?;
    let folder = tests.folder.as_ref().filter(|folder| !folder.kept)?;
    let failed = tests.results.iter().filter(|result| !is_fine(result.outcome));
    let mut commands = failed.filter_map(|result| result.reproduce.as_ref());
    commands.any(|command| command.contains(&folder.directory)).then(|| {
        let host = &outcome.host;
        format!(
            "{host}: what these commands name in {} went with the run; --keep leaves it there",
            folder.directory
        )
    })
}

/// What `clean` has found on a host, and what became of it.
pub(super) fn lines(folders: &[KeptFolder], removed: bool) -> Vec<String> {
    if folders.is_empty() {
        return vec!["nothing was kept".into()];
    }
    let line = |folder: &KeptFolder| {
        let words = words(folder);
        match &folder.trouble {
            Some(trouble) => format!("{} {words}: {trouble}", style("not removed").red().bold()),
            None if removed => format!("{} {words}", style("removed").green()),
            None => format!("kept {words}"),
        }
    };
    folders.iter().map(line).collect()
}

/// Where one is, of whom and since when, and how large.
pub(super) fn words(folder: &KeptFolder) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let of = || {
        let Some(purpose) = &folder.of else { return "nobody knows what for".to_owned() };
        let hours = now.saturating_sub(purpose.since).as_secs() / 3600;
        let age = match hours {
            0 => "less than an hour ago".to_owned(),
            1..48 => format!("{} ago", plan::count(usize::try_from(hours).unwrap_or(usize::MAX), "hour")),
            _ => format!("{} days ago", hours / 24),
        };
        format!("{} of {}, {age}", purpose.suite, purpose.who)
    };
    format!("{} ({}, {})", folder.directory.display(), of(), plan::bytes(folder.bytes))
}
