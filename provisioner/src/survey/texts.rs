use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use toril_machine::{Machine, Probe};

use super::entries;
use super::system::{MODULES, is_of};

/// The largest text that is taken along, in bytes.
const LARGEST: u64 = 256 << 10;

/// Taken as they are.
const WHOLE: [&str; 12] = [
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/debian_version",
    "/etc/apt/sources.list",
    "/etc/apt/preferences",
    "/etc/modules",
    "/etc/nsswitch.conf",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/hostname",
    "/proc/self/uid_map",
    "/run/systemd/container",
    "/run/reboot-required.pkgs",
];

/// Directories, of which all files with such an end are taken.
const DIRECTORIES: [(&str, &str); 4] = [
    ("/etc/apt/sources.list.d", ".list"),
    ("/etc/apt/sources.list.d", ".sources"),
    ("/etc/apt/preferences.d", ""),
    ("/etc/modules-load.d", ".conf"),
];

/// Where udev reads its rules: udev(7).
const RULES: [&str; 4] =
    ["/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d"];

/// Texts that decide how a recipe stands.
pub(super) fn files(machine: &Machine, paths: &[String]) -> BTreeMap<String, Probe<String>> {
    let mut files = BTreeMap::new();
    for path in WHOLE {
        files.insert(path.to_owned(), text(machine, path));
    }
    for (directory, end) in DIRECTORIES {
        match entries(machine, directory) {
            Probe::Known(names) => {
                for name in names.iter().filter(|name| name.ends_with(end)) {
                    let path = format!("{directory}/{name}");
                    files.insert(path.clone(), text(machine, &path));
                }
            }
            Probe::Absent => {}
            Probe::Unreadable(reason) => drop(files.insert(directory.to_owned(), Probe::Unreadable(reason))),
        }
    }
    // The recipe's own files, where everybody may read them.
    for path in paths.iter().filter(|path| is_public(machine, path)) {
        files.insert(path.clone(), text(machine, path));
    }
    let kernel = match machine.read("/proc/sys/kernel/osrelease") {
        Probe::Known(kernel) => kernel.trim().to_owned(),
        Probe::Absent | Probe::Unreadable(_) => String::new(),
    };
    let is_module = |line: &str| {
        let path = line.split(':').next().unwrap_or(line);
        MODULES.iter().any(|name| is_of(path, name))
    };
    for list in ["modules.dep", "modules.builtin"] {
        let path = format!("/lib/modules/{kernel}/{list}");
        files.insert(path.clone(), machine.read(&path).map(|text| lines(&text, is_module)));
    }
    let part =
        |path: &str, part: fn(&str) -> String| (path.to_owned(), machine.read(path).map(|text| part(&text)));
    files.extend([
        part("/etc/passwd", accounts),
        part("/etc/group", accounts),
        part("/proc/cpuinfo", processors),
        part("/proc/meminfo", |text| lines(text, |line| line.starts_with("MemTotal:"))),
        part("/proc/self/status", |text| lines(text, |line| line.starts_with("CapBnd:"))),
        part("/proc/1/environ", container),
    ]);
    files.extend(rules(machine));
    files
}

fn text(machine: &Machine, path: &str) -> Probe<String> {
    match Probe::of_io(fs::metadata(machine.path(path)), path) {
        Probe::Known(metadata) if metadata.len() > LARGEST => {
            Probe::Unreadable(format!("{path} has {} bytes, more than are taken along", metadata.len()))
        }
        Probe::Known(_) => machine.read(path),
        Probe::Absent => Probe::Absent,
        Probe::Unreadable(reason) => Probe::Unreadable(reason),
    }
}

/// A file of text that everybody may read.
fn is_public(machine: &Machine, path: &str) -> bool {
    let metadata = fs::symlink_metadata(machine.path(path));
    metadata.is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o004 != 0)
        && fs::read(machine.path(path)).is_ok_and(|bytes| std::str::from_utf8(&bytes).is_ok())
}

fn lines(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    text.lines().filter(|line| wanted(line)).map(|line| format!("{line}\n")).collect()
}

/// `/etc/passwd` or `/etc/group` without what may be a password, and without people's full names.
pub(super) fn accounts(text: &str) -> String {
    let line = |line: &str| {
        let mut fields: Vec<&str> = line.split(':').collect();
        if let Some(password) = fields.get_mut(1) {
            *password = "x";
        }
        if let [_, _, _, _, comment, _, _] = &mut fields[..] {
            *comment = "";
        }
        format!("{}\n", fields.join(":"))
    };
    text.lines().map(line).collect()
}

/// The first processor, and that there are others.
pub(super) fn processors(text: &str) -> String {
    let mut processors = text.split("\n\n").filter(|block| !block.trim().is_empty());
    let first = processors.next().map(|block| format!("{}\n\n", block.trim_end()));
    let others = processors.map(|block| {
        let number = block.lines().find(|line| line.starts_with("processor")).unwrap_or_default();
        format!("{number}\n\n")
    });
    first.into_iter().chain(others).collect()
}

/// What the first process was told of its container; the rest of its environment is nobody's business.
pub(super) fn container(environment: &str) -> String {
    let entry = environment.split('\0').find(|entry| entry.starts_with("container="));
    entry.map_or(String::new(), |entry| format!("{entry}\0"))
}

/// Of udev's rules the lines on the devices of guests, by file.
fn rules(machine: &Machine) -> BTreeMap<String, Probe<String>> {
    let mut found = BTreeMap::new();
    for directory in RULES {
        let names = match entries(machine, directory) {
            Probe::Known(names) => names,
            Probe::Absent => continue,
            Probe::Unreadable(reason) => {
                found.insert(directory.to_owned(), Probe::Unreadable(reason));
                continue;
            }
        };
        for name in names.into_iter().filter(|name| name.ends_with(".rules")) {
            let path = format!("{directory}/{name}");
            let told = machine.read(&path).map(|text| match directory {
                // Whole where people write: toril's own is one of these.
                "/etc/udev/rules.d" if is_on_guests(&text) => text,
                _ => lines(&text, is_on_guests),
            });
            if told != Probe::Absent && told != Probe::Known(String::new()) {
                found.insert(path, told);
            }
        }
    }
    found
}

fn is_on_guests(text: &str) -> bool {
    ["\"kvm\"", "vhost-vsock", "\"vsock\""].iter().any(|device| text.contains(device))
}
