use toril_machine::{Facts, KvmTrial};

use super::{Check, CheckState, KVM};

const FLAVOUR: &str = "the provider passes no virtualisation on to this host: choose a flavour with nested virtualisation, or \
    a bare-metal one; or have guests emulated, by `--accel tcg`";

/// Whether guests can run under KVM, now or once the recipe is carried out.
pub(super) fn check(facts: &Facts, trial: &KvmTrial) -> Check {
    let bad = |what: String, remedy: &str| Check::trouble(KVM, CheckState::Bad, what, remedy);
    match trial {
        KvmTrial::Works => Check::fine(KVM, trial.to_string()),
        KvmTrial::Missing => missing(facts),
        KvmTrial::NoDevice => {
            bad(trial.to_string(), "remove it, and load the module: `modprobe kvm_intel` or `kvm_amd`")
        }
        // toril asks as root, so only a container can have it so.
        KvmTrial::Forbidden => bad(format!("{trial}, not even by root"), "let the container use the device"),
        KvmTrial::Refused { .. } => bad(
            trial.to_string(),
            "see `dmesg | grep -i kvm` on the host: another hypervisor may hold the processor, or the firmware locks it",
        ),
        KvmTrial::Broken { .. } => bad(
            trial.to_string(),
            "the layer below this host emulates instead of running guests: choose another flavour or provider; or have \
             guests emulated, by `--accel tcg`",
        ),
        KvmTrial::Hangs { .. } => bad(
            trial.to_string(),
            "the layer below this host does not run guests: choose another flavour or provider; or have guests emulated, \
             by `--accel tcg`",
        ),
    }
}

fn missing(facts: &Facts) -> Check {
    let trouble = |state, what: &str, remedy: &str| Check::trouble(KVM, state, what, remedy);
    match (&facts.virtualization, &facts.container) {
        (None, _) if facts.guest => trouble(
            CheckState::Bad,
            "no /dev/kvm, and the processor shows neither vmx nor svm: this host is itself a guest",
            FLAVOUR,
        ),
        (None, _) => trouble(
            CheckState::Bad,
            "no /dev/kvm, and the processor shows neither vmx nor svm",
            "turn virtualisation (VT-x, AMD-V, SVM) on in the host's firmware",
        ),
        (Some(_), Some(container)) => trouble(
            CheckState::Bad,
            &format!(
                "no /dev/kvm in this container ({container}), though the processor shows virtualisation"
            ),
            "give the container the device /dev/kvm",
        ),
        (Some(flag), None) if facts.modules_loadable => {
            Check::fine(KVM, format!("the processor shows {flag}; the recipe loads the module"))
        }
        (Some(flag), None) => trouble(
            CheckState::Doubtful,
            &format!(
                "the processor shows {flag}, and there are no modules of the running kernel {}",
                facts.kernel
            ),
            "reboot into the kernel that is installed",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Release, sample_facts};

    #[test]
    fn what_can_never_be_is_told_from_what_the_recipe_brings() {
        let host = || sample_facts(Release::parse("debian 12").unwrap());
        let with = |virtualization: Option<&str>, guest, container: Option<&str>, modules_loadable| {
            toril_machine::Facts {
                virtualization: virtualization.map(str::to_owned),
                container: container.map(str::to_owned),
                guest,
                modules_loadable,
                ..host()
            }
        };
        for (facts, state, words) in [
            (with(Some("svm"), true, None, true), CheckState::Fine, "the recipe loads the module"),
            (with(None, true, None, true), CheckState::Bad, "nested virtualisation"),
            (with(None, false, None, true), CheckState::Bad, "firmware"),
            (with(Some("vmx"), true, Some("lxc"), false), CheckState::Bad, "give the container"),
            (with(Some("vmx"), true, None, false), CheckState::Doubtful, "reboot"),
        ] {
            let check = check(&facts, &KvmTrial::Missing);
            assert_eq!(check.state, state, "{check:?}");
            assert!(format!("{check:?}").contains(words), "{check:?}");
        }
        let broken = KvmTrial::Broken { how: "KVM internal error 1".into() };
        assert_eq!(check(&host(), &broken).state, CheckState::Bad);
        assert_eq!(check(&host(), &KvmTrial::Works).state, CheckState::Fine);
    }
}
