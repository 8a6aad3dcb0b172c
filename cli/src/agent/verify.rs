use std::sync::atomic::AtomicBool;

use toril_machine::{Facts, KvmTrial, Machine};
use toril_provisioner::Check;
use toril_runner::{AcceleratorPolicy, Background, Options, OwnKernel, Probe, ProbeResult, Verified};

use super::worker::TEST_USER;

/// Boots guests that show what this machine can do. An error is why it could not be looked at.
pub(super) fn verify(
    emulation: bool,
    own_kernel: OwnKernel,
    required: &[Probe],
    sink: &mut dyn FnMut(&ProbeResult),
    stop: &AtomicBool,
) -> Result<Verified, String> {
    let machine = Machine::this();
    let facts = machine.facts().map_err(|error| error.to_string())?;
    let kvm = || {
        let program = format!("/proc/{}/exe", std::process::id());
        let trial = toril_machine::try_kvm_apart(&[program.into(), "try-kvm".into()]).ok()?;
        Some(why_no_kvm(&facts, &trial))
    };
    let (container, guest) = (facts.container.is_some(), facts.guest);
    let background = Background { container, guest, own_kernel, required, kvm: &kvm };
    let policy = AcceleratorPolicy { requested: None, tcg_allowed: emulation };
    let options = Options { accelerator: policy, ..Options::default() };
    let mut verified = toril_runner::verify(&options, TEST_USER, &background, sink, stop);
    if let Some(steal) = machine.stolen_time() {
        verified.figures.insert("steal-time".into(), steal);
    }
    Ok(verified)
}

/// What is seen of KVM without QEMU, and what to do about it, if anything is wrong.
fn why_no_kvm(facts: &Facts, trial: &KvmTrial) -> (String, Option<String>) {
    let Check { what, remedy, .. } = toril_provisioner::check_kvm(facts, trial);
    match (trial, &remedy, &facts.virtualization) {
        // That is fine before the recipe is carried out, and not afterwards.
        (KvmTrial::Missing, None, Some(flag)) => {
            let module = if flag == "svm" { "kvm_amd" } else { "kvm_intel" };
            let what =
                format!("no /dev/kvm, though the processor shows {flag}: the module {module} is not loaded");
            let remedy = format!(
                "`modprobe {module}`, and see that nothing in /etc/modprobe.d keeps it away; `toril apply HOST` with the \
                 recipe microvm-host has it loaded at every boot"
            );
            (what, Some(remedy))
        }
        _ => (what, remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_not_loaded_is_named() {
        let facts = Machine::this().facts().unwrap();
        let facts =
            Facts { virtualization: Some("svm".into()), container: None, modules_loadable: true, ..facts };
        let (what, remedy) = why_no_kvm(&facts, &KvmTrial::Missing);
        assert_eq!(what, "no /dev/kvm, though the processor shows svm: the module kvm_amd is not loaded");
        assert!(remedy.unwrap().contains("`modprobe kvm_amd`"));
        let (what, remedy) = why_no_kvm(&facts, &KvmTrial::Hangs { seconds: 2 });
        assert!(what.contains("hang") && remedy.unwrap().contains("flavour"), "{what}");
        assert_eq!(why_no_kvm(&facts, &KvmTrial::Works).1, None);
    }
}
