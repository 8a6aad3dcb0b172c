use std::collections::BTreeMap;
use std::fs;

use deb822_fast::borrowed::BorrowedParser;
use toril_machine::{Machine, Probe};

use super::depends::Presence;
use crate::resource::ResourceError;

/// dpkg's database, read without dpkg: `dpkg-query` takes hundreds of milliseconds, and `dpkg -s` exits 0 for
/// packages that are half-configured or removed.
#[derive(Debug, Default)]
pub(crate) struct Database {
    packages: BTreeMap<String, PackageState>,
    /// Packages of other architectures and their versions.
    foreign: BTreeMap<String, String>,
    /// Files in `/var/lib/dpkg/updates`: dpkg was interrupted, or is at work, and the status file is not the whole
    /// story.
    pub(crate) pending_updates: usize,
}

/// What dpkg says of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackageState {
    /// Such as `installed`, `half-configured`, `config-files`.
    pub(crate) state: String,
    /// Whether its files may be damaged (dpkg's error flag is not `ok`).
    pub(crate) reinstall_required: bool,
    pub(crate) version: String,
    /// The source package that it was built from, where that has another name or version.
    source: Option<String>,
    /// Whether it is to stay at its version.
    pub(crate) held: bool,
    /// Its configuration files, one a line, each with more about it.
    conffiles: String,
    /// What it depends on, and what else it is there as: deb-control(5).
    depends: String,
    provides: String,
}

impl PackageState {
    pub(crate) fn is_installed(&self) -> bool {
        self.state == "installed" && !self.reinstall_required
    }

    /// Paths of its configuration files.
    pub(crate) fn conffiles(&self) -> impl Iterator<Item = &str> {
        self.conffiles.lines().filter_map(|line| line.split_whitespace().next())
    }

    /// The source package that it, which is called `name`, was built from, and that one's version.
    pub(crate) fn source(&self, name: &str) -> (String, String) {
        source_of(name, &self.version, self.source.as_deref())
    }

    /// Whether dpkg stopped in the middle of it.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(
            self.state.as_str(),
            "half-installed" | "unpacked" | "half-configured" | "triggers-awaited" | "triggers-pending"
        ) || self.reinstall_required
    }
}

impl Database {
    pub(crate) fn read(machine: &Machine) -> Result<Database, ResourceError> {
        const STATUS: &str = "/var/lib/dpkg/status";
        let text = match machine.read(STATUS) {
            Probe::Known(text) => text,
            Probe::Absent => return Err(ResourceError(format!("there is no {STATUS}: is this a Debian?"))),
            Probe::Unreadable(reason) => return Err(ResourceError(reason)),
        };
        let entries = journal(machine)?;
        let mut database = Database { pending_updates: entries.len(), ..Database::default() };
        database.take(&text, STATUS)?;
        // They are what dpkg would write into the status file next, in their order.
        for entry in &entries {
            if let Some(text) = machine.read(entry).known().map_err(ResourceError)? {
                database.take(&text, entry)?;
            }
        }
        Ok(database)
    }

    /// Takes the packages of a file of dpkg's over those known before.
    fn take(&mut self, text: &str, path: &str) -> Result<(), ResourceError> {
        // Nothing is copied before it is known to be wanted: there are thousands of fields.
        let paragraphs = BorrowedParser::new(text).parse_all();
        let paragraphs =
            paragraphs.map_err(|error| ResourceError(format!("{path} cannot be read: {error}")))?;
        for paragraph in paragraphs {
            let (Some(name), Some(status)) =
                (paragraph.get_single("Package"), paragraph.get_single("Status"))
            else {
                continue;
            };
            let [selection, flag, state] = status.split_whitespace().collect::<Vec<_>>()[..] else {
                continue;
            };
            let field = |name: &str| paragraph.get_field(name).map(|field| field.join()).unwrap_or_default();
            let version = field("Version");
            // A foreign architecture's package of the same name does not provide the programs wanted here.
            if !matches!(paragraph.get_single("Architecture"), None | Some("amd64" | "all")) {
                self.foreign.insert(name.to_owned(), version);
                continue;
            }
            let depends = [field("Pre-Depends"), field("Depends")];
            let depends: Vec<String> = depends.into_iter().filter(|text| !text.is_empty()).collect();
            let package = PackageState {
                state: state.to_owned(),
                reinstall_required: flag != "ok",
                source: paragraph.get_single("Source").map(str::to_owned),
                version,
                held: selection == "hold",
                conffiles: field("Conffiles"),
                depends: depends.join(", "),
                provides: field("Provides"),
            };
            self.packages.insert(name.to_owned(), package);
        }
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&PackageState> {
        self.packages.get(name)
    }

    /// Packages that are to stay at their version, by name.
    pub(crate) fn held(&self) -> impl Iterator<Item = &str> {
        self.packages.iter().filter(|(_, package)| package.held).map(|(name, _)| name.as_str())
    }

    /// Installed packages with something that they need and that is not there: their names, and what.
    pub(crate) fn broken(&self) -> Vec<(&str, &str)> {
        let mut presence = Presence::default();
        // What dpkg has not finished is another matter.
        let is_gone =
            |package: &PackageState| matches!(package.state.as_str(), "config-files" | "not-installed");
        for (name, package) in self.packages.iter().filter(|(_, package)| !is_gone(package)) {
            presence.add(name, &package.version, &package.provides);
        }
        // One of another architecture may be what is needed.
        self.foreign.iter().for_each(|(name, version)| presence.add(name, version, ""));
        let installed = self.packages.iter().filter(|(_, package)| package.is_installed());
        let broken = installed.filter_map(|(name, package)| {
            let unmet = presence.unmet(&package.depends)?;
            Some((name.as_str(), unmet))
        });
        broken.collect()
    }

    /// Whether dpkg has not finished, of whatever package.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.pending_updates > 0 || self.interrupted().next().is_some()
    }

    /// Packages that dpkg did not finish, by name.
    pub(crate) fn interrupted(&self) -> impl Iterator<Item = &str> {
        self.packages.iter().filter(|(_, package)| package.is_interrupted()).map(|(name, _)| name.as_str())
    }
}

/// Of `Source: qemu (1:7.2+dfsg-7)`, which is left out where it is the same as the package's, in part or in whole.
fn source_of(package: &str, version: &str, source: Option<&str>) -> (String, String) {
    let source = source.unwrap_or(package);
    match source.split_once(' ') {
        Some((name, of)) => (name.to_owned(), of.trim().trim_matches(['(', ')']).to_owned()),
        None => (source.to_owned(), version.to_owned()),
    }
}

/// The entries of dpkg's journal, in order.
fn journal(machine: &Machine) -> Result<Vec<String>, ResourceError> {
    const UPDATES: &str = "/var/lib/dpkg/updates";
    let entries =
        Probe::of_io(fs::read_dir(machine.path(UPDATES)), UPDATES).known().map_err(ResourceError)?;
    let names =
        entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    // dpkg keeps `tmp.i` there as scratch space; the journal's entries are numbers.
    let mut names: Vec<String> =
        names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect();
    names.sort();
    Ok(names.iter().map(|name| format!("{UPDATES}/{name}")).collect())
}

/// Packages of this machine that dpkg did not finish: it might not come up after a reboot. `None`: there are none.
///
/// # Errors
/// dpkg's database cannot be read; why.
pub fn unfinished_packages(machine: &Machine) -> Result<Option<String>, String> {
    let database = Database::read(machine).map_err(|error| error.to_string())?;
    let names: Vec<&str> = database.interrupted().collect();
    Ok(match (names.is_empty(), database.pending_updates) {
        (false, _) => Some(names.join(", ")),
        (true, 0) => None,
        (true, _) => Some("there are entries in /var/lib/dpkg/updates".into()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_status_file_is_read_or_refused(text in r"((Package|Status|Version|Architecture): |install ok installed|[a-z0-9 .:\n])*") {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("var/lib/dpkg")).unwrap();
            fs::write(dir.path().join("var/lib/dpkg/status"), &text).unwrap();
            if let Ok(database) = Database::read(&Machine::at(dir.path())) {
                prop_assert!(database.interrupted().all(|name| text.contains(name)));
            }
        }
    }

    #[test]
    fn states_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let dpkg = dir.path().join("var/lib/dpkg");
        fs::create_dir_all(dpkg.join("updates")).unwrap();
        let entry = |name: &str, status: &str, more: &str| {
            format!("Package: {name}\nStatus: {status}\nVersion: 1.2-3\nDescription: a\n b: c\n .\n{more}\n")
        };
        let text = [
            entry("good", "install ok installed", "Architecture: amd64\n"),
            entry("foreign", "install ok installed", "Architecture: i386\n"),
            entry("half", "install ok half-configured", ""),
            entry("gone", "deinstall ok config-files", ""),
            entry("bad", "install reinstreq installed", ""),
            entry("kept", "hold ok installed", ""),
        ];
        fs::write(dpkg.join("status"), text.concat()).unwrap();
        fs::write(dpkg.join("updates/tmp.i"), "").unwrap();
        let machine = Machine::at(dir.path());
        let database = Database::read(&machine).unwrap();
        let installed = |name: &str| database.get(name).is_some_and(PackageState::is_installed);
        assert_eq!(
            ["good", "foreign", "half", "gone", "bad", "kept"].map(installed),
            [true, false, false, false, false, true]
        );
        let held = |name: &str| database.get(name).is_some_and(|package| package.held);
        assert!(held("kept") && !held("good"));
        assert_eq!(database.interrupted().collect::<Vec<_>>(), ["bad", "half"]);
        assert_eq!(database.pending_updates, 0);
        fs::write(dpkg.join("updates/0001"), entry("half", "install ok installed", "")).unwrap();
        fs::write(dpkg.join("updates/0002"), entry("new", "install reinstreq half-installed", "")).unwrap();
        assert_eq!(Database::read(&machine).unwrap().pending_updates, 2);
        assert_eq!(unfinished_packages(&machine).unwrap().unwrap(), "bad, new", "the journal counts");
    }

    #[test]
    fn what_is_needed_and_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("var/lib/dpkg")).unwrap();
        let entry = |name: &str, status: &str, more: &str| {
            format!("Package: {name}\nStatus: {status}\nVersion: 1\n{more}\n")
        };
        let text = [
            entry(
                "a",
                "install ok installed",
                "Depends: b (>= 2),\n c | d\nConffiles:\n /etc/a 0f\n /etc/o 0f obsolete\n",
            ),
            entry("b", "install ok installed", ""),
            entry("d", "deinstall ok config-files", ""),
            entry("e", "install ok installed", "Pre-Depends: d\nDepends: f\n"),
            entry("f", "install ok installed", "Architecture: i386\n"),
        ];
        fs::write(dir.path().join("var/lib/dpkg/status"), text.concat()).unwrap();
        let database = Database::read(&Machine::at(dir.path())).unwrap();
        assert_eq!(database.broken(), [("a", "b (>= 2)"), ("e", "d")]);
        assert_eq!(database.get("a").unwrap().conffiles().collect::<Vec<_>>(), ["/etc/a", "/etc/o"]);
    }

    #[test]
    fn no_database_is_an_error_and_not_no_packages() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Database::read(&Machine::at(dir.path())).is_err());
    }
}
