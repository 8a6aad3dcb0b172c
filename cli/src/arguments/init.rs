//! `toril init`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Clone, Args)]
pub(crate) struct Init {
    /// The host to test on, as `[user@]host[:port]`. Without it, an address to be replaced.
    pub(crate) host: Option<String>,
    /// Also write a workflow for this CI.
    #[arg(long, value_name = "CI")]
    pub(crate) ci: Option<Ci>,
    /// Where to write.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
}

/// The services that a workflow can be written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ci {
    Github,
    Gitlab,
    Travis,
}
