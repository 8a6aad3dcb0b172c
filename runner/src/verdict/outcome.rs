use serde::{Deserialize, Serialize};

use crate::event::Summary;

/// What came of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every expected case was reported and passed, and it ended as it should.
    Passed,
    /// It passed in a retry, after it had not passed before.
    Flaky,
    /// A case reported failure, or it ended in an orderly way but not as it should.
    Failed,
    /// The guest panicked or triple-faulted, printed without end, or QEMU died.
    Crashed,
    /// No end within the deadline.
    TimedOut,
    /// It ended, but reported no case, or fewer than expected.
    Incomplete,
    /// It never started: the host or the set-up is to blame.
    Error,
    /// The host cannot run it, the run was stopped, or all that it reported was skipped.
    Skipped,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 8] = [
        Outcome::Passed,
        Outcome::Flaky,
        Outcome::Failed,
        Outcome::Crashed,
        Outcome::TimedOut,
        Outcome::Incomplete,
        Outcome::Error,
        Outcome::Skipped,
    ];

    /// In words, such as `timed out`.
    pub fn words(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Flaky => "flaky",
            Outcome::Failed => "failed",
            Outcome::Crashed => "crashed",
            Outcome::TimedOut => "timed out",
            Outcome::Incomplete => "incomplete",
            Outcome::Error => "error",
            Outcome::Skipped => "skipped",
        }
    }

    /// Whether it speaks against the code that was tested. A flaky test does where a run is told to take it so.
    pub fn blames_the_code(self) -> bool {
        matches!(self, Outcome::Failed | Outcome::Crashed | Outcome::TimedOut | Outcome::Incomplete)
    }
}

/// A run's exit status: 1 where it was stopped; 5 where a test is an error, none ran, or the machine can run none of
/// the guests; 4 where the code is to blame, for a flaky test only where that is asked for; else 0.
pub fn exit_status(summary: &Summary) -> u8 {
    let has = |wanted: fn(Outcome) -> bool| summary.results.iter().any(|result| wanted(result.outcome));
    if summary.stopped {
        1
    } else if summary.no_guests
        || has(|outcome| outcome == Outcome::Error)
        || !has(|outcome| outcome != Outcome::Skipped)
    {
        5
    } else if has(Outcome::blames_the_code)
        || (summary.flaky_fails && has(|outcome| outcome == Outcome::Flaky))
    {
        4
    } else {
        0
    }
}
