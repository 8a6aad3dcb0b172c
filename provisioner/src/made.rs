//! What applies have left on a machine, told apart: what toril keeps there for itself, and what recipes have made. The
//! recipes themselves may be gone by then, so the latter is known only by names and marks that all kinds use.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toril_machine::{Command, Machine, Probe, RECIPE};

use crate::apt::lists::MARK;
use crate::apt::{LOG, PLACE};
use crate::audit::LAST_RUN;
use crate::engine::DUE;
use crate::resource::{DOWNLOADS, WRITTEN};
use crate::unfinished::RECORD;

/// What is kept for later applies and checks, and is of no use without them: each path, and what it is.
pub const OWN: [(&str, &str); 7] = [
    (RECIPE, "which recipe was carried out last"),
    (LAST_RUN, "the fingerprint of the last run of tests"),
    (DUE, "handlers that are due"),
    (DOWNLOADS, "downloads whose connections broke"),
    (RECORD, "the record of what is being made"),
    (PLACE, "packages that were being fetched"),
    (LOG, "what apt and dpkg printed"),
];

/// Where recipes keep programs, and the links to them.
const PROGRAMS: &str = "/usr/local/lib/toril";
const LINKS: &str = "/usr/local/bin";

/// Where recipes keep what they build from.
const SOURCES: &str = "/var/lib/toril/sources";

/// Homes below this are of users that recipes make.
const HOMES: &str = "/var/lib/toril/";

const APT_LISTS: &str = "/etc/apt/sources.list.d";

/// How kinds name their files: the directory, how a name begins and ends, and what the file is for.
const FILES: [(&str, &str, &str, &str); 5] = [
    ("/etc/apt/preferences.d", "toril-", ".pref", "apt's preferences"),
    ("/etc/modules-load.d", "toril-", ".conf", "modules that are loaded at boot"),
    ("/etc/sysctl.d", "65-toril-", ".conf", "settings of the kernel"),
    ("/etc/udev/rules.d", "65-toril-", ".rules", "udev's rules"),
    ("/etc/motd.d", "toril", "", "the notice at login"),
];

/// Something that recipes have made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// What it is, and where.
    pub what: String,
    /// The command that takes it away, where there is a short one.
    pub by_hand: Option<String>,
}

impl Made {
    fn files(what: &str, paths: &[String]) -> Option<Made> {
        let by_hand = Some(Command::new("rm", paths).to_string());
        (!paths.is_empty()).then(|| Made { what: format!("{what}: {}", paths.join(", ")), by_hand })
    }
}

/// What recipes have made on a machine where tests run as `user`, as far as it can be seen. What needs something else
/// stands before it, so that the commands may be given in this order.
pub fn made(machine: &Machine, user: &str) -> Vec<Made> {
    let mut all = Vec::new();
    all.extend(Made::files("apt's sources, and their keys", &sources(machine)));
    all.extend(retired(machine));
    let pins = ["/etc/apt/apt.conf.d/60toril-pins", "/etc/apt/toril-pins.d"];
    let pins: Vec<&str> = pins.into_iter().filter(|path| is_there(machine, path)).collect();
    if !pins.is_empty() {
        let by_hand = Command::new("rm", [&["-r"], &pins[..]].concat()).to_string();
        let what = format!("pins of archives whose keys have expired: {}", pins.join(", "));
        all.push(Made { what, by_hand: Some(by_hand) });
    }
    for (directory, start, end, what) in FILES {
        let is_own = |name: &str| match end {
            "" => name == start,
            end => name.starts_with(start) && name.ends_with(end),
        };
        all.extend(Made::files(what, &listed(machine, directory, is_own)));
    }
    all.extend(users(machine, user));
    all.extend(Made::files("links to programs", &links(machine)));
    for (path, what) in [
        (PROGRAMS, "programs that were built or fetched; other links to them end with them"),
        (SOURCES, "what programs were built from"),
    ] {
        if is_there(machine, path) {
            let by_hand = Some(format!("rm -r {path}"));
            all.push(Made { what: format!("{path}: {what}"), by_hand });
        }
    }
    if let Probe::Known(text) = machine.read(RECIPE)
        && let Some((recipe, _hash)) = text.trim().rsplit_once(' ')
    {
        let what = format!("packages, groups and whatever else is said in the recipe {recipe}");
        all.push(Made { what, by_hand: None });
    }
    all
}

fn is_there(machine: &Machine, path: &str) -> bool {
    matches!(machine.exists(path), Probe::Known(()))
}

/// The paths of what is in a directory and has such a name.
fn listed(machine: &Machine, directory: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let Ok(entries) = fs::read_dir(machine.path(directory)) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut paths: Vec<String> =
        names.filter(|name| is_wanted(name)).map(|name| format!("{directory}/{name}")).collect();
    paths.sort();
    paths
}

/// Lists of apt's that a recipe has written, each with the key that it has brought for it.
fn sources(machine: &Machine) -> Vec<String> {
    let written = |path: &String| {
        let text = machine.read(path);
        matches!(text, Probe::Known(text) if text.lines().next() == Some(WRITTEN))
    };
    let lists = listed(machine, APT_LISTS, |name| name.ends_with(".sources")).into_iter().filter(written);
    let with_key = |list: String| {
        let name = list.trim_start_matches(APT_LISTS).trim_end_matches(".sources");
        let key = format!("/etc/apt/keyrings{name}.asc");
        let key = is_there(machine, &key).then_some(key);
        std::iter::once(list).chain(key)
    };
    lists.flat_map(with_key).collect()
}

/// Entries of other lists that were taken out of use.
fn retired(machine: &Machine) -> Option<Made> {
    let has_some = |path: &String| {
        let text = machine.read(path);
        matches!(text, Probe::Known(text) if text.lines().any(|line| line.starts_with(MARK)))
    };
    let lists =
        std::iter::once("/etc/apt/sources.list".to_owned()).chain(listed(machine, APT_LISTS, |_| true));
    let lists: Vec<String> = lists.filter(has_some).collect();
    if lists.is_empty() {
        return None;
    }
    let what = format!("entries of apt's sources that were taken out of use, in {}", lists.join(", "));
    let expression = format!("s/^{MARK}//");
    let words = ["-i", &expression].into_iter().chain(lists.iter().map(String::as_str));
    Some(Made { what, by_hand: Some(Command::new("sed", words).to_string()) })
}

/// The test user, and others whose homes are where recipes put them.
fn users(machine: &Machine, user: &str) -> Vec<Made> {
    let Probe::Known(text) = machine.read("/etc/passwd") else { return Vec::new() };
    let made = |line: &str| {
        let mut fields = line.split(':');
        let (name, home) = (fields.next()?, fields.nth(4)?);
        (name == user || home.starts_with(HOMES)).then(|| Made {
            what: format!("the user {name}, with the home {home}"),
            by_hand: Some(Command::new("userdel", ["--remove", name]).to_string()),
        })
    };
    text.lines().filter_map(made).collect()
}

/// Links on the path that lead to programs of recipes.
fn links(machine: &Machine) -> Vec<String> {
    let leads_there = |path: &String| {
        fs::read_link(machine.path(path)).is_ok_and(|target| target.starts_with(Path::new(PROGRAMS)))
    };
    listed(machine, LINKS, |_| true).into_iter().filter(leads_there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_recipes_have_made_is_known_by_its_names_and_marks() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::at(root.path());
        assert_eq!(made(&machine, "toril"), []);
        for (path, text) in [
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\ntoril:x:9:9::/var/lib/toril/home:/bin/sh\n"),
            ("etc/apt/sources.list", "# toril: deb http://old a b\n"),
            ("etc/apt/sources.list.d/mine.sources", "# Mine.\nTypes: deb\n"),
            ("etc/apt/sources.list.d/toril-buster.sources", "# Written by toril.\nTypes: deb\n"),
            ("etc/apt/keyrings/toril-buster.asc", ""),
            ("etc/apt/keyrings/mine.asc", ""),
            ("etc/apt/apt.conf.d/60toril-pins", ""),
            ("etc/udev/rules.d/65-toril-kvm.rules", ""),
            ("etc/udev/rules.d/65-kvm.rules", ""),
            ("etc/motd.d/toril", ""),
            ("etc/motd.d/toril-club", ""),
            ("usr/local/lib/toril/socat-1.7.4.4", ""),
            ("usr/local/bin/other", ""),
            ("var/lib/toril/recipe", "built-in microvm-host 0123\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let link = root.path().join("usr/local/bin/socat");
        std::os::unix::fs::symlink("/usr/local/lib/toril/socat-1.7.4.4", link).unwrap();
        let commands: Vec<_> = made(&machine, "toril").into_iter().map(|made| made.by_hand).collect();
        let commands: Vec<_> = commands.iter().map(Option::as_deref).collect();
        assert_eq!(
            commands,
            [
                Some("rm /etc/apt/sources.list.d/toril-buster.sources /etc/apt/keyrings/toril-buster.asc"),
                Some("sed -i 's/^# toril: //' /etc/apt/sources.list"),
                Some("rm -r /etc/apt/apt.conf.d/60toril-pins"),
                Some("rm /etc/udev/rules.d/65-toril-kvm.rules"),
                Some("rm /etc/motd.d/toril"),
                Some("userdel --remove toril"),
                Some("rm /usr/local/bin/socat"),
                Some("rm -r /usr/local/lib/toril"),
                None,
            ]
        );
        let last = made(&machine, "toril").pop().unwrap().what;
        assert_eq!(last, "packages, groups and whatever else is said in the recipe built-in microvm-host");
    }
}
