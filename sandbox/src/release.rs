use std::fmt;

use crate::Error;

/// A Debian release that sandboxes can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// `VERSION_ID`, such as `12`.
    pub version: &'static str,
    /// `VERSION_CODENAME`, such as `bookworm`.
    pub codename: &'static str,
}

impl Release {
    /// Every release that is known, oldest first.
    pub const ALL: [Release; 4] = [
        Release { version: "10", codename: "buster" },
        Release { version: "11", codename: "bullseye" },
        Release { version: "12", codename: "bookworm" },
        Release { version: "13", codename: "trixie" },
    ];

    /// Reads `12` or `bookworm`.
    ///
    /// # Errors
    /// It is none of those known; says which are.
    pub fn parse(text: &str) -> Result<Release, Error> {
        let named = |release: &Release| release.version == text || release.codename == text;
        Release::ALL.into_iter().find(named).ok_or_else(|| Error::UnknownRelease(text.to_owned()))
    }

    /// Whether it left Debian's mirrors for the archive.
    pub(crate) fn is_archived(self) -> bool {
        self.version == "10"
    }

    /// What the pocket of security updates is called.
    pub(crate) fn suite(self, pocket: &str) -> String {
        match pocket {
            "-security" if self.version == "10" => format!("{}/updates", self.codename),
            pocket => format!("{}{pocket}", self.codename),
        }
    }

    /// Whether its systemd takes credentials from QEMU, as virtual machines get theirs.
    pub(crate) fn takes_credentials(self) -> bool {
        !matches!(self.version, "10" | "11")
    }

    /// Whether firmware has a component of its own.
    pub(crate) fn has_firmware_component(self) -> bool {
        !matches!(self.version, "10" | "11")
    }

    /// Whether packages do not yet say themselves that /bin and the like are links into /usr, as they are on every
    /// host that Debian's installer or its cloud images made since Debian 10.
    pub(crate) fn is_merged_by_the_installer(self) -> bool {
        matches!(self.version, "10" | "11")
    }
}

impl Default for Release {
    /// Debian 12.
    fn default() -> Release {
        Release { version: "12", codename: "bookworm" }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "debian {} ({})", self.version, self.codename)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_version_or_code_name() {
        assert_eq!(Release::parse("13").unwrap().codename, "trixie");
        assert_eq!(Release::parse("bookworm").unwrap(), Release::default());
        for unknown in ["", "9", "debian 12", "sid"] {
            let error = Release::parse(unknown).unwrap_err().to_string();
            assert!(error.contains("11 (bullseye), 12 (bookworm), 13 (trixie)"), "{error}");
        }
    }
}
