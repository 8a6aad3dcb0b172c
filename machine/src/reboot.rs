use std::cmp::Ordering;
use std::fs;
use std::time::Duration;

use debversion::Version;

use crate::{Command, CommandError, Machine, Probe};

/// Made anew by the kernel at every boot: random(4).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Machine {
    /// The name of the boot that this is, which no other boot has.
    ///
    /// # Errors
    /// The kernel does not tell; why.
    pub fn boot_id(&self) -> Result<String, String> {
        let text = self.read(BOOT_ID).known()?.ok_or_else(|| format!("there is no {BOOT_ID}"))?;
        Ok(text.trim().to_owned())
    }

    /// Why a reboot is due: a package has asked for one, or a newer kernel is installed than the one that runs.
    pub fn reboot_pending(&self) -> Option<String> {
        match self.read("/run/reboot-required.pkgs") {
            Probe::Known(packages) => {
                let mut packages: Vec<&str> = packages.lines().collect();
                // Each upgrade adds its line.
                packages.sort_unstable();
                packages.dedup();
                return Some(format!("asked for by {}", packages.join(", ")));
            }
            Probe::Absent | Probe::Unreadable(_) => {}
        }
        if let Probe::Known(()) = self.exists("/run/reboot-required") {
            return Some("/run/reboot-required is there".into());
        }
        // A container runs by the kernel of its machine, whatever is installed in it.
        if self.container().is_some() {
            return None;
        }
        let running = self.read("/proc/sys/kernel/osrelease").known().ok().flatten()?;
        let running = running.trim();
        let newer = self.newer_kernel(running)?;
        Some(format!("kernel {newer} is installed, and {running} runs"))
    }

    /// The newest installed kernel, if it is newer than this one and of the same flavour.
    fn newer_kernel(&self, running: &str) -> Option<String> {
        let (_, flavour) = split(running);
        // Somebody's own kernel is compared with nothing.
        if flavour.is_empty() {
            return None;
        }
        let entries = fs::read_dir(self.path("/boot")).ok()?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let releases = names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned));
        let newer = releases
            .filter(|release| split(release).1 == flavour && compare(release, running) == Ordering::Greater);
        newer.max_by(|one, other| compare(one, other))
    }

    /// Asks the init system for a reboot, and does not wait for it.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub fn ask_for_reboot(&self) -> Result<(), CommandError> {
        let command = match self.exists("/run/systemd/system") {
            Probe::Known(()) => Command::new("systemctl", ["--no-block", "reboot"]),
            Probe::Absent | Probe::Unreadable(_) => Command::new("shutdown", ["-r", "now"]),
        };
        command.deadline(Duration::from_secs(30)).output().map(drop)
    }
}

/// A kernel's release as its version and its flavour: `6.1.0-31` and `cloud-amd64` of `6.1.0-31-cloud-amd64`.
fn split(release: &str) -> (&str, &str) {
    let starts = release.match_indices('-').map(|(at, _)| at);
    let is_flavour = |at: &usize| release[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic());
    // Such as the `rc1` of `6.12-rc1-amd64`, which has another part after it.
    let is_candidate = |at: &usize| {
        release[at + 1..]
            .strip_prefix("rc")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    match starts.clone().find(|at| is_flavour(at) && !is_candidate(at)) {
        Some(at) => (&release[..at], &release[at + 1..]),
        None => (release, ""),
    }
}

fn compare(one: &str, other: &str) -> Ordering {
    match (split(one).0.parse::<Version>(), split(other).0.parse::<Version>()) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        // What is no version is neither newer nor older.
        _ => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(files: &[(&str, &str)]) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        let kernel = ("proc/sys/kernel/osrelease", "6.1.0-9-cloud-amd64\n");
        for (path, text) in files.iter().chain([&kernel]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Machine::at(root.path()).reboot_pending()
    }

    #[test]
    fn whoever_asks_for_a_reboot_is_named() {
        assert_eq!(pending(&[]), None);
        assert_eq!(pending(&[("run/reboot-required", "")]).unwrap(), "/run/reboot-required is there");
        let packages = ("run/reboot-required.pkgs", "libc6\nlinux-image-amd64\nlibc6\n");
        assert_eq!(pending(&[packages]).unwrap(), "asked for by libc6, linux-image-amd64");
    }

    #[test]
    fn a_newer_kernel_of_the_same_flavour_asks_for_one() {
        let running = ("boot/vmlinuz-6.1.0-9-cloud-amd64", "");
        let older = ("boot/vmlinuz-6.1.0-8-cloud-amd64", "");
        let other = ("boot/vmlinuz-6.12.0-1-amd64", "");
        assert_eq!(pending(&[running, older, other, ("boot/vmlinuz-strange", "")]), None);
        let newer = ("boot/vmlinuz-6.1.0-31-cloud-amd64", "");
        let newest = ("boot/vmlinuz-6.1.0-100-cloud-amd64", "");
        assert_eq!(
            pending(&[running, newer, newest, other]).unwrap(),
            "kernel 6.1.0-100-cloud-amd64 is installed, and 6.1.0-9-cloud-amd64 runs"
        );
        assert_eq!(pending(&[newer, ("run/systemd/container", "lxc\n")]), None);
    }

    #[test]
    fn releases_are_taken_apart() {
        for (release, version, flavour) in [
            ("6.1.0-31-cloud-amd64", "6.1.0-31", "cloud-amd64"),
            ("6.12.9+bpo-amd64", "6.12.9+bpo", "amd64"),
            ("4.19.0-27-amd64", "4.19.0-27", "amd64"),
            ("6.12-rc1-amd64", "6.12-rc1", "amd64"),
            ("6.6.13", "6.6.13", ""),
            ("", "", ""),
        ] {
            assert_eq!(split(release), (version, flavour));
        }
        assert_eq!(compare("6.12.9+bpo-amd64", "6.1.0-31-amd64"), Ordering::Greater);
    }

    #[test]
    fn the_boot_of_this_machine_has_a_name() {
        let name = Machine::this().boot_id().unwrap();
        assert_eq!(name.len(), 36, "{name}");
        let root = tempfile::tempdir().unwrap();
        assert!(Machine::at(root.path()).boot_id().unwrap_err().contains(BOOT_ID));
    }
}
