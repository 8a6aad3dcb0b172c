//! What lets apt use a frozen archive whose keys have expired: its InRelease files pinned by hash.
//!
//! Apt calls gpgv through a script that takes a good signature of an expired key for what it is, if the file that is
//! signed is one of those pinned. Nothing else changes: an altered file is refused by both, the signature and the hash.
//! (apt.conf(5) does not name the option; it is `Apt::Key::gpgvcommand` of apt-key(8), which apt calls up to Debian 12.)

use std::fs;

use toril_machine::Probe;

use super::attributes::Attributes;
use super::download::parse_hex;
use super::file::FileResource;
use super::{Change, Context, Judged, Resource, ResourceError};

/// What the changes of the files are called by.
const PINS: &str = "pins";
const PROGRAM: &str = "gpgv";
const CONFIGURATION: &str = "configuration";

const PROGRAM_PATH: &str = "/usr/local/lib/toril/gpgv-pinned";

/// The pins of one source, of which there may be none.
#[derive(Debug)]
pub(super) struct Pins {
    path: String,
    /// In the order in which they are written: what uses a file comes after it.
    files: Vec<(&'static str, FileResource)>,
}

/// What there is of them.
pub(super) struct PinsState {
    files: Vec<(&'static str, Judged)>,
    /// Whether there are pins that the recipe does not have.
    is_stale: bool,
}

/// Reads hashes between white space; none at all is fine, so that a variable may be empty.
pub(super) fn parse(text: &str) -> Result<Vec<String>, String> {
    text.split_whitespace().map(|word| parse_hex(word, 64)).collect()
}

impl Pins {
    pub(super) fn new(source: &str, hashes: &[String]) -> Pins {
        let path = format!("/etc/apt/toril-pins.d/{source}");
        let file = |path: &str, content: String, mode| FileResource {
            path: path.to_owned(),
            content,
            attributes: Attributes { owner: "root".into(), group: "root".into(), mode },
        };
        let text: String = hashes.iter().map(|hash| format!("{hash}\n")).collect();
        let text = format!("# Written by toril: SHA-256 of the InRelease files that may be used.\n{text}");
        let configuration = format!("// Written by toril.\nApt::Key::gpgvcommand \"{PROGRAM_PATH}\";\n");
        let files = vec![
            (PINS, file(&path, text, 0o644)),
            (PROGRAM, file(PROGRAM_PATH, include_str!("../apt/gpgv-pinned.sh").into(), 0o755)),
            (CONFIGURATION, file("/etc/apt/apt.conf.d/60toril-pins", configuration, 0o644)),
        ];
        Pins { path, files: if hashes.is_empty() { Vec::new() } else { files } }
    }

    pub(super) fn observe(&self, context: Context<'_>) -> Result<PinsState, ResourceError> {
        let judge =
            |(part, file): &(&'static str, FileResource)| Ok((*part, Resource::judge(file, context)?));
        let is_stale = match context.machine.exists(&self.path) {
            Probe::Known(()) => self.files.is_empty(),
            Probe::Absent => false,
            Probe::Unreadable(reason) => return Err(ResourceError(reason)),
        };
        Ok(PinsState { files: self.files.iter().map(judge).collect::<Result<_, ResourceError>>()?, is_stale })
    }

    pub(super) fn compare(&self, state: &PinsState) -> Vec<Change> {
        let files = state.files.iter().flat_map(|(part, judged)| Change::of_part(part, &judged.changes));
        let stale = state.is_stale.then(|| Change::new(PINS, self.path.as_str(), "no file"));
        files.chain(stale).collect()
    }

    pub(super) fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        for (part, file) in &self.files {
            let own = Change::for_part(part, changes);
            if !own.is_empty() {
                file.apply_with_directory(context, &own, log)?;
            }
        }
        if self.files.is_empty() && changes.iter().any(|change| change.what == PINS) {
            let failed = |error| ResourceError(format!("cannot remove {}: {error}", self.path));
            fs::remove_file(context.machine.path(&self.path)).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &FileResource> {
        self.files.iter().map(|(_, file)| file)
    }
}
