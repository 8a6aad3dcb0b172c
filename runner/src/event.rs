use std::mem::take;

use serde::{Deserialize, Serialize};

use crate::accelerator::Accelerator;
use crate::artifacts::Kept;
use crate::case::Case;
use crate::control::Shard;
use crate::execute::Executed;
use crate::gate::Measured;
use crate::kept::RunFolder;
use crate::source::SourceInfo;
use crate::suite::Test;
use crate::verdict::Outcome;

/// What happens in a run, in its order. Every view and report is made of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run begins.
    RunStarted {
        /// The suite's name.
        suite: String,
        /// The tests that will be run, in their order.
        tests: Vec<String>,
        /// How many the suite has besides, which filters and shards leave out.
        #[serde(default)]
        left_out: usize,
        /// The user that they run as.
        run_as: String,
        /// Which part of the suite this is; nothing where it is no part of several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shard: Option<Shard>,
    },
    /// The tree that is tested lies there; only where the suite has one.
    SourceReady {
        /// What tree it is.
        source: SourceInfo,
        /// Where it lies on this machine.
        directory: String,
    },
    /// A build begins.
    BuildStarted {
        /// Its name.
        build: String,
    },
    /// A build ended, and its outputs were looked at.
    BuildEnded(Box<BuildResult>),
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
    /// An attempt at a test did not pass, and another follows.
    AttemptEnded {
        /// The test.
        test: String,
        /// Which attempt, from 1.
        number: u32,
        /// How many there may be.
        of: u32,
        /// What came of it.
        attempt: Attempt,
    },
    /// A test ended: its verdict is on record.
    TestEnded(Box<TestResult>),
    /// All that is kept of the tests is there.
    ArtifactsKept(Kept),
    /// The run's folder stays on the machine, as was wanted, or could not be kept.
    FolderKept(RunFolder),
    /// The run ended.
    RunEnded(Counts),
}

/// What came of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildResult {
    /// Its name.
    pub build: String,
    /// Why what it makes cannot be used; nothing where every output is new.
    pub trouble: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What it made.
    pub outputs: Vec<Built>,
    /// The last lines that it printed, where there was trouble.
    pub last_lines: Vec<String>,
    /// A shell command that does the same by hand on that host; it may have several lines.
    pub reproduce: String,
}

/// A file that a build made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// Where it is on the host.
    pub path: String,
    /// In bytes.
    pub size: u64,
}

/// What came of one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// Its name.
    pub test: String,
    /// Its verdict.
    pub outcome: Outcome,
    /// Why; may be empty where it passed.
    pub reason: String,
    /// From its start to its verdict, in milliseconds.
    pub duration_ms: u64,
    /// The attempts before the last, none of which passed; empty where it was tried once.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// The cases that it reported, each name once.
    pub cases: Vec<Case>,
    /// What was measured, and the limits on it.
    #[serde(default)]
    pub metrics: Vec<Measured>,
    /// What its guest ran under; nothing for commands.
    pub accelerator: Option<Accelerator>,
    /// The last lines that it printed, where it did not pass.
    pub last_lines: Vec<String>,
    /// What was learnt of it where it did not end in time.
    #[serde(default)]
    pub diagnosis: Vec<String>,
    /// QEMU's command line as it was started; empty for commands.
    pub qemu: Vec<String>,
    /// A shell command that does the same by hand on that host; nothing where nothing was started. It may have several
    /// lines.
    pub reproduce: Option<String>,
    /// What was not as the suite wants it, though the test ran.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Whether it was skipped because this host cannot run it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_here: bool,
}

/// What came of an attempt at a test that was followed by another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its verdict.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
    /// From its start to its verdict, in milliseconds.
    pub duration_ms: u64,
    /// The cases that it reported, each name once.
    pub cases: Vec<Case>,
    /// What was measured, and the limits on it.
    #[serde(default)]
    pub metrics: Vec<Measured>,
    /// The last lines that it printed.
    pub last_lines: Vec<String>,
    /// What was learnt of it where it did not end in time.
    #[serde(default)]
    pub diagnosis: Vec<String>,
}

impl TestResult {
    /// A test that was not run.
    pub(crate) fn not_run(test: &Test, outcome: Outcome, reason: String) -> TestResult {
        TestResult {
            test: test.name.clone(),
            outcome,
            reason,
            duration_ms: 0,
            attempts: Vec::new(),
            cases: Vec::new(),
            metrics: Vec::new(),
            accelerator: None,
            last_lines: Vec::new(),
            diagnosis: Vec::new(),
            qemu: Vec::new(),
            reproduce: None,
            warnings: Vec::new(),
            not_here: false,
        }
    }

    /// A test that was not run, because a build failed that it needs.
    pub(crate) fn not_built(test: &Test, build: &BuildResult, trouble: &str) -> TestResult {
        TestResult {
            last_lines: build.last_lines.clone(),
            reproduce: Some(build.reproduce.clone()),
            ..TestResult::not_run(
                test,
                Outcome::Error,
                format!("the build `{}` failed: {trouble}", build.build),
            )
        }
    }

    /// A test that was run; the rest is for the caller to say. What is told of it is taken out of `executed`.
    pub(crate) fn of(test: &Test, executed: &mut Executed) -> TestResult {
        let passed = executed.verdict.outcome == Outcome::Passed;
        let reason = take(&mut executed.verdict.reason);
        TestResult {
            // What it may skip itself, it was started for.
            not_here: executed.verdict.outcome == Outcome::Skipped && executed.reproduce.is_none(),
            cases: take(&mut executed.cases),
            last_lines: if passed { Vec::new() } else { take(&mut executed.last_lines) },
            diagnosis: take(&mut executed.diagnosis),
            qemu: take(&mut executed.qemu),
            reproduce: executed.reproduce.take(),
            warnings: take(&mut executed.warnings),
            ..TestResult::not_run(test, executed.verdict.outcome, reason)
        }
    }
}

/// How many tests came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named like the outcomes")]
pub struct Counts {
    pub passed: u32,
    #[serde(default)]
    pub flaky: u32,
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
            Outcome::Flaky => self.flaky,
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// What came of each test, in their order.
    pub results: Vec<TestResult>,
    /// What came of each build that a test needed, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub builds: Vec<BuildResult>,
    /// What is kept of its tests; nothing where nothing was to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Kept>,
    /// Where the tree and the tests' folders lay, and whether they still do; nothing where no test could be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<Box<RunFolder>>,
    /// What tree was tested; nothing where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceInfo>,
    /// What guests ran under; nothing where there were none, or could be none.
    pub accelerator: Option<Accelerator>,
    /// Whether there were guests and this machine can run none: the tests that remain do not make up for that.
    pub no_guests: bool,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// Whether a test that passed only in a retry counts as failed.
    #[serde(default)]
    pub flaky_fails: bool,
}

/// Whether there were guests, and each of them was skipped because the host cannot run it.
pub(crate) fn all_guests_skipped(results: &[TestResult]) -> bool {
    let is_guest = |result: &&TestResult| result.accelerator.is_some() || result.not_here;
    let mut guests = results.iter().filter(is_guest).peekable();
    guests.peek().is_some() && guests.all(|result| result.not_here)
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
            flaky: of(Outcome::Flaky),
            failed: of(Outcome::Failed),
            crashed: of(Outcome::Crashed),
            timed_out: of(Outcome::TimedOut),
            incomplete: of(Outcome::Incomplete),
            error: of(Outcome::Error),
            skipped: of(Outcome::Skipped),
        }
    }
}
