use serde::{Deserialize, Serialize};

use crate::accelerator::Accelerator;
use crate::case::Case;
use crate::source::SourceInfo;
use crate::verdict::Outcome;

/// What happens in a run, in its order. Every view and report is made of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run begins.
    RunStarted {
        /// The suite's name.
        suite: String,
        /// The tests that will be run, in their order.
        tests: Vec<String>,
        /// The user that they run as.
        run_as: String,
    },
    /// The tree that is tested lies there; only where the suite has one.
    SourceReady {
        /// What tree it is.
        source: SourceInfo,
        /// Where it lies on this machine.
        directory: String,
    },
    /// It was decided what guests run under; only where there are guests.
    AcceleratorChosen {
        /// Nothing where guests cannot run.
        accelerator: Option<Accelerator>,
        /// Why, in one line for the user.
        reason: String,
    },
    /// A test begins.
    TestStarted {
        /// Its name.
        test: String,
    },
    /// A guest is ready, and waits for a debugger before it runs.
    AwaitsDebugger {
        /// The test.
        test: String,
        /// The port of the host's 127.0.0.1 at which gdb can connect.
        port: u16,
    },
    /// A test reported a case.
    Case {
        /// The test.
        test: String,
        /// The case.
        case: Case,
    },
    /// What a test printed, as it came; only where [`crate::Options::live`] asks for it.
    Output {
        /// The test.
        test: String,
        /// A piece of it, not always whole lines.
        text: String,
    },
    /// A test ended: its verdict is on record.
    TestEnded(TestResult),
    /// The run ended.
    RunEnded(Counts),
}

/// What came of one test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestResult {
    /// Its name.
    pub test: String,
    /// Its verdict.
    pub outcome: Outcome,
    /// Why; may be empty where it passed.
    pub reason: String,
    /// From its start to its verdict, in milliseconds.
    pub duration_ms: u64,
    /// The cases that it reported, each name once.
    pub cases: Vec<Case>,
    /// What its guest ran under; nothing for commands.
    pub accelerator: Option<Accelerator>,
    /// The last lines that it printed, where it did not pass.
    pub last_lines: Vec<String>,
    /// QEMU's command line as it was started; empty for commands.
    pub qemu: Vec<String>,
    /// A shell command that does the same by hand on that host; nothing where nothing was started. It may have several
    /// lines.
    pub reproduce: Option<String>,
    /// What was not as the suite wants it, though the test ran.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How many tests came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named like the outcomes")]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
    pub crashed: u32,
    pub timed_out: u32,
    pub incomplete: u32,
    pub error: u32,
    pub skipped: u32,
}

impl Counts {
    /// The number for one outcome.
    pub fn of(&self, outcome: Outcome) -> u32 {
        match outcome {
            Outcome::Passed => self.passed,
            Outcome::Failed => self.failed,
            Outcome::Crashed => self.crashed,
            Outcome::TimedOut => self.timed_out,
            Outcome::Incomplete => self.incomplete,
            Outcome::Error => self.error,
            Outcome::Skipped => self.skipped,
        }
    }
}

/// A run that ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// What came of each test, in their order.
    pub results: Vec<TestResult>,
    /// What tree was tested; nothing where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceInfo>,
    /// What guests ran under; nothing where there were none, or could be none.
    pub accelerator: Option<Accelerator>,
    /// Whether there were guests and this machine can run none: the tests that remain do not make up for that.
    pub no_guests: bool,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

impl Summary {
    /// How many tests came out how.
    pub fn counts(&self) -> Counts {
        let of = |outcome| {
            let count = self.results.iter().filter(|result| result.outcome == outcome).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        Counts {
            passed: of(Outcome::Passed),
            failed: of(Outcome::Failed),
            crashed: of(Outcome::Crashed),
            timed_out: of(Outcome::TimedOut),
            incomplete: of(Outcome::Incomplete),
            error: of(Outcome::Error),
            skipped: of(Outcome::Skipped),
        }
    }
}
