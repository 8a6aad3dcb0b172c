use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::FileTypeExt;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toril_machine::Probe;

use crate::execute::{Executed, Stage};
use crate::run::Options;
use crate::suite::{AcceleratorChoice, Action, CaseRules, ExpectedEnd, GuestSettings, Kernel, Test};
use crate::verdict::{Outcome, Verdict};
use crate::{CaseFormat, toolkit};

/// What runs a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU, which translates them.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg => "TCG",
        })
    }
}

/// What the user says of the accelerator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorPolicy {
    /// This one, whatever the suite says.
    pub requested: Option<Accelerator>,
    /// Whether TCG will do where KVM does not work: on sandboxes.
    pub tcg_allowed: bool,
}

/// What came of booting a guest under KVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum KvmState {
    /// Real instructions run under it: long mode, SSE, page faults, MSRs, interrupts.
    Usable,
    /// There is no /dev/kvm, or nothing behind it.
    NoDevice,
    /// The user whom the tests run as may not open it.
    NoPermission {
        /// That user.
        user: String,
    },
    /// It opens, and a guest dies under it.
    OpensButGuestsDie {
        /// What was seen.
        how: String,
    },
    /// It could not be tried.
    Unknown {
        /// Why.
        why: String,
    },
}

impl fmt::Display for KvmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvmState::Usable => f.write_str("guests run under KVM"),
            KvmState::NoDevice => f.write_str("there is no working /dev/kvm"),
            KvmState::NoPermission { user } => {
                write!(
                    f,
                    "the user {user} may not open /dev/kvm (group kvm is missing, or the device's mode)"
                )
            }
            KvmState::OpensButGuestsDie { how } => {
                write!(f, "/dev/kvm opens but guests die under it ({how})")
            }
            KvmState::Unknown { why } => write!(f, "KVM could not be tried ({why})"),
        }
    }
}

/// What guests will run under and why, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub accelerator: Option<Accelerator>,
    pub reason: String,
}

/// Decides what guests run under; KVM is tried only where it matters.
pub(crate) fn choose(
    policy: AcceleratorPolicy,
    suite: AcceleratorChoice,
    probe: impl FnOnce() -> KvmState,
) -> Choice {
    let wanted = match (policy.requested, suite) {
        (Some(accelerator), _) => Some((accelerator, "--accel asks for it")),
        (None, AcceleratorChoice::Only(accelerator)) => Some((accelerator, "the suite asks for it")),
        (None, AcceleratorChoice::Auto) => None,
    };
    if let Some((Accelerator::Tcg, why)) = wanted {
        return Choice { accelerator: Some(Accelerator::Tcg), reason: format!("using TCG: {why}") };
    }
    let state = probe();
    let (accelerator, consequence) = match (&state, wanted) {
        (KvmState::Usable, _) => (Some(Accelerator::Kvm), "; using it".to_owned()),
        (_, Some((_, why))) => (None, format!("; guests cannot run, for KVM it must be: {why}")),
        (_, None) if policy.tcg_allowed => (Some(Accelerator::Tcg), "; using TCG".to_owned()),
        (_, None) => (None, "; guests cannot run: TCG is allowed here only by --accel tcg".to_owned()),
    };
    Choice { accelerator, reason: format!("{state}{consequence}") }
}

const KVM: &str = "/dev/kvm";

/// How long a guest may take to show that it runs.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);

/// Boots the built-in guest under KVM as the user `run_as`, for real: that /dev/kvm exists proves nothing.
pub fn probe_kvm(options: &Options, run_as: &str, stop: &AtomicBool) -> KvmState {
    match Stage::set_up(options, run_as, stop) {
        Ok(stage) => probe_on(&stage),
        Err(why) => KvmState::Unknown { why },
    }
}

pub(crate) fn probe_on(stage: &Stage<'_>) -> KvmState {
    kvm_state(stage, &probe_test()).0
}

/// What the guest of a test shows of KVM, and what came of it where it was booted.
pub(crate) fn kvm_state(stage: &Stage<'_>, test: &Test) -> (KvmState, Option<Executed>) {
    match Probe::of_io(std::fs::symlink_metadata(KVM), KVM) {
        // QEMU would blame whatever comes first, such as the mode of what is no device at all.
        Probe::Known(metadata) if !is_device(&metadata) => return (KvmState::NoDevice, None),
        Probe::Known(_) => {}
        Probe::Absent => return (KvmState::NoDevice, None),
        Probe::Unreadable(why) => return (KvmState::Unknown { why }, None),
    }
    let executed = stage.execute(test, Some(Accelerator::Kvm), &mut |_| {});
    (state_of(&executed.verdict, stage.user()), Some(executed))
}

/// A link leads to one, as far as can be told here.
fn is_device(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() || metadata.file_type().is_symlink()
}

fn state_of(verdict: &Verdict, user: &str) -> KvmState {
    let about_kvm = |text: &str| {
        let reason = verdict.reason.to_ascii_lowercase();
        reason.contains("kvm") && reason.contains(text)
    };
    match verdict.outcome {
        Outcome::Passed => KvmState::Usable,
        Outcome::Error if about_kvm("permission denied") => KvmState::NoPermission { user: user.to_owned() },
        Outcome::Error if about_kvm("no such") => KvmState::NoDevice,
        Outcome::Error
            if !about_kvm("failed to initialize") && !verdict.reason.starts_with("QEMU was killed") =>
        {
            KvmState::Unknown { why: verdict.reason.clone() }
        }
        Outcome::Skipped => KvmState::Unknown { why: verdict.reason.clone() },
        _ => KvmState::OpensButGuestsDie { how: verdict.reason.clone() },
    }
}

fn probe_test() -> Test {
    let guest = GuestSettings {
        append: format!("mode={}", toolkit::contract::Mode::Pass.name()),
        ..GuestSettings::new(Kernel::Toolkit, ExpectedEnd::ExitStatus(toolkit::STATUS_ENDED))
    };
    let cases = CaseRules {
        format: CaseFormat::toril(),
        expected: toolkit::contract::CASES.map(str::to_owned).to_vec(),
        count: None,
        from: Vec::new(),
        only_expected: false,
    };
    Test {
        deadline: PROBE_DEADLINE,
        output_limit: 1 << 20,
        cases: Some(cases),
        ..Test::new("acceleration", Action::Guest(guest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice() {
        use Accelerator::{Kvm, Tcg};
        use AcceleratorChoice::{Auto, Only};
        let usable = || KvmState::Usable;
        let dies = || KvmState::OpensButGuestsDie { how: "QEMU was killed by SIGABRT".into() };
        let policy = |requested, tcg_allowed| AcceleratorPolicy { requested, tcg_allowed };
        for (policy, suite, state, expected) in [
            (policy(None, false), Auto, usable(), Some(Kvm)),
            (policy(None, true), Auto, usable(), Some(Kvm)),
            (policy(None, true), Auto, dies(), Some(Tcg)),
            (policy(None, false), Auto, dies(), None),
            (policy(None, true), Only(Kvm), dies(), None),
            (policy(Some(Kvm), true), Auto, dies(), None),
            (policy(Some(Tcg), false), Only(Kvm), dies(), Some(Tcg)),
            (policy(None, false), Only(Tcg), usable(), Some(Tcg)),
            (policy(Some(Kvm), false), Only(Tcg), usable(), Some(Kvm)),
        ] {
            let choice = choose(policy, suite, || state.clone());
            assert_eq!(choice.accelerator, expected, "{policy:?} {suite:?} {state:?}: {}", choice.reason);
        }
        let choice = choose(policy(None, true), Auto, dies);
        assert_eq!(
            choice.reason,
            "/dev/kvm opens but guests die under it (QEMU was killed by SIGABRT); using TCG"
        );
    }

    #[test]
    fn kvm_is_not_tried_where_it_does_not_matter() {
        let policy = AcceleratorPolicy { requested: Some(Accelerator::Tcg), tcg_allowed: false };
        choose(policy, AcceleratorChoice::Auto, || panic!("tried"));
    }
}
