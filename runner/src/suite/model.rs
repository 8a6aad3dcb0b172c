use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Build;
use crate::{Accelerator, CaseFormat, Gate, Pattern};

/// Lines that are a panic, unless the suite says otherwise.
pub(super) const PANIC: &str = r"^panic: |Kernel panic|panicked at ";

/// What the first serial port of a guest is called among its channels.
pub(crate) const SERIAL: &str = "serial";

/// How long a test may take, unless its suite says otherwise.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// How many bytes it may print, unless its suite says otherwise.
pub(super) const OUTPUT_LIMIT: u64 = 16 << 20;

/// How much memory a guest has, unless its suite says otherwise.
const MEMORY: u64 = 64 << 20;

/// What is to be tested.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// What messages and reports call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What its guests may run under.
    pub accelerator: AcceleratorChoice,
    /// The user that tests run as.
    pub run_as: String,
    /// The variables with the values they had.
    pub vars: BTreeMap<String, String>,
    /// Where the tree comes from that is tested; nothing where only the host is.
    pub source: Option<Source>,
    /// What is made before the tests, in this order; names are unique.
    pub builds: Vec<Build>,
    /// How long all of its tests may take together.
    pub deadline: Option<Duration>,
    /// Whether tests are left out after the first that did not pass.
    pub fail_fast: bool,
    /// Whether a test that passes only in a retry counts as failed.
    pub flaky_fails: bool,
    /// The tests, in their order; names are unique.
    pub tests: Vec<Test>,
}

/// Where the tree comes from that is tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The working tree of the repository that the suite is in, as it is.
    Tree {
        /// A directory below the repository's root; empty for all of it.
        directory: String,
        /// Paths or patterns, relative to that directory, of files that are sent though git does not know them.
        extras: Vec<String>,
    },
    /// A commit of that repository.
    Ref(String),
    /// A commit of another one, which the host fetches.
    Fetch {
        /// Its URL.
        url: String,
        /// A branch, a tag or a commit's whole name.
        reference: String,
    },
}

/// What a suite says of the accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceleratorChoice {
    /// KVM where it works, else TCG where that is allowed.
    Auto,
    /// This one and no other.
    Only(Accelerator),
}

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// How long it may take.
    pub deadline: Duration,
    /// How often it is tried again where it speaks against the code.
    pub retries: u32,
    /// Whether nothing else may run beside it.
    pub alone: bool,
    /// More output than this many bytes ends it.
    pub output_limit: u64,
    /// What is run.
    pub action: Action,
    /// What its output must report; nothing where the end alone is judged.
    pub cases: Option<CaseRules>,
    /// A line with this is a panic; nothing where no line is.
    pub panic: Option<Pattern>,
    /// How many lines must report an exception; nothing where any number will do that is no storm.
    pub exceptions: Option<u64>,
    /// What a good end needs: each must be found in a line.
    pub must_print: Vec<Pattern>,
    /// The other side of a guest, on the host.
    pub companion: Option<Companion>,
    /// The longest time without a new case.
    pub case_deadline: Option<Duration>,
    /// Whether a guest that does not end in time is told so by an NMI.
    pub inject_nmi: bool,
    /// Limits on what is measured, which have it run several times.
    pub gates: Vec<Gate>,
    /// The builds without which it is an error, by name.
    pub needs_build: Vec<String>,
}

impl Test {
    /// A test that is judged by its end alone, with the limits that a suite has by default.
    pub fn new(name: impl Into<String>, action: Action) -> Test {
        Test {
            name: name.into(),
            deadline: DEADLINE,
            retries: 0,
            alone: false,
            output_limit: OUTPUT_LIMIT,
            action,
            cases: None,
            panic: None,
            exceptions: None,
            must_print: Vec::new(),
            companion: None,
            case_deadline: None,
            inject_nmi: false,
            gates: Vec::new(),
            needs_build: Vec::new(),
        }
    }

    /// How often it is run for one verdict.
    pub(crate) fn runs(&self) -> u32 {
        self.gates.iter().map(|gate| gate.runs).max().unwrap_or(1)
    }
}

/// What a test runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A program of the host.
    Command(CommandTest),
    /// A guest under QEMU.
    Guest(GuestSettings),
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandTest {
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// Environment variables besides the standard ones.
    pub env: Vec<(String, String)>,
}

/// A guest to boot under QEMU's microvm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestSettings {
    /// What is booted.
    pub kernel: Kernel,
    /// Its memory in bytes.
    pub memory: u64,
    /// Its CPUs.
    pub cpus: u32,
    /// Its command line.
    pub append: String,
    /// More arguments for QEMU, at the end.
    pub qemu_args: Vec<String>,
    /// How it ends when all is well.
    pub ends: ExpectedEnd,
    /// The directory that it has by virtio-fs.
    pub share: Option<Share>,
    /// Whether it has a vsock.
    pub vsock: bool,
    /// The TCP ports of the host that lead to ports of its vsock.
    pub forward: Vec<Forward>,
    /// Its consoles besides the serial port, by name.
    pub consoles: Vec<String>,
    /// The host's CPUs that QEMU may run on; all where none is named.
    pub pin: Vec<usize>,
    /// The real-time priority that QEMU is to have, 1 to 99.
    pub realtime: Option<u8>,
}

impl GuestSettings {
    /// A guest with 64 MiB, one CPU, and nothing else.
    pub fn new(kernel: Kernel, ends: ExpectedEnd) -> GuestSettings {
        GuestSettings {
            kernel,
            memory: MEMORY,
            cpus: 1,
            append: String::new(),
            qemu_args: Vec::new(),
            ends,
            share: None,
            vsock: false,
            forward: Vec::new(),
            consoles: Vec::new(),
            pin: Vec::new(),
            realtime: None,
        }
    }
}

/// A directory of the host that a guest has by virtio-fs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The directory; a relative path starts in the tree that is tested.
    pub dir: PathBuf,
    /// What the guest knows it by.
    pub tag: String,
    /// Whether the guest has the directory itself, and not a fresh copy of it.
    pub in_place: bool,
    /// The daemon; one that is found where nothing is named.
    pub virtiofsd: Option<PathBuf>,
}

/// A TCP port of the host's 127.0.0.1 that leads to a port of a guest's vsock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The host's port.
    pub from: u16,
    /// The guest's port.
    pub to: u32,
}

impl std::str::FromStr for Forward {
    type Err = String;

    /// Reads `4000:80`.
    fn from_str(text: &str) -> Result<Forward, String> {
        let ports = text.split_once(':').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        match ports {
            Some((from @ 1.., to)) => Ok(Forward { from, to }),
            _ => Err(format!("`{text}` is no forwarding: write HOST-PORT:GUEST-PORT, such as 4000:80")),
        }
    }
}

/// A program of the host that is the other side of a guest.
#[derive(Debug, Clone, PartialEq)]
pub struct Companion {
    /// The program and its environment.
    pub command: CommandTest,
    /// A line that is waited for: of the companion before the guest is started, or the other way round.
    pub ready: Option<Pattern>,
    /// Whether it is started after the guest, and its end waited for.
    pub after: bool,
    /// Where it is started before the guest: how long it may take to end of its own accord after it.
    pub wait: Duration,
    /// Whether it runs as root, and not as the test's user.
    pub as_root: bool,
}

impl Companion {
    /// How long one may take to end that says nothing about it.
    pub(crate) const LEAVES: Duration = Duration::from_millis(500);
}

/// A kernel to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kernel {
    /// The guest built into this program.
    Toolkit,
    /// A file of the host; a relative path starts at the source, which there is then.
    File(PathBuf),
}

/// How a guest ends when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedEnd {
    /// QEMU exits with this status of its own accord, such as through isa-debug-exit.
    ExitStatus(i32),
    /// The guest resets, or triple-faults on purpose.
    Reset,
    /// The guest powers itself off.
    Shutdown,
    /// Any end that the guest brings about itself.
    Any,
}

/// What a test's output must report.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseRules {
    /// How to find the cases.
    pub format: CaseFormat,
    /// The cases that must be there, by name; empty where any will do.
    pub expected: Vec<String>,
    /// How many there must be; nothing where at least one will do.
    pub count: Option<usize>,
    /// The channels that report them, `serial` and consoles by name; all where there is none.
    pub from: Vec<String>,
    /// Whether cases that are not expected by name make the test fail.
    pub only_expected: bool,
}

impl Suite {
    /// A suite of one guest whose end alone is judged, for `toril run`.
    pub fn of_kernel(guest: GuestSettings, run_as: impl Into<String>, deadline: Duration) -> Suite {
        let name = match &guest.kernel {
            Kernel::Toolkit => "builtin:toolkit".to_owned(),
            Kernel::File(path) => path.display().to_string(),
        };
        Suite {
            name: name.clone(),
            description: "one guest".into(),
            accelerator: AcceleratorChoice::Auto,
            run_as: run_as.into(),
            vars: BTreeMap::new(),
            source: None,
            builds: Vec::new(),
            deadline: None,
            fail_fast: false,
            flaky_fails: false,
            tests: vec![Test {
                deadline,
                output_limit: u64::MAX,
                panic: Pattern::parse(PANIC).ok(),
                ..Test::new(name, Action::Guest(guest))
            }],
        }
    }
}
