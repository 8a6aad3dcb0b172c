use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toril_machine::Machine;

/// What would show it if a machine had been changed: its configuration, accounts, packages, modules and processes.
/// Contents stand here as hashes only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traces {
    /// Each thing, such as `/etc/motd` or `module kvm`, and how it is.
    things: BTreeMap<String, String>,
    /// Names of processes by their ids, without the kernel's, sshd's, and those that this one stands below.
    processes: BTreeMap<u32, String>,
}

/// Trees whose files' content counts.
const CONTENT: [&str; 1] = ["/etc"];
/// Single files whose content counts.
const FILES: [&str; 2] = ["/var/lib/dpkg/status", "/var/lib/apt/extended_states"];
/// Trees of which sizes and times count: their content is large.
const TIMES: [&str; 4] = ["/var/lib/apt/lists", "/var/cache/apt", "/usr/local", "/var/lib/dpkg/info"];

impl Traces {
    /// Looks at a machine.
    pub fn of(machine: &Machine) -> Traces {
        let mut things = BTreeMap::new();
        for path in CONTENT.into_iter().chain(FILES) {
            walk(
                machine,
                path,
                &mut |path, metadata| (described(metadata), content(machine, path, metadata)),
                &mut things,
            );
        }
        for path in TIMES {
            let times = |_: &str, metadata: &Metadata| {
                let size = if metadata.is_file() { metadata.size() } else { 0 };
                let time = format!("{} bytes of {}.{}", size, metadata.mtime(), metadata.mtime_nsec());
                (described(metadata), time)
            };
            walk(machine, path, &mut { times }, &mut things);
        }
        match machine.read("/proc/modules").known() {
            Ok(text) => {
                let text = text.unwrap_or_default();
                let names = text.lines().filter_map(|line| line.split(' ').next());
                things.extend(names.map(|name| (format!("module {name}"), "loaded".to_owned())));
            }
            Err(reason) => drop(things.insert("/proc/modules".into(), reason)),
        }
        Traces { things, processes: processes(machine) }
    }

    /// How many things were looked at.
    pub fn len(&self) -> usize {
        self.things.len() + self.processes.len()
    }

    /// Whether nothing could be looked at.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is other than before, and how. Processes that have ended since do not count.
    pub fn changes_since(&self, before: &Traces) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, now) in &self.things {
            match before.things.get(name) {
                Some(was) if was == now => {}
                Some(was) => changes.push(format!("{name}: {was} → {now}")),
                None => changes.push(format!("{name}: new: {now}")),
            }
        }
        let gone = before.things.keys().filter(|name| !self.things.contains_key(*name));
        changes.extend(gone.map(|name| format!("{name}: gone")));
        let is_new = |(pid, name): &(&u32, &String)| before.processes.get(pid) != Some(*name);
        let appeared = self.processes.iter().filter(is_new);
        changes.extend(appeared.map(|(pid, name)| format!("process {name} ({pid}): new")));
        changes
    }
}

fn described(metadata: &Metadata) -> String {
    format!("{:o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid())
}

fn content(machine: &Machine, path: &str, metadata: &Metadata) -> String {
    let place = machine.path(path);
    let told = match () {
        () if metadata.is_symlink() => fs::read_link(&place).map(|target| format!("→ {}", target.display())),
        () if metadata.is_file() => hash(&place),
        () => Ok(String::new()),
    };
    told.unwrap_or_else(|error| format!("could not be read: {error}"))
}

fn hash(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = [0; 16 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
    Ok(hex::encode(hasher.finalize()))
}

/// Tells of a path and all below it, links not followed.
fn walk(
    machine: &Machine,
    path: &str,
    tell: &mut impl FnMut(&str, &Metadata) -> (String, String),
    things: &mut BTreeMap<String, String>,
) {
    let metadata = match fs::symlink_metadata(machine.path(path)) {
        Ok(metadata) => metadata,
        // Not there, or gone in between: its absence is what tells.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            return drop(things.insert(path.to_owned(), format!("could not be looked at: {error}")));
        }
    };
    let (attributes, more) = tell(path, &metadata);
    things.insert(path.to_owned(), format!("{attributes} {more}").trim_end().to_owned());
    if !metadata.is_dir() {
        return;
    }
    match fs::read_dir(machine.path(path)) {
        Ok(entries) => {
            for entry in entries.flatten() {
                walk(machine, &format!("{path}/{}", entry.file_name().to_string_lossy()), tell, things);
            }
        }
        Err(error) => drop(things.insert(format!("{path}/"), format!("could not be read: {error}"))),
    }
}

/// What strangers begin by knocking at the door, and what a login brings with it.
const OF_LOGINS: [&str; 5] = ["sshd", "sshd-session", "sshd-auth", "(sd-pam)", "systemd-logind"];

fn processes(machine: &Machine) -> BTreeMap<u32, String> {
    let Ok(entries) = fs::read_dir(machine.path("/proc")) else { return BTreeMap::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut all: BTreeMap<u32, (String, u32)> = BTreeMap::new();
    for pid in ids {
        let read = |name: &str| fs::read(machine.path(format!("/proc/{pid}/{name}"))).unwrap_or_default();
        // The kernel's own threads have no command line.
        if read("cmdline").is_empty() {
            continue;
        }
        if let Some(known) = name_and_parent(&String::from_utf8_lossy(&read("stat"))) {
            all.insert(pid, known);
        }
    }
    let mut own = std::process::id();
    while let Some((_, parent)) = all.remove(&own) {
        own = parent;
    }
    let named = all.into_iter().map(|(pid, (name, _))| (pid, name));
    named.filter(|(_, name)| !OF_LOGINS.contains(&name.as_str())).collect()
}

/// Of `7 (a b) S 1 …`: proc_pid_stat(5). A name may hold anything.
pub(super) fn name_and_parent(stat: &str) -> Option<(String, u32)> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    Some((name.to_owned(), rest.split(' ').nth(1)?.parse().ok()?))
}
