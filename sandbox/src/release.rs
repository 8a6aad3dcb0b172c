use std::fmt;

use crate::Error;

/// A Debian release that sandboxes can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// `VERSION_ID`, such as `12`.
    pub version: &'static str,
    /// `VERSION_CODENAME`, such as `bookworm`.
    pub codename: &'static str,
    /// Whether it is an imitation, for tests.
    pub is_fixture: bool,
}

impl Release {
    /// Every release that is known, oldest first.
    pub const ALL: [Release; 4] = [
        Release { version: "10", codename: "buster", is_fixture: false },
        Release { version: "11", codename: "bullseye", is_fixture: false },
        Release { version: "12", codename: "bookworm", is_fixture: false },
        Release { version: "13", codename: "trixie", is_fixture: false },
    ];

    /// An imitation of Debian 10, which has left the mirrors: see [`FIXTURE_LIMITS`](crate::FIXTURE_LIMITS).
    pub const FIXTURE_10: Release = Release { version: "10", codename: "buster", is_fixture: true };

    /// Reads `12` or `bookworm`; `10-fixture` is the imitation of Debian 10.
    ///
    /// # Errors
    /// It is none of those known; says which are.
    pub fn parse(text: &str) -> Result<Release, Error> {
        if text == Release::FIXTURE_10.name() {
            return Ok(Release::FIXTURE_10);
        }
        let named = |release: &Release| release.version == text || release.codename == text;
        Release::ALL.into_iter().find(named).ok_or_else(|| Error::UnknownRelease(text.to_owned()))
    }

    /// The imitation of a release that has left the mirrors, where there is one; else the release itself.
    pub fn or_fixture(self) -> Release {
        if self.is_archived() { Release::FIXTURE_10 } else { self }
    }

    /// What [`Release::parse`] reads, such as `12`.
    pub fn name(self) -> String {
        if self.is_fixture { format!("{}-fixture", self.version) } else { self.version.to_owned() }
    }

    /// Whether it left Debian's mirrors for the archive.
    pub(crate) fn is_archived(self) -> bool {
        self.version == "10" && !self.is_fixture
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
        Release { version: "12", codename: "bookworm", is_fixture: false }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_fixture { ", fixture" } else { "" };
        write!(f, "debian {} ({}{kind})", self.version, self.codename)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_version_or_code_name() {
        assert_eq!(Release::parse("13").unwrap().codename, "trixie");
        assert_eq!(Release::parse("bookworm").unwrap(), Release::default());
        assert_eq!(Release::parse("10-fixture").unwrap(), Release::FIXTURE_10);
        assert!(Release::FIXTURE_10.to_string().contains("fixture"));
        for unknown in ["", "9", "debian 12", "sid"] {
            let error = Release::parse(unknown).unwrap_err().to_string();
            assert!(error.contains("11 (bullseye), 12 (bookworm), 13 (trixie)"), "{error}");
        }
    }
}
