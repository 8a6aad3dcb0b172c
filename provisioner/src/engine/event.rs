use serde::{Deserialize, Serialize};

use super::Plan;
use crate::resource::Change;

/// What happens while a recipe is planned or applied, as it happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A resource's changes are being carried out.
    Started {
        /// The resource's name.
        resource: String,
    },
    /// What is being done for it has printed a line.
    Progress {
        /// The resource's name.
        resource: String,
        /// The line.
        line: String,
    },
    /// What a resource will need is being fetched before its turn, while others are applied.
    Fetching {
        /// The resource's name.
        resource: String,
    },
    /// That has ended.
    Fetched {
        /// The resource's name.
        resource: String,
        /// How many packages came.
        packages: usize,
        /// Their bytes.
        bytes: u64,
        /// How long it took, in milliseconds.
        milliseconds: u64,
        /// Why it did not come to its end, which is no failure: the resource fetches in its turn what it lacks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trouble: Option<String>,
    },
    /// The changes are done, and the machine itself shows it.
    Changed {
        /// The resource's name.
        resource: String,
        /// What changed.
        changes: Vec<Change>,
        /// How long it took, in milliseconds.
        milliseconds: u64,
    },
    /// The changes could not be carried out, or did not take.
    Failed {
        /// The resource's name.
        resource: String,
        /// Why, and what to do.
        error: String,
    },
    /// Nothing was done for it, since what it stands on failed or the run was stopped.
    Skipped {
        /// The resource's name.
        resource: String,
        /// Why.
        reason: String,
    },
    /// The whole recipe was observed once more after the changes.
    Verified {
        /// What is left to do: nothing, in a recipe that is idempotent.
        plan: Plan,
    },
}

/// How many resources stand how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// As they should be.
    pub satisfied: usize,
    /// Changed in this run.
    pub changed: usize,
    /// In need of change.
    pub drifted: usize,
    /// Not possible here, which the recipe accepts.
    pub impossible: usize,
    /// Not to be judged before others are done.
    pub undecidable: usize,
    /// Failed, unreadable, or not possible though required.
    pub failed: usize,
    /// Not tried, since others failed.
    pub skipped: usize,
}
