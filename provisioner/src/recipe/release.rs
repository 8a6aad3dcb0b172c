use std::collections::BTreeMap;
use std::fmt;

use toril_machine::Facts;

/// A Debian release that a recipe is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// `VERSION_ID`, such as `12`.
    pub version: &'static str,
    /// `VERSION_CODENAME`, such as `bookworm`.
    pub codename: &'static str,
}

impl Release {
    /// Every release that recipes can be written for, oldest first.
    pub const ALL: [Release; 4] = [
        Release { version: "10", codename: "buster" },
        Release { version: "11", codename: "bullseye" },
        Release { version: "12", codename: "bookworm" },
        Release { version: "13", codename: "trixie" },
    ];

    /// Reads `debian 12`.
    ///
    /// # Errors
    /// It is none of those known; says which are.
    pub fn parse(text: &str) -> Result<Release, String> {
        let version = text.strip_prefix("debian ").unwrap_or_default();
        Release::ALL.into_iter().find(|release| release.version == version).ok_or_else(|| {
            format!("`{text}` is not a release that toril knows: {}", describe_releases(&Release::ALL))
        })
    }

    /// Whether a machine runs this release.
    pub fn is_of(self, facts: &Facts) -> bool {
        facts.os == "debian" && facts.version == self.version
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "debian {}", self.version)
    }
}

/// Such as `debian 11, debian 12`.
pub fn describe_releases(releases: &[Release]) -> String {
    releases.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Facts of an ordinary cloud host of a release, for checking a recipe before any host is contacted.
pub fn sample_facts(release: Release) -> Facts {
    Facts {
        hostname: "sample".into(),
        os: "debian".into(),
        version: release.version.into(),
        codename: release.codename.into(),
        kernel: "6.1.0-0-cloud-amd64".into(),
        architecture: "x86_64".into(),
        cpus: 1,
        cpu_model: "sample".into(),
        microcode: None,
        virtualization: Some("vmx".into()),
        guest: true,
        container: None,
        memory: 2 << 30,
        disk_free: 10 << 30,
        systemd: true,
        udev: true,
        modules_loadable: true,
        kvm_device: true,
        reboot_pending: None,
        homes: BTreeMap::from([("debian".into(), "/home/debian".into())]),
    }
}
