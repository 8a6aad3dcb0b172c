//! What a machine looks like where a recipe meets it, for judging elsewhere: apt's sources, keys, pins and candidates,
//! dpkg's database, kernel and modules, udev's rules. And the traces by which it is told that looking changed nothing.
//!
//! Reads only. Nothing secret is taken: no password field, no private key, no environment but the kind of container.

mod apt;
mod lay_out;
mod system;
mod texts;
mod traces;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toril_machine::{Machine, Probe};

pub use apt::{Candidate, DpkgState, Keyring, Policy, ReleaseFile, SigningKey};
pub use lay_out::LayOutError;
pub use system::{Module, Place};
pub use traces::Traces;

/// What stands on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// When it was made, in UTC by the machine's own clock.
    pub taken: String,
    /// Whether this program became root by sudo, and not by a login as root.
    pub by_sudo: bool,
    /// Texts of files, by path. Of some only the part that is read: of `/proc/cpuinfo` the first processor and the
    /// number of the others; of `/etc/passwd` neither passwords nor people's full names.
    pub files: BTreeMap<String, Probe<String>>,
    /// What the recipe's own paths, devices and markers are.
    pub places: BTreeMap<String, Probe<Place>>,
    /// dpkg's packages, such as `socat` → `1.7.3.2-2 amd64 install ok installed`. Those of foreign architectures are
    /// named as in `libc6:i386`.
    pub packages: Probe<BTreeMap<String, String>>,
    /// Whether dpkg's work is done.
    pub dpkg: Probe<DpkgState>,
    /// What apt would install, as far as its lists tell.
    pub policy: Probe<Policy>,
    /// The keyrings that apt trusts or sources name.
    pub keyrings: BTreeMap<String, Probe<Keyring>>,
    /// The release files that apt has fetched and verified.
    pub release_files: Probe<Vec<ReleaseFile>>,
    /// Modules that guests need.
    pub modules: BTreeMap<String, Probe<Module>>,
}

/// Looks at a machine: at the packages and paths that a recipe names, and at all that is of interest anyway.
pub fn survey(machine: &Machine, packages: &[String], paths: &[String]) -> Survey {
    Survey {
        taken: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
        by_sudo: machine.is_this() && std::env::var_os("SUDO_UID").is_some(),
        files: texts::files(machine, paths),
        places: system::places(machine, paths),
        packages: apt::packages(machine),
        dpkg: apt::dpkg(machine),
        policy: apt::policy(machine, packages),
        keyrings: apt::keyrings(machine),
        release_files: apt::release_files(machine),
        modules: system::modules(machine),
    }
}

impl Survey {
    /// The version of an installed package.
    pub fn version(&self, package: &str) -> Option<&str> {
        let Probe::Known(packages) = &self.packages else { return None };
        let words: Vec<&str> = packages.get(package)?.split(' ').collect();
        let [version, _, _, "ok", "installed"] = words[..] else { return None };
        Some(version)
    }
}

/// The names in a directory, sorted.
fn entries(machine: &Machine, directory: &str) -> Probe<Vec<String>> {
    let read = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(machine.path(directory))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    };
    Probe::of_io(read(), directory)
}

#[cfg(test)]
mod tests;
