//! What hosts can do for guests, shown by guests; and each part broken on purpose, told for the right reason.

use serde_json::Value;

use crate::harness::{Finished, Sandbox, document, toril};

/// A recipe that holds whatever of the host's programs is broken.
const NOTHING: &str = r#"
description = "A directory"
supports = ["debian 10", "debian 11", "debian 12", "debian 13"]

[[resource]]
name = "a directory"
directory = { path = "/srv/verify" }
"#;

/// A test that needs virtio-fs, and one that does not.
const SHARING: &str = r#"
[[test]]
name = "sharing"
[test.guest]
kernel = "builtin:toolkit"
append = "cases=0 fs=data"
share = { dir = "/srv/verify", tag = "data" }

[[test]]
name = "plain"
[test.guest]
kernel = "builtin:toolkit"
"#;

/// The result of a probe.
fn probe(run: &Finished, name: &str) -> Value {
    let results = run.events().into_iter().filter_map(|event| event.pointer("/run/result").cloned());
    results
        .into_iter()
        .find(|result| result["probe"] == name)
        .unwrap_or_else(|| panic!("{name} is missing: {run}"))
}

fn state(run: &Finished, name: &str) -> (String, String) {
    let result = probe(run, name);
    let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
    (text("state"), format!("{} / {}", text("what"), text("remedy")))
}

#[test]
fn a_host_shows_what_it_can_do() {
    let Some(sandbox) = Sandbox::provisioned("verify") else { return };
    let host = sandbox.host();
    let run = toril(&["verify", "--json", &host]).exits(0);
    let (works, what) = state(&run, "boot");
    assert_eq!(works, "works", "{what}");
    assert!(what.contains("its first byte came after "), "{what}");
    let (works, what) = state(&run, "virtio-fs");
    assert_eq!(works, "works", "{what}");
    assert!(what.contains("MiB/s"), "{what}");
    let ended = run.events().into_iter().find_map(|event| event.pointer("/run/ended").cloned()).unwrap();
    let verified = &ended["verified"];
    // The figures are facts of the host from now on.
    let facts = toril(&["facts", "--fingerprint", "--json", &host]).exits(0);
    let print = facts.events().into_iter().find(|event| event["event"] == "fingerprint").unwrap();
    for figure in ["boot-time", "wall-time", "virtio-fs-rate", "accelerator"] {
        let name = format!("figure.{figure}");
        assert!(print["fingerprint"][&name].is_string(), "{figure}: {facts}");
        assert_eq!(print["fingerprint"][&name], verified["figures"][figure], "{figure}: {facts}");
    }
    if verified["accelerator"] == "tcg" {
        let (broken, what) = state(&run, "acceleration");
        assert_eq!(broken, "broken", "{what}");
        assert!(what.contains("/dev/kvm") && what.contains("emulated (TCG) the same guest works"), "{what}");
        assert_eq!(probe(&run, "acceleration")["accepted"], true);
        toril(&["verify", "--accel", "kvm", &host]).exits(5).shows("✗ acceleration: does not work: ");
    }
    if sandbox.ssh("test -e /dev/vhost-vsock || echo none").contains("none") {
        for name in ["vsock", "forwarding"] {
            let (untried, what) = state(&run, name);
            assert_eq!(untried, "untried", "{what}");
            assert!(
                what.contains("cannot be tried: /dev/vhost-vsock is missing / load the module"),
                "{what}"
            );
        }
        toril(&["verify", "--require", "vsock", &host]).exits(5);
    }
    sandbox.is_clean();
}

#[test]
fn what_is_broken_is_told_for_what_it_is() {
    let Some(sandbox) = Sandbox::provisioned("broken") else { return };
    let host = sandbox.host();
    let daemon = sandbox.ssh("ls /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd 2>/dev/null || :");
    let daemon = daemon.lines().next().unwrap();
    let qemu = "/usr/bin/qemu-system-x86_64";
    let in_place = |path: &str, script: &str| {
        sandbox.sudo(&format!(
            "mv {path} {path}.real; printf '#!/bin/sh\n%s\n' '{script}' > {path}; chmod 755 {path}"
        ));
    };
    let back = |path: &str| sandbox.sudo(&format!("rm -f {path}; mv {path}.real {path}"));
    let says = |name: &str, expected: &str, words: &str| {
        let run = toril(&["verify", "--json", &host]);
        let (state, what) = state(&run, name);
        assert_eq!(state, expected, "{name}: {what}");
        assert!(what.contains(words), "{name}: {words}: {what}");
        assert!(!what.ends_with("/ "), "there is something to try: {what}");
        run
    };

    sandbox.sudo(&format!("mv {daemon} {daemon}.real"));
    says("virtio-fs", "broken", "there is no virtiofsd on the host").exits(5);
    sandbox.sudo(&format!("cp /bin/true {daemon}"));
    says("virtio-fs", "broken", "is no virtiofsd").exits(5);
    back(daemon);
    in_place(daemon, &format!("case $* in *--help*) exec {daemon}.real --help;; esac; kill -9 $$"));
    says("virtio-fs", "broken", "SIGKILL").exits(5);
    // What does not work keeps the tests back that need it, and no others.
    let (recipe, suite) = (document(NOTHING), document(SHARING));
    toril(&["up", "--recipe", &recipe.path(), "--suite", &suite.path(), &host])
        .exits(0)
        .shows("✗ virtio-fs: does not work: ")
        .shows("it needs virtio-fs, which does not work here: ")
        .shows("1 passed, 1 skipped");
    toril(&["check", "--recipe", &recipe.path(), &host]).exits(0).hides("virtio-fs");
    toril(&["check", "--prove", "--recipe", &recipe.path(), &host]).exits(5).shows("✗ virtio-fs: ");
    back(daemon);

    in_place(
        qemu,
        &format!(
            "case $* in *microvm*) echo unsupported machine type >&2; exit 1;; esac; exec {qemu}.real \"$@\""
        ),
    );
    says("boot", "broken", "unsupported machine type").exits(5);
    back(qemu);
    in_place(qemu, "kill -ABRT $$");
    says("boot", "broken", "SIGABRT").exits(5);
    back(qemu);
    in_place(qemu, "exec sleep 60");
    says("boot", "broken", "no end within ").exits(5);
    back(qemu);
    sandbox.sudo(&format!("mv {qemu} {qemu}.real"));
    says("boot", "untried", "QEMU is missing").exits(5);
    sandbox.sudo(&format!("mv {qemu}.real {qemu}"));

    if sandbox.ssh("test -c /dev/kvm && echo there || :").contains("there") {
        let mode = sandbox.sudo("stat -c %a /dev/kvm; chmod 0600 /dev/kvm");
        says("acceleration", "broken", "the user toril may not open /dev/kvm").exits(0);
        sandbox.sudo(&format!("chmod {} /dev/kvm", mode.trim()));
        sandbox.sudo("gpasswd --delete toril kvm");
        says("acceleration", "broken", "usermod -aG kvm toril");
        sandbox.sudo("usermod -aG kvm toril");
    }
    sandbox.sudo("usermod --login other toril");
    says("boot", "untried", "there is no user `toril`").exits(5);
    sandbox.sudo("usermod --login toril other");
    toril(&["verify", &host]).exits(0);
    sandbox.is_clean();
}
