use std::time::Duration;

use super::HelperEvidence;
use crate::case::CaseLog;
use crate::suite::{CaseRules, ExpectedEnd, Pattern};

/// Lines of this many exceptions in one test are a storm; a few are part of some tests.
pub(crate) const STORM: u64 = 1000;

/// Everything about a test that its verdict rests on.
#[derive(Debug, Clone)]
pub(crate) struct Evidence<'t> {
    pub subject: Subject,
    pub ending: Ending,
    /// From its start to its end.
    pub elapsed: Duration,
    /// When it last printed, counted from its start; nothing where it never did.
    pub last_output: Option<Duration>,
    /// Bytes that it printed.
    pub printed: u64,
    /// The first line that says panic.
    pub panic_line: Option<String>,
    /// How many lines report an exception, and the last of them.
    pub exceptions: (u64, String),
    /// The last thing that it, or QEMU, said on standard error; empty where nothing.
    pub last_error_line: String,
    pub rules: Option<&'t CaseRules>,
    pub cases: &'t CaseLog,
    /// How many lines must report an exception; nothing where a few are nobody's business.
    pub expected_exceptions: Option<u64>,
    /// What a good end needs and no line had.
    pub unprinted: Vec<&'t Pattern>,
    /// Whether the process that is tested was begun: it may have had to wait for others.
    pub begun: bool,
    /// The other processes of the test.
    pub helpers: Vec<HelperEvidence>,
    /// What a start waited for and was not printed.
    pub awaited: Option<&'t Pattern>,
    /// Whether something else than output shows that a guest ran.
    pub may_be_silent: bool,
}

/// What was tested.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    Command,
    Guest(GuestEvidence),
}

/// What QEMU told of a guest.
#[derive(Debug, Clone)]
pub(crate) struct GuestEvidence {
    pub ends: ExpectedEnd,
    /// QEMU let the guest run.
    pub started: bool,
    /// The reason of QMP's SHUTDOWN event, such as `guest-reset`.
    pub shutdown: Option<String>,
    /// QMP's GUEST_PANICKED.
    pub panicked: bool,
    /// A line of QEMU's that says the guest cannot go on, though QEMU may.
    pub broken: Option<String>,
}

/// How it came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It could not be started, or its end could not be learnt; why.
    NotStarted(String),
    /// By itself.
    Exited(Exit),
    /// toril ended it.
    Cut(Cut),
}

/// A process's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

/// Why toril ended a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Deadline(Duration),
    /// No case came for so long.
    CaseDeadline(Duration),
    /// More output than this many bytes.
    Flood(u64),
    /// Exception after exception.
    Storm,
    /// It said that it panicked and did not end.
    Panic,
    /// QEMU said that the guest cannot go on.
    Broken,
    /// A process that the guest needs is gone.
    Support,
    /// The companion failed.
    Companion,
    /// Whoever started the run stopped it.
    Stopped,
}
