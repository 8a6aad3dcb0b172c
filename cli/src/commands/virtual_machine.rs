//! What `sandbox up --vm` makes, and what that runs under.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use toril_runner::KvmState;
use toril_sandbox::{Accelerator, Machine};

use crate::arguments::{Accel, VirtualMachine};
use crate::view::{Shown, View};

/// What the command line says, under this accelerator where it says nothing of that.
pub(super) fn requested(arguments: &VirtualMachine, otherwise: Accelerator) -> Machine {
    let usual = Machine::new(match arguments.accel {
        Some(Accel::Kvm) => Accelerator::Kvm,
        Some(Accel::Tcg) => Accelerator::Tcg,
        None => otherwise,
    });
    let memory = u32::try_from(arguments.memory >> 20).unwrap_or(u32::MAX);
    Machine { memory, cpus: arguments.cpus.unwrap_or(usual.cpus), ..usual }
}

/// What a virtual machine runs under here: KVM only if a guest was seen to run under it.
pub(super) fn accelerator(view: &View) -> Accelerator {
    if !Path::new("/dev/kvm").exists() {
        return Accelerator::Tcg;
    }
    let state = toril_runner::probe_kvm(&toril_runner::Options::default(), "root", &AtomicBool::new(false));
    let accelerator = if state == KvmState::Usable { Accelerator::Kvm } else { Accelerator::Tcg };
    let text = format!("on this machine, {state}: the virtual machine runs under {accelerator}");
    view.show(None, &Shown::Note { text: &text });
    accelerator
}
