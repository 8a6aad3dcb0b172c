use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::accelerator::{Accelerator, KvmState};

/// Something that a host must be able to do for guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// QEMU's microvm starts a guest that reaches 64-bit mode and prints.
    Boot,
    /// The processor runs its instructions, at its own speed.
    Acceleration,
    /// The host's own kernel boots as a guest, up to its first program.
    HostKernel,
    /// A guest reads a file of the host.
    VirtioFs,
    /// A guest and the host exchange messages.
    Vsock,
    /// A TCP client reaches a guest.
    Forwarding,
}

impl Probe {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Probe; 6] = [
        Probe::Acceleration,
        Probe::Boot,
        Probe::HostKernel,
        Probe::VirtioFs,
        Probe::Vsock,
        Probe::Forwarding,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Probe::Boot => "boot",
            Probe::Acceleration => "acceleration",
            Probe::HostKernel => "host-kernel",
            Probe::VirtioFs => "virtio-fs",
            Probe::Vsock => "vsock",
            Probe::Forwarding => "forwarding",
        }
    }

    /// What a test has that needs it.
    pub(crate) fn needed(self) -> &'static str {
        match self {
            Probe::Boot => "a guest that boots",
            Probe::Acceleration => "KVM",
            Probe::HostKernel => "the host's kernel as a guest",
            Probe::VirtioFs => "virtio-fs",
            Probe::Vsock => "a vsock",
            Probe::Forwarding => "a forwarded port",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Probe> {
        Probe::ALL.into_iter().find(|probe| probe.name() == name)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When the host's own kernel is booted: that takes longer than all other probes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnKernel {
    /// It is not.
    #[default]
    Never,
    /// Where guests run under KVM.
    UnderKvm,
    /// Emulated too.
    Always,
}

/// What came of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeState {
    /// It was seen to work.
    Works,
    /// It was tried and does not work.
    Broken,
    /// It cannot be tried here.
    Untried,
}

/// A probe that was carried out, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Which.
    pub probe: Probe,
    /// What came of it.
    pub state: ProbeState,
    /// What was seen, with its figure; or why not.
    pub what: String,
    /// What to do about it; nothing where it works.
    pub remedy: Option<String>,
    /// Whether the host can do without: its kind cannot have it, or nothing here needs it.
    pub accepted: bool,
    /// How long it took.
    pub milliseconds: u64,
    /// Whether it does not work only in that it was not done in time.
    #[serde(default)]
    pub timed_out: bool,
}

/// What a host was seen to be able to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The probes, in the order in which they were tried.
    pub probes: Vec<ProbeResult>,
    /// What was seen of KVM; nothing where it was not tried.
    pub kvm: Option<KvmState>,
    /// What guests ran under.
    pub accelerator: Option<Accelerator>,
    /// What was measured, such as `boot-time`, with its unit.
    pub figures: BTreeMap<String, String>,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

impl Verified {
    /// Whether guests were seen not to boot at all, as slow ones do.
    pub fn boots_none(&self) -> bool {
        let is_none = |result: &ProbeResult| {
            result.probe == Probe::Boot && result.state != ProbeState::Works && !result.timed_out
        };
        self.probes.iter().any(is_none)
    }

    /// Whether everything works that is not accepted as it is; `required` are those that are not accepted in any case.
    pub fn is_ready(&self, required: &[Probe]) -> bool {
        let is_fine = |result: &ProbeResult| {
            result.state == ProbeState::Works || result.accepted && !required.contains(&result.probe)
        };
        let is_tried = |probe: Probe| self.probes.iter().any(|result| result.probe == probe);
        let must_be = |probe: &Probe| *probe != Probe::HostKernel || required.contains(probe);
        let all_tried = Probe::ALL.into_iter().filter(must_be).all(is_tried);
        !self.stopped && all_tried && self.probes.iter().all(is_fine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_counts_only_where_it_is_required() {
        let result = |probe, state, accepted| ProbeResult {
            probe,
            state,
            what: String::new(),
            remedy: None,
            accepted,
            milliseconds: 0,
            timed_out: false,
        };
        let verified = |state, accepted| Verified {
            probes: Probe::ALL
                .into_iter()
                .map(|probe| match probe {
                    Probe::Vsock => result(probe, state, accepted),
                    other => result(other, ProbeState::Works, false),
                })
                .collect(),
            ..Verified::default()
        };
        assert!(verified(ProbeState::Works, false).is_ready(&[Probe::Vsock]));
        assert!(!verified(ProbeState::Broken, false).is_ready(&[]));
        assert!(verified(ProbeState::Untried, true).is_ready(&[Probe::Boot]));
        assert!(!verified(ProbeState::Untried, true).is_ready(&[Probe::Vsock]));
        let half =
            Verified { probes: vec![result(Probe::Boot, ProbeState::Works, false)], ..Verified::default() };
        let mut short = verified(ProbeState::Works, false);
        short.probes.retain(|result| result.probe != Probe::HostKernel);
        assert!(
            short.is_ready(&[]) && !short.is_ready(&[Probe::HostKernel]),
            "it takes long, so it may be left out"
        );
        assert!(!half.is_ready(&[]), "what was not tried to the end shows nothing");
    }
}
