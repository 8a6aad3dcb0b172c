//! `check` and `facts` read, and leave the host as it was.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{Sandbox, toril};

/// What logins change, with no toril involved: sshd's and PAM's notes.
const LOGINS: [&str; 4] = ["/run", "/run/motd.dynamic", "/var/log/wtmp", "/var/log/lastlog"];

/// What the first contact with a host changes: the agent is put there.
const DELIVERY: [&str; 2] = ["/var/lib", "/var/lib/toril"];

/// The agent's own folder, for anything in it.
const AGENTS: &str = "/var/lib/toril/agents";

/// Everything that can be seen of a host: a line for each thing, by its name.
fn state(sandbox: &Sandbox) -> BTreeMap<String, String> {
    let script = r#"
        cd /
        for root in / $(cut -d" " -f2 /proc/mounts | grep -vE "^/$|^/(proc|sys)(/|$)"); do
            # A directory of an overlay gets a new inode time when something below it is written.
            find $root -xdev -type d -printf "file %p\t%y %m %U:%G %T@\n"
            find $root -xdev ! -type d -printf "file %p\t%y %m %U:%G %s %T@ %C@ %l\n"
        done
        find /etc /var/lib/dpkg /usr/local -xdev -type f -exec sha256sum {} + | sed "s/\([^ ]*\)  \(.*\)/content \2\t\1/"
        getent passwd | sed "s/^/user /; s/:/\t/"
        getent group | sed "s/^/group /; s/:/\t/"
        dpkg-query --show --showformat "package \${Package}\t\${db:Status-Status} \${Version}\n"
        sed "s/ /\t/; s/^/module /" /proc/modules || :
        sed "s/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\)/mount \1\t/" /proc/1/mountinfo
    "#;
    // What is seen is seen from outside (`processes`) or leaves only what a login leaves.
    let text = sandbox.sudo(script);
    sandbox.is_quiet();
    let lines = text.lines().map(|line| line.split_once('\t').unwrap_or_else(|| panic!("{line:?}")));
    let mut state: BTreeMap<String, String> = lines.map(|(name, is)| (name.into(), is.into())).collect();
    state.extend(sandbox.processes().into_iter().map(|line| (format!("process {line}"), "runs".into())));
    assert!(state.len() > 5000, "that cannot be all of a Debian: {}", state.len());
    for kind in
        ["file /run", "file /dev", "content /etc", "user root", "group root", "package apt", "mount /"]
    {
        assert!(state.keys().any(|name| name.starts_with(kind)), "nothing of the kind {kind}");
    }
    state
}

/// What differs.
fn differences<'s>(
    before: &'s BTreeMap<String, String>,
    after: &'s BTreeMap<String, String>,
) -> Vec<&'s str> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |name: &&String| before.get(*name) != after.get(*name);
    names.into_iter().filter(differs).map(String::as_str).collect()
}

fn nothing_changes(sandbox: &Sandbox, status: i32, exceptions: &[&str]) {
    let host = sandbox.host();
    let before = state(sandbox);
    toril(&["check", &host]).exits(status);
    toril(&["check", "-v", &host]).exits(status);
    toril(&["apply", "--dry-run", &host]).exits(status);
    toril(&["facts", &host]).exits(0);
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("acceptance.json");
    toril(&["acceptance", "--read-only", "--output", file.to_str().unwrap(), &host]).exits(0);
    sandbox.is_quiet();
    let after = state(sandbox);
    let excepted = |name: &str| {
        let path = name.strip_prefix("file ").unwrap_or_default();
        LOGINS.contains(&path) || exceptions.contains(&path) || path.starts_with(AGENTS)
    };
    let changed = differences(&before, &after).into_iter().filter(|name| !excepted(name));
    let lines: Vec<String> =
        changed.map(|name| format!("{name}: {:?} → {:?}", before.get(name), after.get(name))).collect();
    assert!(lines.is_empty(), "check changed the host:\n{}", lines.join("\n"));
}

#[test]
fn check_changes_nothing_on_a_host_that_is_as_it_should_be() {
    let Some(sandbox) = Sandbox::provisioned("read-only") else { return };
    nothing_changes(&sandbox, 0, &[]);
}

#[test]
fn check_changes_nothing_where_everything_drifted() {
    let Some(sandbox) = Sandbox::fresh("read-only-bare") else { return };
    nothing_changes(&sandbox, 3, &DELIVERY);
}
