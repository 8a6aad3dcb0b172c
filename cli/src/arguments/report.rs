//! `toril report`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::choices::{Output, Reporting};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Report {
    /// Make one report of what several runs have told as JSON events, and exit as one run of all that would.
    Merge(Merge),
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
