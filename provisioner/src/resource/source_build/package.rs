//! The source of a Debian package, as apt fetches and verifies it, from lists that only this has.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use rustix::process::geteuid;
use toril_machine::{Command, Probe};

use crate::apt::{self, lists::source_lists};
use crate::resource::{Context, ResourceError};

/// How long apt may take for lists, and for the source.
const DEADLINE: Duration = Duration::from_secs(1800);

/// Fetches a source package in this version into a directory that is there and empty. The host's own lists are as they were
/// afterwards. Returns the name of its description (`*.dsc`).
pub(super) fn fetch(
    context: Context<'_>,
    (name, version): (&str, &str),
    directory: &Path,
    log: &mut dyn FnMut(&str),
) -> Result<String, ResourceError> {
    let failed =
        |error: std::io::Error| ResourceError(format!("cannot write {}: {error}", directory.display()));
    let apt = directory.join("apt");
    for part in ["sources", "lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(part)).map_err(failed)?;
    }
    for (name, text) in source_lists(context.machine)? {
        fs::write(apt.join("sources").join(name), text).map_err(failed)?;
    }
    if let Probe::Known(user) = context.machine.user("_apt") {
        // Without it apt fetches as root, and says so.
        for part in [directory.to_owned(), apt.join("lists/partial"), apt.join("cache/archives/partial")] {
            chown(part, Some(user.uid), None).map_err(failed)?;
        }
    }
    let set = |key: &str, value: &str| format!("-o{key}={}/{value}", apt.display());
    let options = [
        set("Dir::Etc::SourceParts", "sources"),
        set("Dir::Etc::SourceList", "none"),
        set("Dir::State::Lists", "lists"),
        set("Dir::Cache", "cache"),
        "-oAcquire::Languages=none".into(),
        "-oAPT::Get::List-Cleanup=false".into(),
        "-qq".into(),
    ];
    let apt_get = |words: &[&str]| {
        let words = options.iter().map(String::as_str).chain(words.iter().copied());
        Command::new("apt-get", words)
            .dir(directory)
            .deadline(DEADLINE)
            .ends_with_us()
            .output_unless(&|| context.is_stopped())
            .map_err(ResourceError::new)
    };
    log("fetching the lists of source packages");
    apt::update_others(context.stop, log, |args| apt_get(args).map(drop))?;
    log(&format!("fetching the source of {name} {version}"));
    apt_get(&["source", "--download-only", "-oAcquire::Retries=3", &format!("{name}={version}")]).map_err(|error| {
        let why = error.to_string();
        match why.contains("find version") || why.contains("Unable to find a source package") {
            true => ResourceError(format!(
                "the mirrors have no source of {name} {version}, of which the host's package is: upgrade the package ({why})"
            )),
            false => error,
        }
    })?;
    fs::remove_dir_all(apt).map_err(failed)?;
    // From here on it stays as it was verified.
    chown(directory, Some(geteuid().as_raw()), None).map_err(failed)?;
    let files = fs::read_dir(directory).map_err(failed)?;
    let mut names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    // It becomes a word of a script.
    let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "._+~-:%".contains(c));
    names.find(|name| name.ends_with(".dsc") && is_plain(name)).ok_or_else(|| {
        ResourceError(format!("apt fetched no description of the source package {name} {version}"))
    })
}
