use serde::Serialize;
use toril_machine::{Comparison, Facts, Fingerprint};
use toril_provisioner::{Check, Finding, Plan};
use toril_runner::KeptFolder;

use super::{Promise, Trial};
use crate::agent::{Footprint, RunEvent};

/// Something that happened, as all views get it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Shown<'e> {
    /// What will be used, and where each comes from.
    Choices { recipe: Option<&'e Choice>, suite: Option<&'e Choice>, hosts: &'e [String] },
    /// Something is being done that may take a while.
    Step { text: &'e str },
    /// Something that the user should know.
    Note { text: &'e str },
    /// The host was reached and its agent answers.
    Connected {
        transport: &'e str,
        key_exchange: Option<&'e str>,
        host_key: Option<&'e str>,
        /// What is to be said of a key exchange that could be stronger.
        #[serde(skip_serializing_if = "Option::is_none")]
        weaker: Option<&'e str>,
        /// How many connections the host had closed before the login, before this one.
        #[serde(skip_serializing_if = "is_none")]
        closed_before: u32,
        /// Bytes sent, where the agent had to be put there.
        uploaded: Option<usize>,
    },
    /// What the host is.
    Facts { facts: &'e Facts },
    /// What of the host can move a test's result, and what of it was different before.
    Fingerprint {
        fingerprint: &'e Fingerprint,
        /// Its short name.
        id: &'e str,
        #[serde(flatten)]
        comparison: Option<&'e Comparison>,
    },
    /// What became of the host between two fingerprints that were kept of it.
    Compared {
        #[serde(flatten)]
        comparison: &'e Comparison,
    },
    /// What was asked of a machine before it is used, and how it stands. `all`: also what is as it should be.
    Checks { checks: &'e [Check], all: bool },
    /// What the host lacks.
    Plan {
        plan: &'e Plan,
        /// Whether it is what the command is about, or what somebody is asked to agree to: said even if little is.
        #[serde(skip)]
        matters: bool,
    },
    /// What is wrong with the host beyond its recipe, and whether that is drift.
    Findings { findings: &'e [Finding], drift: bool },
    /// Something happened in a run on the host.
    Run { run: &'e RunEvent },
    /// The connection was lost in a run, and is being made again.
    Lost { reason: &'e str },
    /// The host is back after a reboot.
    Rebooted {
        /// From when it was asked for.
        milliseconds: u64,
    },
    /// What the tests of a run printed is here now.
    Artifacts { directory: &'e str },
    /// What runs have left on the host on purpose, and whether it was to be removed.
    Kept { folders: &'e [KeptFolder], removed: bool },
    /// What of toril is on the host, and what stays; or what came of removing it.
    Footprint {
        #[serde(flatten)]
        footprint: &'e Footprint,
        removed: bool,
    },
    /// How a recipe's trials came out.
    RecipeTest { recipe: &'e str, trials: &'e [Trial] },
    /// What was promised of a host, and what of it held; the file that all of it was written to.
    Acceptance { file: &'e str, complete: bool, promises: &'e [Promise] },
    /// Something could not be done.
    Problem {
        doing: &'e str,
        error: &'e str,
        /// What to try.
        #[serde(skip_serializing_if = "Option::is_none")]
        remedy: Option<&'e str>,
    },
}

/// A recipe or suite that was chosen.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Choice {
    pub(crate) name: String,
    /// Such as `built-in` or a file's path.
    pub(crate) origin: String,
    /// Where it was chosen, such as `the command line`.
    pub(crate) chosen: String,
    pub(crate) description: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_none(count: &u32) -> bool {
    *count == 0
}
