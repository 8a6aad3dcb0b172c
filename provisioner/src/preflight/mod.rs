//! Whether a machine can become what a recipe makes of it, as far as that can be known before anything is installed.
//! Reads only.

mod archive_keys;
mod kvm;
mod mirror;
mod room;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use toril_machine::{Facts, KvmTrial, Machine};

/// One thing that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was asked about, such as `memory`.
    pub name: String,
    /// How it stands.
    pub state: CheckState,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    /// It is as it should be.
    Fine,
    /// It could not be found out.
    Unknown,
    /// It may be too little, or go wrong.
    Doubtful,
    /// The machine cannot do the job.
    Bad,
}

impl Check {
    /// Something that is as it should be.
    pub fn fine(name: &str, what: impl Into<String>) -> Check {
        Check { name: name.into(), state: CheckState::Fine, what: what.into(), remedy: None }
    }

    /// Something that is not, or of which it is not known, and what to do about it.
    pub fn trouble(
        name: &str,
        state: CheckState,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Check {
        Check { name: name.into(), state, what: what.into(), remedy: Some(remedy.into()) }
    }
}

/// The name of the check that tells whether guests can run under KVM.
pub const KVM: &str = "KVM";

/// Whether guests can run under KVM, now or once a recipe is carried out, by what came of trying it.
pub fn check_kvm(facts: &Facts, trial: &KvmTrial) -> Check {
    kvm::check(facts, trial)
}

/// Asks everything that can be asked. `trial` is what came of trying KVM; `network`: whether mirrors are asked to answer,
/// which may take seconds; `clock` is the client's, counted from 1970.
pub fn preflight(
    machine: &Machine,
    facts: &Facts,
    trial: &KvmTrial,
    network: bool,
    clock: Duration,
) -> Vec<Check> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut checks = vec![
        check_kvm(facts, trial),
        room::memory(facts.memory),
        room::disk(facts.disk_free),
        check_clock(now, clock),
        archive_keys::check(machine, facts, SystemTime::now()),
    ];
    if network {
        checks.push(mirror::check(machine));
    }
    checks
}

/// Signatures of package lists are not valid yet, or no more, where the clock is wrong.
fn check_clock(host: Duration, client: Duration) -> Check {
    const NAME: &str = "clock";
    const TOLERANCE: Duration = Duration::from_secs(120);
    let off = host.abs_diff(client);
    if off <= TOLERANCE {
        return Check::fine(NAME, format!("as this machine's, within {} s", TOLERANCE.as_secs()));
    }
    let way = if host > client { "ahead of" } else { "behind" };
    let what = format!("{} s {way} this machine's", off.as_secs());
    let remedy =
        "set it (`timedatectl set-ntp true`): package lists whose signatures are not valid yet are refused";
    Check::trouble(NAME, CheckState::Doubtful, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_told() {
        let at = Duration::from_secs;
        assert_eq!(check_clock(at(1000), at(1100)).state, CheckState::Fine);
        let behind = check_clock(at(1000), at(9000));
        assert_eq!(
            (behind.state, behind.what.as_str()),
            (CheckState::Doubtful, "8000 s behind this machine's")
        );
        assert!(check_clock(at(9000), at(1000)).what.contains("ahead of"));
    }
}
