//! What several commands are told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use toril_inventory::Transport;

use super::values::{assignment, duration, fingerprint, transport};
use crate::view::ReportChoice;

/// Which hosts, and how to get there.
#[derive(Debug, Clone, Args)]
pub(crate) struct Hosts {
    /// Hosts to work on.
    ///
    /// Without any, those of toril.toml.
    #[arg(value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    /// Work on so many hosts at once. Those that are still connecting do not count.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) parallel: u32,
    /// How long each host may take, counted from its own beginning. Without it 5m to look at one, and as long as it takes to
    /// change or test one.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,
    #[command(flatten)]
    pub(crate) way: Way,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Way {
    /// The inventory to look hosts up in.
    #[arg(long, value_name = "FILE")]
    pub(crate) inventory: Option<PathBuf>,
    /// Ask for the password that sudo on the hosts wants.
    #[arg(long)]
    pub(crate) ask_sudo_password: bool,
    /// An option for ssh, as in ssh_config(5), such as `ProxyJump=gate`.
    #[arg(long = "ssh-option", short = 'o', value_name = "NAME=VALUE")]
    pub(crate) ssh_options: Vec<String>,
    /// What carries connections over ssh: openssh, or russh, which is built in.
    #[arg(long, value_name = "TRANSPORT", value_parser = transport)]
    pub(crate) transport: Option<Transport>,
    /// The fingerprint of the only host key to accept, SHA256:…; may be repeated.
    #[arg(long = "host-key", value_name = "FINGERPRINT", value_parser = fingerprint)]
    pub(crate) host_keys: Vec<String>,
    /// How long to try to reach a host.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub(crate) connect_timeout: Duration,
    /// Leave connections open for so long, for the next command; 0s does not. `toril disconnect` ends them.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) standing: Option<Duration>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Output {
    /// Print events as JSON, one a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Say more.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Say only what went wrong, and how everything ended.
    #[arg(long, short, conflicts_with_all = ["json", "verbose"])]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RecipeChoice {
    /// The recipe: a file, or the name of a built-in one.
    #[arg(long, value_name = "RECIPE")]
    pub(crate) recipe: Option<String>,
    /// Set a variable of the recipe.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) vars: Vec<(String, String)>,
    /// Leave aside what the recipe's lock says of hosts.
    #[arg(long)]
    pub(crate) unlocked: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SuiteChoice {
    /// The suite: a file, or the name of a built-in one.
    #[arg(long, value_name = "SUITE")]
    pub(crate) suite: Option<String>,
    /// Set a variable of the suite.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) set: Vec<(String, String)>,
    /// Run only tests whose name contains this, or is this after a `=`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Vec<String>,
    /// Test this commit of the suite's source, whatever the suite says: a branch, a tag, or a commit's name.
    #[arg(long = "ref", value_name = "REV")]
    pub(crate) reference: Option<String>,
    /// Refuse what the project's files would have run on hosts as another user than `toril`, who has no rights there: any
    /// part of the suite and, where a recipe is applied, one that they name or are, and variables of it that they set.
    #[arg(long)]
    pub(crate) unprivileged: bool,
    #[command(flatten)]
    pub(crate) control: ControlArguments,
    #[command(flatten)]
    pub(crate) accelerator: AcceleratorArgument,
}

/// How the tests are run.
#[derive(Debug, Clone, Args)]
pub(crate) struct ControlArguments {
    /// Run one part of the tests of several, such as 2/5.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<toril_runner::Shard>,
    /// Run so many tests side by side.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) jobs: u32,
    /// Try a test so often again that speaks against the code, whatever the suite says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10))]
    pub(crate) retries: Option<u32>,
    /// Leave the other tests out once one did not pass.
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// Exit with 4 also for tests that passed only in a retry.
    #[arg(long)]
    pub(crate) fail_on_flaky: bool,
}

impl ControlArguments {
    /// As the runner takes it.
    pub(crate) fn to_control(&self) -> toril_runner::Control {
        toril_runner::Control {
            shard: self.shard,
            jobs: self.jobs,
            retries: self.retries,
            fail_fast: self.fail_fast,
            fail_on_flaky: self.fail_on_flaky,
        }
    }
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct AcceleratorArgument {
    /// What guests run under. TCG (emulation) is otherwise used on sandboxes only.
    #[arg(long, value_name = "ACCEL")]
    pub(crate) accel: Option<Accel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Running {
    /// Wait so long for another run on the host to end.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// End the run on the host when nobody follows it any more, as when this command is killed. Without it, the run goes on to
    /// its end.
    #[arg(long)]
    pub(crate) attended: bool,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Reboot {
    /// Reboot hosts where that is due, once the recipe was applied, and go on then.
    #[arg(long)]
    pub(crate) reboot: bool,
    /// How long a host may take to come back.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        default_value = "5m",
        requires = "reboot"
    )]
    pub(crate) reboot_timeout: Duration,
}

/// Where to report, beside what is shown.
#[derive(Debug, Clone, Args)]
pub(crate) struct Reporting {
    /// Write a report, such as `junit=report.xml`; may be repeated. FORMAT is junit, tap, markdown, html, json or github;
    /// a FILE of `-` is standard output, and github has none.
    #[arg(long, value_name = "FORMAT=FILE", value_parser = ReportChoice::parse)]
    pub(crate) report: Vec<ReportChoice>,
}

/// What of a run is wanted here, beside what came of it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Fetching {
    /// Fetch what the tests printed, and how they were started and ended, into a folder for each host and run below this.
    #[arg(long, value_name = "DIR")]
    pub(crate) artifacts: Option<PathBuf>,
}

/// What of a run stays on the host.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Keeping {
    /// Leave the tree that is tested and the tests' folders on the host, until `toril clean`.
    #[arg(long)]
    pub(crate) keep: bool,
}
