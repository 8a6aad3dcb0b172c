use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use toril_runner::Probe;

use crate::view::ReportChoice;

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
    /// Boot guests on hosts that show what they can do: acceleration, virtio-fs, vsock, forwarding. Exits with 5 if
    /// anything does not work.
    Verify(Verify),
    /// Run the suite on hosts that are ready for it.
    Test(Test),
    /// Prove on a host of your own what toril promises of it, and write it all to one file.
    Acceptance(Acceptance),
    /// Boot one kernel as a microVM guest and show what it prints.
    Run(Run),
    /// Say what is known of hosts.
    Facts(Facts),
    /// Say what this machine, the way to hosts and the hosts themselves lack for the job. Changes nothing.
    Doctor(Doctor),
    /// Follow a run that was begun earlier, from its beginning to its end.
    Attach(Attach),
    /// Say what holds here where the command line says nothing, and where each value comes from.
    Config(Config),
    /// Look at recipes, and try them on throwaway hosts.
    #[command(subcommand)]
    Recipe(Recipe),
    /// Put together the reports of several runs.
    #[command(subcommand)]
    Report(Report),
    /// Throwaway Debian hosts on this machine. Needs root.
    #[command(subcommand)]
    Sandbox(Sandbox),
    /// The host's side.
    #[command(hide = true)]
    Agent,
    /// A run on the host.
    #[command(hide = true)]
    AgentWorker { directory: PathBuf },
    /// A trial of KVM, in a process that may hang.
    #[command(hide = true)]
    TryKvm,
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
    ///
    /// Without any, those of toril.toml.
    #[arg(value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
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
    #[arg(long, value_name = "RECIPE")]
    pub(crate) recipe: Option<String>,
    /// Set a variable of the recipe.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) vars: Vec<(String, String)>,
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
    #[command(flatten)]
    pub(crate) suite: SuiteChoice,
    #[command(flatten)]
    pub(crate) running: Running,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Acceptance {
    /// The host.
    #[arg(required_unless_present = "fixture")]
    pub(crate) host: Option<String>,
    /// Look, prove that looking changed nothing, and do no more.
    #[arg(long, conflicts_with_all = ["yes", "inject_drift"])]
    pub(crate) read_only: bool,
    /// Change the host without asking.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// At the end, break on the host one or two small things that the recipe keeps, and see that they are named and
    /// mended.
    #[arg(long)]
    pub(crate) inject_drift: bool,
    /// The file to write. Without it `toril-acceptance-DATE-TIME.json` in the current directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Make of the file of an acceptance a root directory that looks like its host, for tests; contacts no host.
    #[arg(long, num_args = 2, value_names = ["FILE", "DIRECTORY"], conflicts_with_all = ["host", "output"])]
    pub(crate) fixture: Option<Vec<PathBuf>>,
    #[command(flatten)]
    pub(crate) recipe: RecipeChoice,
    #[command(flatten)]
    pub(crate) suite: SuiteChoice,
    #[command(flatten)]
    pub(crate) running: Running,
    #[command(flatten)]
    pub(crate) way: Way,
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
    /// How long it may run. 60s, with --console or --gdb 24h.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,
    /// A directory of this machine, of which the guest gets a copy by virtio-fs.
    #[arg(long, value_name = "DIR")]
    pub(crate) share: Option<PathBuf>,
    /// The tag that the guest knows the directory by.
    #[arg(long, value_name = "TAG", default_value = "share", requires = "share")]
    pub(crate) tag: String,
    /// Give the guest a vsock.
    #[arg(long)]
    pub(crate) vsock: bool,
    /// Let a TCP port of the host's 127.0.0.1 lead to a port of the guest's vsock, such as `4000:80`.
    #[arg(long, value_name = "HOST:GUEST")]
    pub(crate) forward: Vec<toril_runner::Forward>,
    /// Send what is typed here to the guest's serial port. Ctrl-] ends the guest.
    #[arg(long, conflicts_with = "json")]
    pub(crate) console: bool,
    /// Have the guest wait for gdb, and say how to connect it.
    #[arg(long)]
    pub(crate) gdb: bool,
    #[command(flatten)]
    pub(crate) accelerator: AcceleratorArgument,
    #[command(flatten)]
    pub(crate) way: Way,
    #[command(flatten)]
    pub(crate) running: Running,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
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
pub(crate) struct Attach {
    /// The host.
    pub(crate) host: String,
    /// The run; the newest if none is named.
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) way: Way,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Config {
    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the JSON Schema of a kind of file, for editors.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) schema: Option<SchemaOf>,
}

/// The kinds of files that users write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    Recipe,
    Suite,
    Inventory,
    Toril,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct VirtualMachine {
    /// Make it a virtual machine, with its own kernel, systemd and udev.
    #[arg(long, conflicts_with = "disk")]
    pub(crate) vm: bool,
    /// What the virtual machine runs under. Without it, KVM where guests run under it, else TCG (emulation).
    #[arg(long, value_name = "ACCEL", requires = "vm")]
    pub(crate) accel: Option<Accel>,
    /// The virtual machine's memory.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "2G", requires = "vm")]
    pub(crate) memory: u64,
    /// How many processors the virtual machine has. Without it, 2 under KVM, 1 under TCG, where they take turns.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64), requires = "vm")]
    pub(crate) cpus: Option<u32>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Recipe {
    /// Say which recipes are built in.
    List,
    /// Say all mistakes of recipes at once, or for which releases they are good. Exits with 2 if there are any.
    Check {
        /// Recipes: files, or names of built-in ones.
        #[arg(required = true, value_name = "RECIPE")]
        recipes: Vec<String>,
    },
    /// Print what a recipe means for a release: a recipe without templates and conditions.
    Show {
        /// The recipe: a file, or the name of a built-in one.
        recipe: String,
        /// The Debian release. Without it 12, or the newest that the recipe supports.
        #[arg(long, value_name = "RELEASE", value_parser = recipe_release)]
        release: Option<toril_provisioner::Release>,
        /// Set a variable of the recipe.
        #[arg(long = "var", value_name = "NAME=VALUE", value_parser = assignment)]
        vars: Vec<(String, String)>,
    },
    /// Try a recipe on sandboxes of all its releases: is it carried out, and nothing left to do; is drift that is made
    /// on purpose named and mended? Needs root. Exits with 4 if not, with 5 if it could not be tried at all.
    Test(RecipeTest),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RecipeTest {
    /// The recipe: a file, or the name of a built-in one.
    pub(crate) recipe: String,
    /// Try it on this Debian release only; may be repeated.
    #[arg(long, value_name = "RELEASE", value_parser = recipe_release)]
    pub(crate) release: Vec<toril_provisioner::Release>,
    /// Make the sandbox of a release from this file of apt sources (deb822), such as `10=archive.sources`.
    #[arg(long, value_name = "RELEASE=FILE", value_parser = release_sources)]
    pub(crate) sources: Vec<(toril_provisioner::Release, PathBuf)>,
    /// Set a variable of the recipe.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) vars: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
    /// Have it count that this does not work or cannot be tried, on whatever kind of host: acceleration, boot, virtio-fs,
    /// vsock or forwarding; may be repeated.
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

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Sandbox {
    /// Make a sandbox, or do nothing if it is there.
    Up {
        /// Its name.
        #[arg(default_value = "sandbox")]
        name: String,
        /// The Debian release: 11, 12 or 13. Without it, the snapshot's, else 12.
        #[arg(long, value_name = "RELEASE", value_parser = release)]
        release: Option<toril_sandbox::Release>,
        /// A file of apt sources (deb822) to make it from, instead of those of this machine's apt.
        #[arg(long, value_name = "FILE", conflicts_with = "from")]
        sources: Option<PathBuf>,
        /// Build it on a snapshot.
        #[arg(long, value_name = "SNAPSHOT")]
        from: Option<String>,
        /// The size of its disk, which is then held in memory.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        disk: Option<u64>,
        #[command(flatten)]
        machine: VirtualMachine,
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
    /// Say which sandboxes and snapshots there are.
    List,
    /// Remove snapshots.
    Forget {
        /// Their names.
        #[arg(required = true)]
        snapshots: Vec<String>,
    },
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

fn release(text: &str) -> Result<toril_sandbox::Release, String> {
    toril_sandbox::Release::parse(text).map_err(|error| error.to_string())
}

fn recipe_release(text: &str) -> Result<toril_provisioner::Release, String> {
    toril_provisioner::Release::parse(&format!("debian {text}"))
}

fn release_sources(text: &str) -> Result<(toril_provisioner::Release, PathBuf), String> {
    let (release, file) = assignment(text)?;
    Ok((recipe_release(&release)?, file.into()))
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}
