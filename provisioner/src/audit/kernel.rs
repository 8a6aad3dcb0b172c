//! A kernel that is installed and does not run yet, and whatever else waits for a reboot.

use std::fs;

use debversion::Version;
use toril_machine::{Facts, Machine, Probe};

use super::Finding;

/// What ends the release of Debian's kernels for this architecture, the longest first.
const FLAVOURS: [&str; 3] = ["-cloud-amd64", "-rt-amd64", "-amd64"];

pub(super) fn look(machine: &Machine, facts: &Facts) -> Vec<Finding> {
    let finding = |what| Finding { about: "kernel".into(), what, remedy: Some("reboot the host".into()) };
    let mut findings = Vec::new();
    // A container runs the kernel of the machine around it.
    if facts.container.is_none() {
        match Probe::of_io(fs::read_dir(machine.path("/boot")), "/boot") {
            Probe::Known(entries) => {
                let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
                let newest = newest(
                    names.filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned())),
                    &facts.kernel,
                );
                findings.extend(newest.map(|newest| {
                    finding(format!("{newest} is installed and newer than {}, which runs", facts.kernel))
                }));
            }
            Probe::Absent => {}
            Probe::Unreadable(reason) => findings.push(finding(format!("could not look: {reason}"))),
        }
    }
    findings.extend(facts.reboot_pending.iter().map(|why| finding(format!("a reboot is due: {why}"))));
    findings
}

/// The newest release that is of the running one's flavour and newer than it.
fn newest(installed: impl Iterator<Item = String>, running: &str) -> Option<String> {
    let (version, flavour) = split(running)?;
    let newer = installed.filter_map(|release| {
        let (candidate, other) = split(&release)?;
        (other == flavour && candidate > version).then_some((candidate, release))
    });
    newer.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, release)| release)
}

fn split(release: &str) -> Option<(Version, &'static str)> {
    let flavour = FLAVOURS.into_iter().find(|flavour| release.ends_with(flavour))?;
    Some((release.strip_suffix(flavour)?.parse().ok()?, flavour))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_newer_kernel_of_the_same_flavour_waits() {
        let newest_of = |installed: &[&str], running: &str| {
            newest(installed.iter().map(|release| (*release).to_owned()), running)
        };
        let releases = ["6.1.0-9-cloud-amd64", "6.1.0-31-cloud-amd64", "6.1.0-35-amd64"];
        assert_eq!(newest_of(&releases, "6.1.0-9-cloud-amd64").as_deref(), Some("6.1.0-31-cloud-amd64"));
        assert_eq!(newest_of(&releases, "6.1.0-31-cloud-amd64"), None);
        assert_eq!(newest_of(&releases, "6.1.0-35-amd64"), None);
        assert_eq!(
            newest_of(&["6.12.57+deb13-amd64"], "6.12.48+deb13-amd64").as_deref(),
            Some("6.12.57+deb13-amd64")
        );
        // Somebody's own kernel is compared with nothing.
        assert_eq!(newest_of(&releases, "5.10.0"), None);
    }
}
