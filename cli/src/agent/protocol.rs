use std::time::Duration;

use serde::{Deserialize, Serialize};
use toril_machine::{Facts, Fingerprint, LockHolder};
use toril_provisioner::{Bundle, Check, Counts, Depth, Finding, HostInfo, LockedHost, Plan, Survey, Traces};
use toril_runner::{Event as TestEvent, KeptFolder, OwnKernel, Probe, ProbeResult, Verified};

/// What a client asks of the agent. Each is answered by reports of which the last is [`Report::Done`], [`Report::NoneOf`]
/// or [`Report::Refused`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// What the machine is.
    Facts,
    /// Whether it can become what a recipe makes of it, as far as that can be known beforehand. Reads only.
    Preflight {
        /// Whether mirrors are asked to answer.
        network: bool,
        /// The client's clock, counted from 1970.
        clock: Duration,
    },
    /// What of the machine can move a test's result.
    Fingerprint,
    /// What stands on it where a recipe meets it: these packages and paths, and what is of interest anyway.
    Survey { packages: Vec<String>, paths: Vec<String> },
    /// What would show that it was changed.
    Traces,
    /// What it lacks of a recipe and, where that is asked too, what is wrong with it beyond. Reads only, needs no lock.
    Plan { bundle: Bundle, host: HostInfo, audit: Option<Depth> },
    /// What it has of what a recipe leaves open. Reads only.
    Lock { bundle: Bundle, host: HostInfo },
    /// Begin a run and follow it. Blobs with the bytes of the attachments follow, in their order. The token (16 hexadecimal
    /// digits) is the client's name for the run: a second request with the same one follows the run that the first has
    /// begun.
    Start { token: String, order: Order, attachments: Vec<Attachment> },
    /// Follow a run that was begun earlier (the newest, if none is named), from this entry on.
    Attach { run: Option<String>, from: u64 },
    /// Ask a run to end at the next safe point (the newest whose worker is there, if none is named; of `who`, if that is
    /// given), and follow it from its beginning to its end.
    Cancel { run: Option<String>, who: Option<String> },
    /// What a run has kept of its tests. Answered by [`Report::Artifacts`] and blobs with the bytes of an archive.
    Artifacts { run: String },
    /// What runs have left there on purpose; it is removed, unless it is only to be told.
    Clean { dry_run: bool },
    /// What of toril is there. `delivered`: its agent was put there only for this.
    Footprint { delivered: bool },
    /// Take it away. Answered by [`Report::Footprint`], or by [`Report::InUse`]: then nothing was done.
    Uninstall(super::Uninstall),
    /// Which boot of the machine this is.
    Boot,
    /// Ask a run to end at the next safe point. Not answered: the run's own end is the answer.
    Stop { run: String },
    /// Give a run's guest this to read. Not answered.
    Input { run: String, bytes: Vec<u8> },
    /// Whoever follows a run is still there, as is said again and again. Not answered.
    Alive,
}

/// A file that comes with an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) what: Attached,
    /// In bytes.
    pub(crate) size: u64,
    /// In hexadecimal.
    pub(crate) sha256: String,
}

/// What an attachment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Attached {
    /// The kernel that is to be booted.
    Kernel,
    /// The tree that is to be tested, as an archive.
    Source,
}

/// A run: jobs to be done one after the other while nobody else may change or measure the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Who asks, such as `ci@builder` or a CI's job: by this, a run is known as one's own.
    pub(crate) who: String,
    /// How long to wait for another run to end.
    pub(crate) wait: Duration,
    /// Whether it is to end when nobody follows it any more.
    #[serde(default)]
    pub(crate) attended: bool,
    pub(crate) jobs: Vec<Job>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Job {
    Apply {
        bundle: Bundle,
        host: HostInfo,
    },
    Test(crate::agent::worker::TestJob),
    /// Boot guests that show what the machine can do.
    Verify {
        /// Whether emulated guests will do.
        emulation: bool,
        own_kernel: OwnKernel,
        /// What counts even where hosts of its kind cannot have it.
        required: Vec<Probe>,
    },
    /// Reboot the machine if that is due. It is the run's last then, and whoever follows the run has this much time to
    /// see the machine come back.
    Reboot {
        deadline: Duration,
    },
}

impl Order {
    /// Whether a guest of it reads what the client sends ([`Request::Input`]).
    pub(crate) fn has_input(&self) -> bool {
        let reads = |job: &Job| match job {
            Job::Test(job) => matches!(&job.tests, crate::agent::Tests::Kernel(kernel) if kernel.console),
            _ => false,
        };
        self.jobs.iter().any(reads)
    }
}

/// What the agent says to the client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Facts(Box<Facts>),
    Fingerprint(Fingerprint),
    Preflight(Vec<Check>),
    Plan {
        plan: Plan,
        findings: Vec<Finding>,
    },
    /// The version of its release, and what it has.
    Lock {
        release: String,
        host: LockedHost,
    },
    /// What there was, and what of it is there still.
    Kept(Vec<KeptFolder>),
    /// What of toril there is, or was, and what could not be taken away.
    Footprint(super::Footprint),
    /// A run is at work or waits; whose, if it says so.
    InUse {
        holder: Option<LockHolder>,
    },
    /// The name of the boot.
    Boot(String),
    Survey(Box<Survey>),
    Traces(Traces),
    /// A run is being followed; its name.
    Following {
        run: String,
    },
    /// An entry of its journal.
    Entry(Box<Entry>),
    /// An entry that is larger than a message may be: blobs with its JSON text follow, of this many bytes together.
    LargeEntry {
        size: u64,
    },
    /// An archive follows, of this many bytes and with this hash.
    Artifacts {
        size: u64,
        sha256: String,
    },
    /// The request is answered.
    Done,
    /// None of the runs that are at work or wait is of whom it was asked for; whose that would be.
    NoneOf {
        who: String,
    },
    /// The request cannot be answered; why, and what to do.
    Refused {
        reason: String,
    },
}

/// One entry of a run's journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// From 0, without gaps.
    pub(crate) number: u64,
    pub(crate) event: RunEvent,
}

/// What happens in a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum RunEvent {
    /// The worker is there.
    Began {
        pid: u32,
    },
    /// Another run holds the host. Told again now and then.
    Waiting {
        holder: Option<LockHolder>,
        /// For how long by now, in seconds.
        #[serde(default)]
        waited: u64,
    },
    Provision {
        event: toril_provisioner::Event,
    },
    Test {
        event: TestEvent,
    },
    /// A probe ended.
    Verify {
        result: ProbeResult,
    },
    /// The machine is being rebooted; why, and how long it may take to come back, in seconds.
    Rebooting {
        reason: String,
        deadline: u64,
    },
    /// A job could not be done; the jobs after it are not begun.
    Failed {
        error: String,
    },
    /// The last entry.
    Ended {
        ended: Ended,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// How the recipe's resources ended, if one was applied.
    pub(crate) applied: Option<Counts>,
    /// Whether the machine is as the recipe says, if one was applied.
    pub(crate) converged: Option<bool>,
    /// How the tests ended, if some were run.
    pub(crate) tested: Option<toril_runner::Summary>,
    /// What the machine was seen to be able to do, if that was tried.
    #[serde(default)]
    pub(crate) verified: Option<Box<Verified>>,
    /// What of the machine can have moved their results, if some were run.
    #[serde(default)]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Whether something kept a job from being done.
    pub(crate) failed: bool,
    /// Whether the run was stopped before its end.
    pub(crate) stopped: bool,
    /// Why a reboot is due after an apply, where none was asked for.
    #[serde(default)]
    pub(crate) reboot_due: Option<String>,
    /// The reboot that the run ended with: the jobs after it were not begun.
    #[serde(default)]
    pub(crate) reboot: Option<Reboot>,
}

/// A reboot that the machine's init system was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reboot {
    /// The name of the boot that it ends.
    pub(crate) boot: String,
    /// How long the machine may take to come back, in seconds.
    pub(crate) deadline: u64,
}
