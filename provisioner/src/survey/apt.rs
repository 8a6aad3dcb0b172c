use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use deb822_fast::Deb822;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toril_machine::{Command, Machine, Probe};

use super::entries;
use crate::apt::{Database, keyring};

const STATUS: &str = "/var/lib/dpkg/status";

/// Whether dpkg's work is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DpkgState {
    /// Packages in which it stopped.
    pub interrupted: Vec<String>,
    /// Entries of its journal that are not in its status file yet.
    pub pending_updates: usize,
    /// Packages that are to stay at their version.
    pub held: Vec<String>,
}

/// What apt would install.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// By package. One that apt has never heard of is not here.
    pub packages: BTreeMap<String, Candidate>,
    /// All that `apt-cache policy` says of them.
    pub text: String,
    /// What it says of the sources and their priorities.
    pub sources: String,
}

/// What apt knows of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The version that is there.
    pub installed: Option<String>,
    /// The version that an installation would bring.
    pub candidate: Option<String>,
}

/// A keyring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyring {
    /// Of the file.
    pub sha256: String,
    /// Its primary keys; none are read of an armoured one.
    pub keys: Vec<SigningKey>,
}

/// A key that signs packages' lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// In upper-case hexadecimal.
    pub fingerprint: String,
    /// Its first user id.
    pub name: String,
    /// The day on which it expires, if it ever does.
    pub expires: Option<String>,
    /// Days until then; negative once it has expired.
    pub days_left: Option<i64>,
}

/// A release file that apt has fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseFile {
    /// As apt names it in `/var/lib/apt/lists`.
    pub file: String,
    /// Of the file.
    pub sha256: String,
    /// `Origin`, `Suite`, `Codename`, `Version`, `Date`, `Valid-Until` and the like, as they stand there.
    pub fields: BTreeMap<String, String>,
}

pub(super) fn packages(machine: &Machine) -> Probe<BTreeMap<String, String>> {
    let file = match Probe::of_io(fs::read(machine.path(STATUS)), STATUS) {
        Probe::Known(file) => file,
        Probe::Absent => return Probe::Absent,
        Probe::Unreadable(reason) => return Probe::Unreadable(reason),
    };
    let mut packages = BTreeMap::new();
    for paragraph in Deb822::iter_paragraphs_from_reader(file.as_slice()) {
        let paragraph = match paragraph {
            Ok(paragraph) => paragraph,
            Err(error) => return Probe::Unreadable(format!("{STATUS} cannot be read: {error}")),
        };
        let field = |name| paragraph.get(name).unwrap_or("-").to_owned();
        let (name, architecture) = (field("Package"), field("Architecture"));
        let key = match architecture.as_str() {
            "amd64" | "all" | "-" => name,
            foreign => format!("{name}:{foreign}"),
        };
        packages.insert(key, format!("{} {architecture} {}", field("Version"), field("Status")));
    }
    Probe::Known(packages)
}

pub(super) fn dpkg(machine: &Machine) -> Probe<DpkgState> {
    match Database::read(machine) {
        Ok(database) => Probe::Known(DpkgState {
            interrupted: database.interrupted().map(str::to_owned).collect(),
            pending_updates: database.pending_updates,
            held: database.held().map(str::to_owned).collect(),
        }),
        Err(error) => Probe::Unreadable(error.to_string()),
    }
}

pub(super) fn policy(machine: &Machine, packages: &[String]) -> Probe<Policy> {
    if !machine.is_this() {
        return Probe::Unreadable("only the running machine's own apt can be asked".into());
    }
    let ask = |names: &[String]| {
        // Without its caches: asking must not write them.
        let mut args = vec!["policy", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="];
        args.extend(names.iter().map(String::as_str));
        Command::new("apt-cache", args).output()
    };
    match (ask(packages), ask(&[])) {
        // Without a name it would speak of the sources again.
        (Ok(_), Ok(sources)) if packages.is_empty() => Probe::Known(Policy { sources, ..Policy::default() }),
        (Ok(text), Ok(sources)) => Probe::Known(Policy { packages: parse_policy(&text), text, sources }),
        (Err(error), _) | (_, Err(error)) => Probe::Unreadable(error.to_string()),
    }
}

/// Reads what `apt-cache policy NAME…` prints: a paragraph for each package that apt knows.
pub(super) fn parse_policy(text: &str) -> BTreeMap<String, Candidate> {
    let mut packages = BTreeMap::new();
    let mut name = None;
    for line in text.lines() {
        if !line.starts_with(' ') {
            name = line.strip_suffix(':').filter(|name| !name.is_empty());
            if let Some(name) = name {
                packages.insert(name.to_owned(), Candidate::default());
            }
            continue;
        }
        let Some(package) = name.and_then(|name| packages.get_mut(name)) else { continue };
        let value = |label| {
            let value: &str = line.strip_prefix("  ")?.strip_prefix(label)?;
            Some(value.trim().to_owned()).filter(|value| value != "(none)")
        };
        if let Some(version) = value("Installed:") {
            package.installed = Some(version);
        } else if let Some(version) = value("Candidate:") {
            package.candidate = Some(version);
        }
    }
    packages
}

/// The directories that apt's keys are kept in: sources.list(5), apt-secure(8).
const KEYRINGS: [&str; 3] = ["/etc/apt/trusted.gpg.d", "/etc/apt/keyrings", "/usr/share/keyrings"];

pub(super) fn keyrings(machine: &Machine) -> BTreeMap<String, Probe<Keyring>> {
    let mut found = BTreeMap::new();
    let mut add = |path: String| match Probe::of_io(fs::read(machine.path(&path)), &path) {
        Probe::Absent => {}
        probe => drop(found.insert(path, probe.map(|bytes| keyring_of(&bytes, SystemTime::now())))),
    };
    add("/etc/apt/trusted.gpg".to_owned());
    let mut unreadable = Vec::new();
    for directory in KEYRINGS {
        match entries(machine, directory) {
            Probe::Known(names) => {
                let is_ring = |name: &String| [".gpg", ".asc", ".pgp"].iter().any(|end| name.ends_with(end));
                names.into_iter().filter(is_ring).for_each(|name| add(format!("{directory}/{name}")));
            }
            Probe::Absent => {}
            Probe::Unreadable(reason) => unreadable.push((directory.to_owned(), Probe::Unreadable(reason))),
        }
    }
    found.extend(unreadable);
    found
}

fn keyring_of(bytes: &[u8], now: SystemTime) -> Keyring {
    let keys = keyring::keys(bytes).into_iter().map(|key| SigningKey {
        fingerprint: key.fingerprint,
        name: key.name,
        expires: key
            .expires
            .and_then(|end| jiff::Timestamp::try_from(end).ok())
            .map(|end| end.strftime("%F").to_string()),
        days_left: key.expires.map(|end| days(end, now)),
    });
    Keyring { sha256: hex::encode(Sha256::digest(bytes)), keys: keys.collect() }
}

/// Whole days from now until then.
fn days(end: SystemTime, now: SystemTime) -> i64 {
    let whole = |time: Duration| i64::try_from(time.as_secs() / 86400).unwrap_or(i64::MAX);
    match end.duration_since(now) {
        Ok(left) => whole(left),
        Err(error) => -whole(error.duration()) - 1,
    }
}

pub(super) fn release_files(machine: &Machine) -> Probe<Vec<ReleaseFile>> {
    const LISTS: &str = "/var/lib/apt/lists";
    let names = match entries(machine, LISTS) {
        Probe::Known(names) => names,
        Probe::Absent => return Probe::Absent,
        Probe::Unreadable(reason) => return Probe::Unreadable(reason),
    };
    let mut files = Vec::new();
    for file in names.into_iter().filter(|name| name.ends_with("_InRelease") || name.ends_with("_Release")) {
        let path = format!("{LISTS}/{file}");
        match Probe::of_io(fs::read(machine.path(&path)), &path) {
            Probe::Known(bytes) => {
                let fields = parse_release(&String::from_utf8_lossy(&bytes));
                files.push(ReleaseFile { file, sha256: hex::encode(Sha256::digest(&bytes)), fields });
            }
            Probe::Absent => {}
            Probe::Unreadable(reason) => return Probe::Unreadable(reason),
        }
    }
    Probe::Known(files)
}

/// The fields of a release file that stand on one line, before its lists of hashes.
pub(super) fn parse_release(text: &str) -> BTreeMap<String, String> {
    const FIELDS: [&str; 8] =
        ["Origin", "Label", "Suite", "Version", "Codename", "Date", "Valid-Until", "Acquire-By-Hash"];
    let fields =
        text.lines().take_while(|line| !line.starts_with(' ')).filter_map(|line| line.split_once(": "));
    let wanted = fields.filter(|(name, _)| FIELDS.contains(name));
    wanted.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}
