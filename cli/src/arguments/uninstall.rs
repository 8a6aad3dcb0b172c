//! `toril uninstall`.

use std::time::Duration;

use clap::Args;

use super::choices::Way;
use super::values::duration;

#[derive(Debug, Clone, Args)]
pub(crate) struct Uninstall {
    /// The host.
    pub(crate) host: String,
    /// Say what would go and what would stay, and leave it all there.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take it away without asking.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Wait so long for another run on the host to end.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    #[command(flatten)]
    pub(crate) way: Way,
}
