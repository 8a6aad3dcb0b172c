//! A kernel that is installed and does not run yet, and whatever else waits for a reboot.

use std::fs;

use toril_machine::{Facts, Machine, Probe};

use super::Finding;

pub(super) fn look(machine: &Machine, facts: &Facts) -> Vec<Finding> {
    let finding = |what, remedy| Finding { about: "kernel".into(), what, remedy };
    let mut findings = Vec::new();
    // The kernels there have a say in whether a reboot is due.
    if let Probe::Unreadable(reason) = Probe::of_io(fs::read_dir(machine.path("/boot")), "/boot") {
        findings.push(finding(format!("could not look: {reason}"), None));
    }
    let due = facts.reboot_pending.iter();
    findings.extend(due.map(|why| {
        finding(
            format!("a reboot is due: {why}"),
            Some("toril apply HOST --reboot, or reboot the host".into()),
        )
    }));
    findings
}
