use std::fmt;

use serde::{Deserialize, Serialize};

/// What a sandbox is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A container over this machine's kernel: up in a second; no modules, no systemd, no reboot.
    #[default]
    Container,
    /// A virtual machine with its own kernel, systemd and udev: up in a quarter of a minute where it is emulated.
    VirtualMachine,
}

impl Kind {
    pub(crate) fn of(machine: Option<&Machine>) -> Kind {
        machine.map_or(Kind::Container, |_| Kind::VirtualMachine)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Container => "container",
            Kind::VirtualMachine => "virtual machine",
        })
    }
}

/// What runs a virtual machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The processor. Only for a /dev/kvm under which real kernels run, which the caller has to find out; whether KVM
    /// works inside as well depends on this machine's nested virtualisation.
    Kvm,
    /// QEMU, which translates them: some ten times slower, everywhere. The processor that it shows has AMD's
    /// virtualisation, so KVM works inside.
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

/// A virtual machine to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// What runs it.
    pub accelerator: Accelerator,
    /// Its memory in MiB.
    pub memory: u32,
    /// How many processors it has. Emulated ones take turns.
    pub cpus: u32,
}

impl Machine {
    /// One of the usual size: 2 GiB, and two processors, or the one that is emulated without waiting for another.
    pub fn new(accelerator: Accelerator) -> Machine {
        let cpus = match accelerator {
            Accelerator::Kvm => 2,
            Accelerator::Tcg => 1,
        };
        Machine { accelerator, memory: 2048, cpus }
    }
}
