//! Fingerprints: what of a host can move a test's result, carried by runs and compared.

use crate::harness::{Sandbox, document, toril};

/// What an upgrade that nobody watched would leave.
const UPGRADE: &str = r"
version=$(dpkg-query --show --showformat '${Version}' socat)
sed -i '/^Package: socat$/,/^$/ s/^Version: .*/Version: 1.9-1/' /var/lib/dpkg/status
printf '\nStart-Date: 2026-11-20  06:12:01\nCommandline: /usr/bin/unattended-upgrade\nUpgrade: socat:amd64 (%s, 1.9-1)\n' \
    $version >> /var/log/apt/history.log
";

#[test]
fn fingerprints_are_carried_by_runs_and_tell_what_moved() {
    let Some(sandbox) = Sandbox::provisioned("print") else { return };
    let host = sandbox.host();
    let facts = toril(&["facts", "--fingerprint", "--json", &host]).exits(0);
    let before = facts.events().into_iter().find(|event| event["event"] == "fingerprint").unwrap();
    let value = |name: &str| before["fingerprint"][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(value("qemu.sha256").len(), 64, "{facts}");
    assert!(value("recipe").starts_with("built-in microvm-host "), "{facts}");
    let file = document(&facts.stdout);
    toril(&["facts", "--against", &file.path(), &host]).exits(0).shows("0 differences from");

    let run = toril(&["test", "--filter", "socat", "--json", &host]).exits(0);
    let ended = run.events().into_iter().find_map(|event| event.pointer("/run/ended").cloned()).unwrap();
    assert_eq!(ended["fingerprint"]["qemu.sha256"], value("qemu.sha256"), "{run}");
    toril(&["check", &host]).exits(0).hides("since the last run");

    sandbox.sudo(UPGRADE);
    toril(&["check", &host])
        .exits(0)
        .shows("since the last run of tests: socat.package has changed: 1.7.4")
        .shows("→ 1.9-1, by `/usr/bin/unattended-upgrade` on 2026-11-20 06:12:01");
    toril(&["check", "--strict", &host]).exits(3);
    toril(&["facts", "--against", &document(&run.stdout).path(), &host])
        .exits(3)
        .shows("1 difference from the fingerprint before")
        .shows("~ socat.package: 1.7.4");
    // Two that are kept, and no host.
    let (before, after) = (document(&facts.stdout), document(&run.stdout));
    toril(&["report", "compare", &before.path(), &after.path()])
        .exits(0)
        .shows("0 differences from the fingerprint before");
    let nothing = document("");
    toril(&["facts", "--against", &nothing.path(), &host]).exits(2).shows("there is no fingerprint in");
}
