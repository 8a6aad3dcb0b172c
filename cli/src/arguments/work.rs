//! The commands that work on hosts.

use std::path::PathBuf;

use clap::Args;

use toril_runner::Probe;

use super::choices::{
    AcceleratorArgument, Fetching, Hosts, Keeping, Reboot, RecipeChoice, Reporting, Running, SuiteChoice, Way,
};

#[derive(Debug, Clone, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
    #[command(flatten)]
    pub(crate) recipe: RecipeChoice,
    #[command(flatten)]
    pub(crate) suite: SuiteChoice,
    #[command(flatten)]
    pub(crate) running: Running,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
    /// Change hosts without asking.
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) reboot: Reboot,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
    #[command(flatten)]
    pub(crate) recipe: RecipeChoice,
    #[command(flatten)]
    pub(crate) running: Running,
    /// Change hosts without asking.
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) reboot: Reboot,
    /// Show the plan and change nothing, as `toril check` does.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
    #[command(flatten)]
    pub(crate) recipe: RecipeChoice,
    /// Let what is wrong beyond the recipe count as drift, and read every file of its packages.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Also boot guests that show what hosts can do, as `toril verify` does: the only check that starts something, and that
    /// takes the host's lock.
    #[arg(long)]
    pub(crate) prove: bool,
    #[command(flatten)]
    pub(crate) running: Running,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Test {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
    /// Run a part of the suite on each host, all of it together, and report on all as one.
    #[arg(long, conflicts_with = "shard")]
    pub(crate) spread: bool,
    #[command(flatten)]
    pub(crate) suite: SuiteChoice,
    #[command(flatten)]
    pub(crate) running: Running,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
    /// Have it count that this does not work or cannot be tried, on whatever kind of host: acceleration, boot,
    /// host-kernel, virtio-fs, vsock or forwarding; may be repeated.
    #[arg(long, value_name = "PROBE", value_parser = probe)]
    pub(crate) require: Vec<Probe>,
    #[command(flatten)]
    pub(crate) accelerator: AcceleratorArgument,
    #[command(flatten)]
    pub(crate) running: Running,
}

fn probe(text: &str) -> Result<Probe, String> {
    let names = Probe::ALL.map(Probe::name).join(", ");
    Probe::from_name(text).ok_or_else(|| format!("there are {names}"))
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Facts {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
    /// Also say what of the hosts can move a test's result.
    #[arg(long)]
    pub(crate) fingerprint: bool,
    /// Say what differs from the fingerprint in a file that `--json` has written. Exits with 3 if anything does.
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Cancel {
    /// The host.
    pub(crate) host: String,
    /// The run; the newest that is at work or waits, if none is named.
    pub(crate) run: Option<String>,
    /// Only a run that was begun by this job of a CI or, at a terminal, by you on this machine. Where there is none, nothing
    /// is ended, and that is fine.
    #[arg(long, conflicts_with = "run")]
    pub(crate) mine: bool,
    #[command(flatten)]
    pub(crate) way: Way,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Clean {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
    /// Say what there is, and leave it there.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Disconnect {
    /// The host; without one, all connections of yours end that were left open.
    pub(crate) host: Option<String>,
    /// The inventory to look the host up in.
    #[arg(long, value_name = "FILE")]
    pub(crate) inventory: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Attach {
    /// The host.
    pub(crate) host: String,
    /// The run; the newest if none is named.
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) way: Way,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}
