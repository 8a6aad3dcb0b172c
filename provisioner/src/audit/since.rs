//! What guests run on, moved since the last run of tests: a result that changed then need not be the code's.

use toril_machine::{Facts, Fingerprint, Machine, Probe};

use super::Finding;

/// Where the fingerprint of the last run of tests is kept.
pub const LAST_RUN: &str = "/var/lib/toril/last-run.json";

/// What apt did, the newest last.
const HISTORY: &str = "/var/log/apt/history.log";

pub(super) fn look(machine: &Machine, facts: &Facts) -> Vec<Finding> {
    let finding = |what| Finding { about: "since the last run of tests".into(), what, remedy: None };
    let text = match machine.read(LAST_RUN) {
        Probe::Known(text) => text,
        Probe::Absent => return Vec::new(),
        Probe::Unreadable(reason) => return vec![finding(format!("could not look: {reason}"))],
    };
    let Ok(before) = serde_json::from_str::<Fingerprint>(&text) else {
        return vec![finding(format!("could not look: {LAST_RUN} is no fingerprint"))];
    };
    let history = machine.read(HISTORY).known().ok().flatten().unwrap_or_default();
    let after = Fingerprint::take(machine, facts, false);
    let differences = before.compare(&after).differences.into_iter().filter(|difference| {
        difference.name == "kernel" || [".package", ".path"].iter().any(|end| difference.name.ends_with(end))
    });
    let words = |value: Option<String>| value.unwrap_or_else(|| "none".into());
    differences
        .map(|difference| {
            let by =
                difference.after.as_deref().and_then(|version| mover(&history, version)).unwrap_or_default();
            let (before, after) = (words(difference.before), words(difference.after));
            finding(format!("{} has changed: {before} → {after}{by}", difference.name))
        })
        .collect()
}

/// Who brought a version, by apt's history: paragraphs with `Start-Date:`, `Commandline:`, and what was done as
/// `Upgrade: NAME:ARCH (OLD, NEW), …`.
fn mover(history: &str, version: &str) -> Option<String> {
    let brought = format!(", {version})");
    let paragraph = history.split("\n\n").filter(|paragraph| paragraph.contains(&brought)).last()?;
    let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let date = field("Start-Date:")?.split_whitespace().collect::<Vec<_>>().join(" ");
    let command = field("Commandline:").unwrap_or("apt");
    Some(format!(", by `{command}` on {date}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Release, sample_facts};

    const APT: &str = "\nStart-Date: 2026-11-20  06:12:01\nCommandline: /usr/bin/unattended-upgrade\n\
        Upgrade: qemu-system-x86:amd64 (1:7.2+dfsg-7, 1:7.2+dfsg-8), socat:amd64 (1, 2)\nEnd-Date: 2026-11-20  06:13:01\n";

    #[test]
    fn who_moved_a_package_is_named() {
        let by = mover(APT, "1:7.2+dfsg-8").unwrap();
        assert_eq!(by, ", by `/usr/bin/unattended-upgrade` on 2026-11-20 06:12:01");
        assert_eq!(mover(APT, "1:7.2+dfsg-7"), None);
        assert_eq!(mover("", "1"), None);
    }

    #[test]
    fn what_moved_is_told_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::at(dir.path());
        let facts = sample_facts(Release::parse("debian 12").unwrap());
        assert_eq!(look(&machine, &facts), [], "there was no run yet");
        let write = |path: &str, text: &str| {
            let path = machine.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let mut print = Fingerprint::take(&machine, &facts, true);
        write(LAST_RUN, &serde_json::to_string(&print).unwrap());
        assert_eq!(look(&machine, &facts), []);
        print.set("qemu.package", "1:7.2+dfsg-7");
        print.set("cpu.model", "another");
        write(LAST_RUN, &serde_json::to_string(&print).unwrap());
        let found = look(&machine, &facts);
        assert_eq!(found[0].what, "qemu.package has changed: 1:7.2+dfsg-7 → none");
        assert_eq!(found.len(), 1);
        write(LAST_RUN, "rubbish");
        assert!(look(&machine, &facts)[0].what.contains("is no fingerprint"));
    }
}
