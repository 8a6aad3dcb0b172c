//! `uninstall`: nothing of toril's own is left on a host, and what stays is told.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Sandbox, TORIL, Toril, document, toril};
use crate::many;

/// What is called by toril's name, wherever it is, but for what makes the host a sandbox.
fn called_toril(sandbox: &Sandbox) -> Vec<String> {
    let found = sandbox.sudo(
        "find / -xdev -iname '*toril*' ! -path '/proc/*' ! -path '/sys/*'; \
         for place in /run /tmp /var/tmp /dev/shm; do find $place -iname '*toril*'; done",
    );
    let found = found.lines().filter(|line| !line.starts_with("/run/host/"));
    found.map(str::to_owned).collect()
}

/// The paths that an event tells of as toril's own.
fn own(event: &Value) -> Vec<&str> {
    event["own"].as_array().unwrap().iter().map(|own| own["path"].as_str().unwrap()).collect()
}

#[test]
fn nothing_of_torils_own_is_left_and_what_stays_is_told() {
    let Some(sandbox) = Sandbox::provisioned("uninstall") else { return };
    let host = sandbox.host();
    toril(&["test", "--filter", "unprivileged", "--keep", &host]).exits(0);
    sandbox.sudo("echo mine > /var/lib/toril/home/notes; chown toril: /var/lib/toril/home/notes");

    let told = toril(&["uninstall", &host, "--dry-run"]).exits(0);
    let told = told.shows("  /var/lib/toril/agents (toril itself, ").shows("  /var/log/toril-apt.log (");
    let told = told.shows("    kept /var/lib/toril/runs/run-").shows(", less than an hour ago, ");
    let told = told.shows("; by hand: `userdel --remove toril`");
    toril(&["clean", &host, "--dry-run"]).exits(0).shows("kept /var/lib/toril/runs/run-");

    let removed = toril(&["uninstall", &host]).exits(0).shows("removed ").shows(" paths of toril's own, ");
    removed.hides("not removed");
    assert_eq!(sandbox.sudo("ls -A /var/lib/toril"), "home\n");
    assert_eq!(sandbox.sudo("cd / && sudo -u toril cat /var/lib/toril/home/notes"), "mine\n");
    // What is still called by its name was named.
    let mut left = called_toril(&sandbox);
    left.retain(|path| path != "/var/lib/toril" && !told.stdout.contains(path.as_str()));
    left.retain(|path| !path.starts_with("/usr/local/lib/toril/"));
    assert_eq!(left, [""; 0], "{told}");
    sandbox.is_quiet();

    let again = toril(&["uninstall", "--json", &host]).exits(0);
    let events = again.events();
    let of: Vec<&Value> = events.iter().filter(|event| event["event"] == "footprint").collect();
    assert!(
        matches!(of[..], [there, gone] if there["removed"] == false && gone["removed"] == true),
        "{again}"
    );
    assert!(of.iter().all(|event| own(event).is_empty()), "{again}");
    assert_eq!(sandbox.sudo("ls -A /var/lib/toril; ls -d /run/toril 2>/dev/null || :"), "home\n");

    toril(&["up", &host]).exits(0);
    sandbox.sudo("userdel --remove toril");
    toril(&["uninstall", &host]).exits(0);
    assert_eq!(sandbox.sudo("ls -d /var/lib/toril 2>/dev/null || :"), "", "nothing is in it any more");
    sandbox.is_quiet();
}

#[test]
fn a_host_that_somebody_uses_is_left_alone() {
    let Some(sandbox) = Sandbox::fresh("uninstall-busy") else { return };
    let host = sandbox.host();
    let suite = document(
        "run-as = \"nobody\"\n[[test]]\nname = \"long\"\n\
         command = [\"sh\", \"-c\", \"touch /tmp/there; until [ -e /tmp/go ]; do sleep 0.1; done\"]\n",
    );
    let path = suite.path();
    let mut first = Toril::new(&["test", "--json", "--suite", &path, &host]).spawn();
    first.wait_for("\"test-started\"");
    let mut second = Toril::new(&["test", "--json", "--wait", "2m", "--suite", &path, &host]).spawn();
    second.wait_for("\"waiting\"");
    let busy = toril(&["uninstall", &host]).exits(1);
    busy.shows("uninstalling: the host is in use by ")
        .shows(" (test ")
        .shows("wait for it with --wait 10m")
        .hides("removed");
    let mut waits = Toril::new(&["uninstall", &host, "--wait", "2m"]).spawn();
    waits.wait_for("waiting: the host is in use by ");
    assert!(sandbox.sudo("ls /var/lib/toril/journals").lines().count() >= 2);
    sandbox.ssh("touch /tmp/go");
    // Both who came before come to their ends.
    first.wait().exits(0);
    second.wait().exits(0);
    waits.wait().exits(0).shows("removed ");
    assert_eq!(sandbox.sudo("ls -d /var/lib/toril /run/toril 2>/dev/null || :"), "");
    sandbox.is_quiet();
}

#[test]
fn it_is_asked_on_a_host_that_is_no_sandbox() {
    let Some(sandbox) = Sandbox::provisioned("uninstall-ask") else { return };
    let place = tempfile::tempdir().unwrap();
    let inventory = many::host("box", &sandbox, "user = \"debian\"");
    std::fs::write(place.path().join("inventory.toml"), inventory).unwrap();
    // Answered once it asks: what is typed before is no answer.
    let ask = |answer: &[u8]| {
        let keys = place.path().join("keys");
        let line = format!("mkfifo keys && exec script -qec \"'{TORIL}' uninstall box\" /dev/null <keys");
        let call = Toril::of(Path::new("sh"), &["-c", &line]).dir(place.path()).env("NO_COLOR", "1");
        let mut asked = call.spawn();
        while !keys.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut keys = File::options().write(true).open(keys).unwrap();
        asked.wait_for("box: remove what is toril's own? [y/N]");
        keys.write_all(answer).unwrap();
        let asked = asked.wait();
        std::fs::remove_file(place.path().join("keys")).unwrap();
        asked
    };
    ask(b"n\n").exits(1).shows("not confirmed; the host is as it was").hides("removed ");
    assert!(sandbox.sudo("ls -A /var/lib/toril").contains("journals"));
    ask(b"y\n").exits(0).shows("removed ");
    assert_eq!(sandbox.sudo("ls -A /var/lib/toril"), "home\n");
}
