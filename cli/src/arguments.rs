use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Makes Debian hosts fit for microVM tests, keeps them honest, and runs the tests there.
///
/// HOST is `[user@]host[:port]`, a host of inventory.toml, `local`, `sandbox`, or `sandbox:NAME`.
#[derive(Debug, Parser)]
#[command(name = "toril", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring hosts to the recipe, then run the suite there.
    Up(Up),
    /// Bring hosts to the recipe.
    Apply(Apply),
    /// Say what drifted from the recipe, and change nothing. Exits with 3 if anything did.
    Check(Check),
    /// Run the suite on hosts that are ready for it.
    Test(Test),
    /// Boot one kernel as a microVM guest and show what it prints.
    Run(Run),
    /// Say what is known of hosts.
    Facts(Facts),
    /// Follow a run that was begun earlier, from its beginning to its end.
    Attach(Attach),
    /// Throwaway Debian hosts on this machine. Needs root.
    #[command(subcommand)]
    Sandbox(Sandbox),
    /// The host's side.
    #[command(hide = true)]
    Agent,
    /// A run on the host.
    #[command(hide = true)]
    AgentWorker { directory: PathBuf },
    /// A test's own process namespace.
    #[command(hide = true)]
    Isolate,
    /// A sandbox's own mount namespace.
    #[command(hide = true)]
    SandboxStage {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

/// Which hosts, and how to get there.
#[derive(Debug, Clone, Args)]
pub(crate) struct Hosts {
    /// Hosts to work on.
    #[arg(required = true, value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    #[command(flatten)]
    pub(crate) way: Way,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Way {
    /// The inventory to look hosts up in.
    #[arg(long, value_name = "FILE", default_value = "inventory.toml")]
    pub(crate) inventory: PathBuf,
    /// Ask for the password that sudo on the hosts wants.
    #[arg(long)]
    pub(crate) ask_sudo_password: bool,
    /// An option for ssh, as in ssh_config(5), such as `ProxyJump=gate`.
    #[arg(long = "ssh-option", short = 'o', value_name = "NAME=VALUE")]
    pub(crate) ssh_options: Vec<String>,
    /// How long to try to reach a host.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub(crate) connect_timeout: Duration,
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
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RecipeChoice {
    /// The recipe: a file, or the name of a built-in one.
    #[arg(long, value_name = "RECIPE", default_value = "microvm-host")]
    pub(crate) recipe: String,
    /// Set a variable of the recipe.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) vars: Vec<(String, String)>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SuiteChoice {
    /// The suite: a file, or the name of a built-in one.
    #[arg(long, value_name = "SUITE", default_value = "smoke")]
    pub(crate) suite: String,
    /// Set a variable of the suite.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) set: Vec<(String, String)>,
    /// Run only tests whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Vec<String>,
    #[command(flatten)]
    pub(crate) accelerator: AcceleratorArgument,
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

#[derive(Debug, Clone, Args)]
pub(crate) struct Running {
    /// Wait so long for another run on the host to end.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) wait: Duration,
}

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
    /// Change hosts without asking.
    #[arg(long, short)]
    pub(crate) yes: bool,
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
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Test {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
    #[command(flatten)]
    pub(crate) suite: SuiteChoice,
    #[command(flatten)]
    pub(crate) running: Running,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Run {
    /// The kernel: an ELF file that QEMU can boot by PVH.
    pub(crate) kernel: PathBuf,
    /// The host to boot it on.
    #[arg(long, value_name = "HOST", default_value = "local")]
    pub(crate) on: String,
    /// The kernel's command line.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) append: String,
    /// The guest's memory.
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = size)]
    pub(crate) memory: u64,
    /// The guest's CPUs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) cpus: u32,
    /// How long it may run.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(crate) deadline: Duration,
    #[command(flatten)]
    pub(crate) accelerator: AcceleratorArgument,
    #[command(flatten)]
    pub(crate) way: Way,
    #[command(flatten)]
    pub(crate) running: Running,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Facts {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Attach {
    /// The host.
    pub(crate) host: String,
    /// The run; the newest if none is named.
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) way: Way,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Sandbox {
    /// Make a sandbox, or do nothing if it is there.
    Up {
        /// Its name.
        #[arg(default_value = "sandbox")]
        name: String,
        /// Build it on a snapshot.
        #[arg(long, value_name = "SNAPSHOT")]
        from: Option<String>,
        /// The size of its disk, which is then held in memory.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        disk: Option<u64>,
    },
    /// Remove sandboxes and all that is in them.
    Down {
        /// Their names.
        #[arg(default_value = "sandbox")]
        names: Vec<String>,
        /// All of them.
        #[arg(long, conflicts_with = "names")]
        all: bool,
    },
    /// Say which sandboxes there are.
    List,
    /// Keep a sandbox's disk under a name, for `sandbox up --from`. Stops the sandbox.
    Snapshot {
        /// The sandbox.
        name: String,
        /// The snapshot's name.
        snapshot: String,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    toril_document::parse_duration(text)
}

fn size(text: &str) -> Result<u64, String> {
    toril_document::parse_size(text)
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}
