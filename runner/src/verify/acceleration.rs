use std::collections::BTreeMap;
use std::time::Duration;

use super::bench::{Bench, metric, time};
use super::{Answer, native, remedy};
use crate::accelerator::{Accelerator, KvmState, kvm_state};
use crate::execute::Executed;
use crate::suite::Test;
use crate::verdict::Outcome;

/// How much work there is of each kind; probes.toml has the same numbers.
const INTEGERS: u64 = 4_000_000;
const CHANGES: u64 = 1_000_000;
const TRAPS: u64 = 200;

/// It has more to do than other probes.
const ACCELERATION_DEADLINE: Duration = Duration::from_secs(5);

/// A guest that computes so many times slower than the host is emulated, whatever it says it runs under.
const EMULATED: u64 = 5;

const OTHER_HOST: &str = "the layer below this host does not run guests at the processor's speed: choose a flavour with nested \
    virtualisation, or a bare-metal one; or have guests emulated, by `--accel tcg`";

impl Bench<'_> {
    /// What is to be said of KVM, and of emulation where that is all there is.
    pub(super) fn acceleration(&self, figures: &mut BTreeMap<String, String>) -> (KvmState, Answer) {
        let (state, executed) = match self.test("acceleration", Accelerator::Kvm, &[]) {
            Ok(test) => {
                kvm_state(&self.stage, &Test { deadline: test.deadline.max(ACCELERATION_DEADLINE), ..test })
            }
            Err(why) => (KvmState::Unknown { why }, None),
        };
        if let (KvmState::Usable, Some(executed)) = (&state, &executed) {
            let answer = self.speed(executed, figures);
            return (state, answer);
        }
        let (mut what, remedy) = self.without_kvm(&state);
        figures.insert("accelerator".into(), "TCG".into());
        if let Some(emulated) = self.emulated(figures) {
            what.push_str(&emulated);
        }
        (state, Answer::broken(what, remedy).accepted(self.emulation))
    }

    fn speed(&self, executed: &Executed, figures: &mut BTreeMap<String, String>) -> Answer {
        figures.insert("accelerator".into(), "KVM".into());
        let seen = measure(executed, figures);
        match seen.slowness {
            Some(slowness) if slowness >= EMULATED => Answer::broken(
                format!(
                    "KVM opens but emulates: it computes {slowness} times slower than the host{}",
                    seen.words
                ),
                OTHER_HOST,
            )
            .accepted(self.emulation),
            _ => Answer::works(format!(
                "guests run under KVM with -cpu host, at the processor's speed{}",
                seen.words
            )),
        }
    }

    /// Why KVM cannot be used, and what to do: what is known without a guest says more where there is no KVM at all.
    fn without_kvm(&self, state: &KvmState) -> (String, String) {
        if let KvmState::NoPermission { user } = state {
            return (state.to_string(), remedy::permission(user));
        }
        let Some((seen, advice)) = (self.background.kvm)() else {
            return (state.to_string(), OTHER_HOST.into());
        };
        let what = if *state == KvmState::NoDevice { seen } else { format!("{state}; without QEMU: {seen}") };
        // Where nothing is wrong with KVM itself, QEMU is to blame.
        (what, advice.unwrap_or_else(|| remedy::REINSTALL.into()))
    }

    /// What emulated guests can do instead.
    fn emulated(&self, figures: &mut BTreeMap<String, String>) -> Option<String> {
        let test = self.test("acceleration", Accelerator::Tcg, &[]).ok()?;
        let executed = self.run(&test, Accelerator::Tcg);
        if executed.verdict.outcome != Outcome::Passed {
            return Some(format!(
                "; emulated (TCG) the same guest does not work either: {}",
                executed.verdict.reason
            ));
        }
        let seen = measure(&executed, figures);
        let slowness = seen.slowness.filter(|times| *times > 1);
        let slowness =
            slowness.map(|times| format!(", {times} times slower than the host")).unwrap_or_default();
        Some(format!("; emulated (TCG) the same guest works{slowness}{}", seen.words))
    }
}

struct Seen {
    /// Of multiplications: their time is the processor's alone.
    slowness: Option<u64>,
    words: String,
}

fn measure(executed: &Executed, figures: &mut BTreeMap<String, String>) -> Seen {
    let took = |kind: &str| metric(executed, &format!("work-{kind}-time")).map(Duration::from_micros);
    let mut words = Vec::new();
    let mut slowness = None;
    for (kind, what, count, native) in [
        ("integer", "multiplications", INTEGERS, native::integer as fn(u64) -> Duration),
        ("memory", "changes of memory", CHANGES, native::memory),
    ] {
        let Some(guest) = took(kind) else { continue };
        let host = native(count).max(Duration::from_micros(1));
        if kind == "integer" {
            slowness = u64::try_from(guest.as_nanos() / host.as_nanos().max(1)).ok();
        }
        words.push(format!("{count} {what} took it {} and the host {}", time(guest), time(host)));
        figures.insert(format!("work-{kind}"), time(guest));
        figures.insert(format!("work-{kind}-host"), time(host));
    }
    for (kind, what) in [("cpuid", "a trap to the hypervisor"), ("port", "one to QEMU")] {
        if let Some(guest) = took(kind) {
            let each = guest.as_nanos() / u128::from(TRAPS);
            words.push(format!("{what} takes {each} ns"));
            figures.insert(format!("work-{kind}"), format!("{each} ns"));
        }
    }
    let host = native::cpuid(TRAPS).as_nanos() / u128::from(TRAPS);
    figures.insert("work-cpuid-host".into(), format!("{host} ns"));
    let words = if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) };
    Seen { slowness, words }
}
