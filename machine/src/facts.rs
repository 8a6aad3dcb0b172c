use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Machine, Probe};

/// What is known of a machine without changing it. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The machine's own host name.
    pub hostname: String,
    /// `ID` of os-release, such as `debian`.
    pub os: String,
    /// `VERSION_ID` of os-release, such as `12`; empty for a rolling release.
    pub version: String,
    /// `VERSION_CODENAME` of os-release, such as `bookworm`.
    pub codename: String,
    /// The running kernel's release.
    pub kernel: String,
    /// Such as `x86_64`.
    pub architecture: String,
    /// Number of processors online.
    pub cpus: usize,
    /// The first processor's model.
    pub cpu_model: String,
    /// The first processor's microcode revision, where the kernel shows one.
    pub microcode: Option<String>,
    /// The processor's virtualisation extension: `vmx` (Intel), `svm` (AMD), or none that is shown.
    pub virtualization: Option<String>,
    /// Whether this machine is itself a guest.
    pub guest: bool,
    /// The kind of container this is, or none.
    pub container: Option<String>,
    /// All memory.
    pub memory: u64,
    /// Free space for unprivileged users on the file system of /var.
    pub disk_free: u64,
    /// Whether systemd is the running init.
    pub systemd: bool,
    /// Whether a device manager is running, so that udev rules take effect.
    pub udev: bool,
    /// Whether this process may load kernel modules and has modules of the running kernel.
    pub modules_loadable: bool,
    /// Whether /dev/kvm is there, which says nothing about whether guests run.
    pub kvm_device: bool,
    /// Why a reboot is due, or nothing.
    pub reboot_pending: Option<String>,
    /// Home directories of the people's accounts (user ids from 1000 to 59999).
    pub homes: BTreeMap<String, String>,
}

/// The facts could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell what this machine is: {reason}")]
pub struct FactsError {
    reason: String,
}

impl Machine {
    /// Looks at the machine; a few files, no process.
    ///
    /// # Errors
    /// What tells the operating system, the kernel, the processor or the memory cannot be read.
    pub fn facts(&self) -> Result<Facts, FactsError> {
        let os = self.os_release()?;
        let cpuinfo = self.must_read("/proc/cpuinfo")?;
        let cpu = |key: &str| value_of(&cpuinfo, key);
        let flags: Vec<&str> = cpu("flags").unwrap_or_default().split_whitespace().collect();
        let virtualization = ["vmx", "svm"].into_iter().find(|flag| flags.contains(flag));
        let kernel = self.must_read("/proc/sys/kernel/osrelease")?.trim().to_owned();
        let there = |path: &str| matches!(self.exists(path), Probe::Known(()));
        Ok(Facts {
            hostname: self.must_read("/proc/sys/kernel/hostname")?.trim().to_owned(),
            os: os.get("ID").cloned().unwrap_or_default(),
            version: os.get("VERSION_ID").cloned().unwrap_or_default(),
            codename: os.get("VERSION_CODENAME").cloned().unwrap_or_default(),
            architecture: std::env::consts::ARCH.to_owned(),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            cpu_model: cpu("model name").unwrap_or_default().to_owned(),
            microcode: cpu("microcode").map(str::to_owned),
            virtualization: virtualization.map(str::to_owned),
            guest: flags.contains(&"hypervisor"),
            container: self.container(),
            memory: self.memory()?,
            disk_free: self.disk_free()?,
            systemd: there("/run/systemd/system"),
            udev: there("/run/udev/control"),
            modules_loadable: self.modules_loadable(&kernel),
            kvm_device: there("/dev/kvm"),
            reboot_pending: self.reboot_pending(),
            homes: self.homes(),
            kernel,
        })
    }

    fn must_read(&self, path: &str) -> Result<String, FactsError> {
        match self.read(path) {
            Probe::Known(text) => Ok(text),
            Probe::Absent => Err(FactsError { reason: format!("there is no {path}") }),
            Probe::Unreadable(reason) => Err(FactsError { reason }),
        }
    }

    fn os_release(&self) -> Result<BTreeMap<String, String>, FactsError> {
        let text = match self.read("/etc/os-release") {
            Probe::Absent => self.must_read("/usr/lib/os-release")?,
            Probe::Known(text) => text,
            Probe::Unreadable(reason) => return Err(FactsError { reason }),
        };
        let entries = text.lines().filter_map(|line| line.split_once('='));
        Ok(entries
            .map(|(key, value)| (key.trim().into(), value.trim().trim_matches(['"', '\'']).into()))
            .collect())
    }

    fn memory(&self) -> Result<u64, FactsError> {
        let text = self.must_read("/proc/meminfo")?;
        value_of(&text, "MemTotal")
            .and_then(|value| value.strip_suffix("kB"))
            .and_then(|number| number.trim().parse::<u64>().ok())
            .map(|kilobytes| kilobytes * 1024)
            .ok_or_else(|| FactsError { reason: "/proc/meminfo has no MemTotal".into() })
    }

    fn disk_free(&self) -> Result<u64, FactsError> {
        match rustix::fs::statvfs(self.path("/var")).or_else(|_| rustix::fs::statvfs(self.path("/"))) {
            Ok(stat) => Ok(stat.f_bavail * stat.f_frsize),
            Err(error) => Err(FactsError { reason: format!("cannot ask the file system of /var: {error}") }),
        }
    }

    /// The markers that container managers agree on: <https://systemd.io/CONTAINER_INTERFACE/>.
    pub(crate) fn container(&self) -> Option<String> {
        if let Probe::Known(kind) = self.read("/run/systemd/container") {
            return Some(kind.trim().to_owned());
        }
        if let Probe::Known(environment) = self.read("/proc/1/environ") {
            let kind = environment.split('\0').find_map(|entry| entry.strip_prefix("container="));
            if let Some(kind) = kind.filter(|kind| !kind.is_empty()) {
                return Some(kind.to_owned());
            }
        }
        let marks = [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")];
        let mark = marks.into_iter().find(|(path, _)| matches!(self.exists(path), Probe::Known(())));
        mark.map(|(_, kind)| kind.to_owned())
    }

    fn modules_loadable(&self, kernel: &str) -> bool {
        // capabilities(7): CAP_SYS_MODULE is number 16.
        const SYS_MODULE: u64 = 1 << 16;
        // Capabilities of a user namespace do not count for the kernel: user_namespaces(7). Where all ids stand for
        // themselves, this is the first one.
        if let Probe::Known(map) = self.read("/proc/self/uid_map")
            && map.split_whitespace().ne(["0", "0", "4294967295"])
        {
            return false;
        }
        let Probe::Known(status) = self.read("/proc/self/status") else { return false };
        let bounding = value_of(&status, "CapBnd").and_then(|mask| u64::from_str_radix(mask, 16).ok());
        let trees =
            [format!("/lib/modules/{kernel}/modules.dep"), format!("/usr/lib/modules/{kernel}/modules.dep")];
        bounding.is_some_and(|mask| mask & SYS_MODULE != 0)
            && trees.iter().any(|path| matches!(self.exists(path), Probe::Known(())))
    }

    fn homes(&self) -> BTreeMap<String, String> {
        let Probe::Known(text) = self.read("/etc/passwd") else { return BTreeMap::new() };
        text.lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let [name, _, uid, _, _, home, _] = fields[..] else { return None };
                (1000..60000).contains(&uid.parse::<u32>().ok()?).then(|| (name.to_owned(), home.to_owned()))
            })
            .collect()
    }
}

/// The first value of `key : value` lines.
fn value_of<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    const BUSTER: &[(&str, &str)] = &[
        (
            "etc/os-release",
            "PRETTY_NAME=\"Debian GNU/Linux 10\"\nID=debian\nVERSION_ID=\"10\"\nVERSION_CODENAME=buster\n",
        ),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\ndebian:x:1000:1000::/home/debian:/bin/bash\n"),
        (
            "proc/cpuinfo",
            "processor\t: 0\nmodel name\t: Intel Xeon\nmicrocode\t: 0x1\nflags\t\t: fpu vmx hypervisor\n",
        ),
        ("proc/meminfo", "MemTotal:        2048 kB\n"),
        ("proc/sys/kernel/osrelease", "4.19.0-27-cloud-amd64\n"),
        ("proc/sys/kernel/hostname", "vps-1\n"),
        ("proc/self/status", "CapBnd:\t000001ffffffffff\n"),
        ("lib/modules/4.19.0-27-cloud-amd64/modules.dep", ""),
        ("run/reboot-required.pkgs", "linux-image-amd64\n"),
    ];

    #[test]
    fn a_cloud_host() {
        let root = fake(BUSTER);
        let facts = Machine::at(root.path()).facts().unwrap();
        assert_eq!(
            (facts.os.as_str(), facts.version.as_str(), facts.codename.as_str()),
            ("debian", "10", "buster")
        );
        assert_eq!(facts.virtualization.as_deref(), Some("vmx"));
        assert!(facts.guest && facts.modules_loadable && facts.container.is_none());
        assert_eq!(facts.memory, 2048 * 1024);
        assert_eq!(facts.reboot_pending.as_deref(), Some("asked for by linux-image-amd64"));
        assert_eq!(facts.homes["debian"], "/home/debian");
    }

    #[test]
    fn a_container_cannot_load_modules() {
        let root = fake(BUSTER);
        std::fs::create_dir_all(root.path().join("proc/1")).unwrap();
        std::fs::write(root.path().join("proc/1/environ"), "PATH=/bin\0container=toril-sandbox\0").unwrap();
        std::fs::write(root.path().join("proc/self/status"), "CapBnd:\t00000000a80425fb\n").unwrap();
        let facts = Machine::at(root.path()).facts().unwrap();
        assert_eq!(facts.container.as_deref(), Some("toril-sandbox"));
        assert!(!facts.modules_loadable);
    }

    #[test]
    fn root_of_a_user_namespace_cannot_load_modules() {
        let root = fake(BUSTER);
        std::fs::write(root.path().join("proc/self/uid_map"), "         0     165536      65536\n").unwrap();
        assert!(!Machine::at(root.path()).facts().unwrap().modules_loadable);
    }

    #[test]
    fn what_is_missing_is_named() {
        let root = fake(&BUSTER[..3]);
        let error = Machine::at(root.path()).facts().unwrap_err();
        assert!(error.to_string().contains("/proc/"), "{error}");
    }
}
