//! `toril report`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::choices::{Output, Reporting};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Report {
    /// Make one report of what several runs have told as JSON events, and exit as one run of all that would.
    Merge(Merge),
    /// Say what became of hosts between two files of JSON events that have their fingerprints. Status 3 if anything did.
    Compare(Compare),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Compare {
    /// The earlier one: JSON events of `facts --fingerprint` or of a run of tests.
    pub(crate) before: PathBuf,
    /// The later one. Where both tell of one host only, those are compared, whatever they are called.
    pub(crate) after: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Merge {
    /// JSON events: what `--json` has printed, or `--report json=FILE` has written.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
    #[command(flatten)]
    pub(crate) output: Output,
}
