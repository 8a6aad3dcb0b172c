//! What of a machine can move a test's result: facts, and the programs that guests run on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Facts, Machine, Probe};

/// Values by name, such as `qemu.version`. Names that begin with `figure.` are measured and vary from time to time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub BTreeMap<String, String>);

/// A value that is not the same in two fingerprints; nothing where one of them lacks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The value's name.
    pub name: String,
    /// What it was.
    pub before: Option<String>,
    /// What it is.
    pub after: Option<String>,
}

/// What two fingerprints do not have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// What is another host, as far as tests are concerned.
    pub differences: Vec<Difference>,
    /// What was measured, and is hardly ever the same: no difference, and maybe an explanation.
    pub measured: Vec<Difference>,
}

/// The programs that guests run on: what they are called here, their packages, and where they are; the first that is
/// there counts.
const PROGRAMS: [(&str, &[&str], &[&str]); 3] = [
    ("qemu", &["qemu-system-x86"], &["qemu-system-x86_64"]),
    (
        "virtiofsd",
        &["virtiofsd", "qemu-system-common"],
        &["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/local/lib/toril/virtiofsd"],
    ),
    ("socat", &["socat"], &["socat"]),
];

/// Where the recipe is named that was carried out last.
pub const RECIPE: &str = "/var/lib/toril/recipe";

/// Where the figures are kept that were measured last: JSON, values by name.
pub const FIGURES: &str = "/var/lib/toril/figures.json";

/// What measured values begin with.
const FIGURE: &str = "figure.";

impl Machine {
    /// How much of the processors' time since the boot the layer below gave to others, such as `1.2 %`; nothing where
    /// that is not shown. proc_stat(5).
    pub fn stolen_time(&self) -> Option<String> {
        let Probe::Known(text) = self.read("/proc/stat") else { return None };
        let times: Vec<f64> =
            text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().flat_map(str::parse).collect();
        // Guests' time, which follows, is part of the first two.
        let total: f64 = times.get(..8)?.iter().sum();
        (total > 0.0).then(|| format!("{:.1} %", 100.0 * times[7] / total))
    }
}

impl Fingerprint {
    /// Takes a machine's fingerprint; no program is run. `hashes`: programs are read, which takes tens of milliseconds.
    pub fn take(machine: &Machine, facts: &Facts, hashes: bool) -> Fingerprint {
        let mut print = Fingerprint::default();
        print.set("os", format!("{} {}", facts.os, facts.version));
        print.set("kernel", &facts.kernel);
        print.set("cpu.model", &facts.cpu_model);
        print.set("cpu.count", facts.cpus.to_string());
        print.set("cpu.microcode", facts.microcode.as_deref().unwrap_or("not shown"));
        print.set("cpu.virtualization", facts.virtualization.as_deref().unwrap_or("not shown"));
        print.set("memory.mib", (facts.memory >> 20).to_string());
        print.set("guest", if facts.guest { "yes" } else { "no" });
        print.set("container", facts.container.as_deref().unwrap_or("no"));
        let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        print.probe("recipe", machine.read(RECIPE).map(|text| text.trim().to_owned()));
        print.probe("clock-source", machine.read(clock).map(|text| text.trim().to_owned()));
        if let Probe::Known(text) = machine.read(FIGURES) {
            let figures: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
            figures.into_iter().for_each(|(name, value)| print.set_figure(&name, value));
        }
        let versions = package_versions(machine);
        for (name, packages, paths) in PROGRAMS {
            let Some(path) = paths.iter().find_map(|path| machine.find_program(path)) else {
                print.set(&format!("{name}.path"), "none");
                continue;
            };
            let below = path.strip_prefix(machine.path("/")).unwrap_or(&path);
            print.set(&format!("{name}.path"), format!("/{}", below.display()));
            if hashes {
                let hash = Probe::of_io(sha256_of(&path), &path.display().to_string());
                print.probe(&format!("{name}.sha256"), hash);
            }
            if let Some(version) = packages.iter().find_map(|package| versions.get(*package)) {
                print.set(&format!("{name}.package"), version);
            }
        }
        print
    }

    /// Sets a value.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Sets a measured value.
    pub fn set_figure(&mut self, name: &str, value: impl Into<String>) {
        self.set(&format!("{FIGURE}{name}"), value);
    }

    fn probe(&mut self, name: &str, value: Probe<String>) {
        self.set(
            name,
            match value {
                Probe::Known(value) => value,
                Probe::Absent => "none".into(),
                Probe::Unreadable(reason) => reason,
            },
        );
    }

    /// A short name for all that is not measured: the same for machines that should give the same results.
    pub fn id(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, value) in self.0.iter().filter(|(name, _)| !name.starts_with(FIGURE)) {
            hasher.update(format!("{name}={value}\n"));
        }
        hasher.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What is not the same in a later one.
    pub fn compare(&self, later: &Fingerprint) -> Comparison {
        let names: BTreeSet<&String> = self.0.keys().chain(later.0.keys()).collect();
        let values = names.into_iter().map(|name| Difference {
            name: name.clone(),
            before: self.0.get(name).cloned(),
            after: later.0.get(name).cloned(),
        });
        let (measured, differences) = values
            .filter(|value| value.before != value.after)
            .partition(|value| value.name.starts_with(FIGURE));
        Comparison { differences, measured }
    }
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// It cannot be read.
pub fn sha256_of(path: &std::path::Path) -> io::Result<String> {
    struct Hasher(Sha256);
    impl io::Write for Hasher {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hasher = Hasher(Sha256::new());
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Versions of installed packages, as far as dpkg's status file can be read.
fn package_versions(machine: &Machine) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let Probe::Known(status) = machine.read("/var/lib/dpkg/status") else { return versions };
    for paragraph in status.split("\n\n") {
        let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let (Some(package), Some(version), Some(state)) =
            (field("Package:"), field("Version:"), field("Status:"))
            && state.ends_with(" installed")
        {
            versions.insert(package.to_owned(), version.to_owned());
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(pairs: &[(&str, &str)]) -> Fingerprint {
        Fingerprint(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_was_measured_is_no_difference() {
        let before = print(&[("kernel", "6.1"), ("figure.boot-time", "5 ms"), ("old", "x")]);
        let after = print(&[("kernel", "6.2"), ("figure.boot-time", "9 ms"), ("new", "y")]);
        let names = |values: Vec<Difference>| values.into_iter().map(|value| value.name).collect::<Vec<_>>();
        let Comparison { differences, measured } = before.compare(&after);
        assert_eq!(names(differences), ["kernel", "new", "old"]);
        assert_eq!(names(measured), ["figure.boot-time"]);
        assert_ne!(before.id(), after.id());
        let again = print(&[("kernel", "6.1"), ("figure.boot-time", "7 ms"), ("old", "x")]);
        assert_eq!((before.id(), before.compare(&again).differences), (again.id(), Vec::new()));
    }

    #[test]
    fn programs_are_read_with_the_versions_of_their_packages() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("usr/lib/qemu/virtiofsd", "daemon");
        write(
            "var/lib/dpkg/status",
            "Package: qemu-system-common\nStatus: install ok installed\nVersion: 1:7.2\n\nPackage: socat\nStatus: deinstall ok config-files\nVersion: 1\n",
        );
        let machine = Machine::at(dir.path());
        let versions = package_versions(&machine);
        assert_eq!(
            (versions.get("qemu-system-common").map(String::as_str), versions.len()),
            (Some("1:7.2"), 1)
        );
        let hash = sha256_of(&dir.path().join("usr/lib/qemu/virtiofsd")).unwrap();
        assert!(hash.len() == 64 && hash.starts_with(|c: char| c.is_ascii_hexdigit()));
    }
}
