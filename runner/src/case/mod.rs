//! Cases: what a test reports of its parts, in which format, and what came of it.

mod format;
mod log;
mod tap;

use serde::{Deserialize, Serialize};

use crate::capture::kept;

pub use format::{CaseFormat, LineFormat};
pub(crate) use log::{CaseLog, MOST_BYTES, MOST_CASES};

/// A case that a test reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Its name, unique within its test.
    pub name: String,
    /// What was reported of it.
    pub result: CaseResult,
    /// Why, where that was said; empty otherwise.
    pub reason: String,
}

/// What a test reported of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseResult {
    /// It passed.
    Passed,
    /// It failed, or its result is none that the format knows.
    Failed,
    /// It was not tried, or its failure is known and not counted.
    Skipped,
}

impl Case {
    /// With as much of its texts as is kept.
    fn shortened(self) -> Case {
        Case { name: kept(&self.name), reason: kept(&self.reason), ..self }
    }
}

impl CaseResult {
    /// In a word, such as `passed`.
    pub fn word(self) -> &'static str {
        match self {
            CaseResult::Passed => "passed",
            CaseResult::Failed => "failed",
            CaseResult::Skipped => "skipped",
        }
    }

    /// Whether it is worse than another result of the same case.
    fn is_worse_than(self, other: CaseResult) -> bool {
        let rank = |result| match result {
            CaseResult::Passed => 0,
            CaseResult::Skipped => 1,
            CaseResult::Failed => 2,
        };
        rank(self) > rank(other)
    }
}
