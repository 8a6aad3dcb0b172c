//! What hosts can do for guests, shown by guests; and each part broken on purpose, told for the right reason.

use serde_json::Value;

use crate::harness::{Finished, Sandbox, Toril, document, toril};

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
    for figure in ["boot-time", "wall-time", "virtio-fs-rate", "virtio-fs-latency", "accelerator"] {
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

/// A guest and a command, which passes wherever there is a shell.
const BOTH: &str = r#"
[[test]]
name = "guest"
[test.guest]
kernel = "builtin:toolkit"

[[test]]
name = "command"
command = ["true"]
"#;

#[test]
fn a_host_where_no_guest_boots_is_no_success() {
    let Some(sandbox) = Sandbox::provisioned("bootless") else { return };
    let host = sandbox.host();
    let (recipe, suite) = (document(NOTHING), document(BOTH));
    let qemu = "/usr/bin/qemu-system-x86_64";
    // It takes its time, and is not slow: there is no guest at its end.
    sandbox.sudo(&format!(
        "mv {qemu} {qemu}.real; cat > {qemu} <<\"END\"\n#!/bin/sh\n\
         case $* in *-kernel*) sleep 2.5; kill -ABRT $$;; esac; exec {qemu}.real \"$@\"\nEND\nchmod 755 {qemu}"
    ));
    toril(&["up", "--recipe", &recipe.path(), "--suite", &suite.path(), &host])
        .exits(5)
        .shows("✗ boot: does not work: QEMU was killed by SIGABRT before the guest ran")
        .shows("it needs a guest that boots, which does not work here: QEMU was killed by SIGABRT")
        .shows("1 passed, 1 skipped");
    // What is not tried again by itself is still not the code's fault.
    toril(&["test", "--suite", &suite.path(), &host])
        .exits(5)
        .shows("QEMU was killed by SIGABRT before the guest ran");
    sandbox.is_clean();
}

/// A part that is broken on purpose, and what is told of it.
struct Breakage<'b> {
    /// How.
    breaks: &'b str,
    probe: &'b str,
    state: &'b str,
    /// The true reason.
    reason: &'b str,
    remedy: &'b str,
    /// The exit status of `toril verify`.
    status: i32,
}

#[test]
fn what_is_broken_is_told_for_what_it_is() {
    let Some(sandbox) = Sandbox::provisioned("broken") else { return };
    let host = sandbox.host();
    let daemon = sandbox.ssh("ls /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd 2>/dev/null || :");
    let daemon = daemon.lines().next().unwrap();
    let (qemu, socat) = ("/usr/bin/qemu-system-x86_64", "/usr/bin/socat");
    let away = |path: &str| format!("mv {path} {path}.real");
    let back = |path: &str| format!("mv --force {path}.real {path}");
    // In the place of a program, with the way to it.
    let wrapper = |path: &str, script: &str| {
        format!("{}; cat > {path} <<\"END\"\n#!/bin/sh\n{script}\nEND\nchmod 755 {path}", away(path))
    };
    let says = |part: &Breakage<'_>| {
        let run = toril(&["verify", "--json", &host]);
        let (state, what) = state(&run, part.probe);
        assert_eq!(state, part.state, "{}: {what}", part.breaks);
        let (reason, remedy) = what.rsplit_once(" / ").unwrap();
        assert!(reason.contains(part.reason), "{}: {reason:?}, not {:?}", part.breaks, part.reason);
        assert!(remedy.contains(part.remedy), "{}: {remedy:?}, not {:?}", part.breaks, part.remedy);
        run.exits(part.status);
    };

    // The guest is in the middle of a file of many gigabytes by then.
    let dies = format!(
        "case $* in *--help*) exec {daemon}.real --help;; esac\n\
         for word; do case $word in source=*) truncate --size 16G ${{word#source=}}/random;; esac; done\n\
         {daemon}.real -d \"$@\" 2>&1 | while read -r line; do\n\
         case $line in *\"opcode: READ \"*) kill -KILL $$;; esac\ndone"
    );
    let no_microvm = format!(
        "case $* in *microvm*) echo unsupported machine type >&2; exit 1;; esac; exec {qemu}.real \"$@\""
    );
    let old_socat = format!(
        "case $* in -V) echo socat version 1.7.3.2; echo \"  #define WITH_TCP 1\"; exit 0;; esac; exec {socat}.real \"$@\""
    );
    let recipe = "`toril apply HOST` with the recipe microvm-host";
    let strict = "`toril check --strict HOST`";
    for (breaks, mends, probe, state, reason, remedy) in [
        (away(daemon), back(daemon), "virtio-fs", "broken", "there is no virtiofsd on the host", recipe),
        (
            format!("{}; cp /bin/true {daemon}", away(daemon)),
            back(daemon),
            "virtio-fs",
            "broken",
            "is no virtiofsd",
            strict,
        ),
        (
            wrapper(daemon, &dies),
            back(daemon),
            "virtio-fs",
            "broken",
            "virtiofsd was killed by SIGKILL while the guest ran",
            strict,
        ),
        (away(qemu), back(qemu), "boot", "untried", "QEMU is missing", recipe),
        (
            wrapper(qemu, &no_microvm),
            back(qemu),
            "boot",
            "broken",
            "unsupported machine type",
            "have Debian's QEMU first on the path, which knows microvm",
        ),
        (wrapper(qemu, "exec sleep 60"), back(qemu), "boot", "broken", "no end within ", strict),
        (wrapper(qemu, "kill -ABRT $$"), back(qemu), "boot", "broken", "SIGABRT", strict),
        (
            wrapper(socat, &old_socat),
            back(socat),
            "forwarding",
            "broken",
            "knows no VSOCK addresses: it is older than 1.7.4",
            recipe,
        ),
        (away(socat), back(socat), "forwarding", "broken", "socat, which is not on the host", recipe),
        (
            "usermod --login other toril".into(),
            "usermod --login toril other".into(),
            "boot",
            "untried",
            "there is no user `toril`",
            recipe,
        ),
    ] {
        sandbox.sudo(&breaks);
        says(&Breakage { breaks: &breaks, probe, state, reason, remedy, status: 5 });
        sandbox.sudo(&mends);
    }

    // What does not work keeps the tests back that need it, and no others.
    sandbox.sudo(&away(daemon));
    let (recipe, suite) = (document(NOTHING), document(SHARING));
    toril(&["up", "--recipe", &recipe.path(), "--suite", &suite.path(), &host])
        .exits(0)
        .shows("✗ virtio-fs: does not work: ")
        .shows("it needs virtio-fs, which does not work here: ")
        .shows("1 passed, 1 skipped");
    toril(&["check", "--recipe", &recipe.path(), &host]).exits(0).hides("virtio-fs");
    toril(&["check", "--prove", "--recipe", &recipe.path(), &host]).exits(5).shows("✗ virtio-fs: ");
    sandbox.sudo(&back(daemon));

    // A sandbox may do without KVM, so these do not count.
    if sandbox.ssh("test -c /dev/kvm && echo there || :").contains("there") {
        let forbidden = "the user toril may not open /dev/kvm";
        let group = "`usermod -aG kvm toril`, and see that /dev/kvm has group kvm and mode 0660";
        for (breaks, mends, reason, remedy) in [
            ("chmod 0600 /dev/kvm", "chmod 0660 /dev/kvm", forbidden, group),
            ("gpasswd --delete toril kvm", "usermod -aG kvm toril", forbidden, group),
        ] {
            sandbox.sudo(breaks);
            let probe = "acceleration";
            says(&Breakage { breaks, probe, state: "broken", reason, remedy, status: 0 });
            sandbox.sudo(mends);
        }
        toril(&["verify", &host]).exits(0);
        // The device is mounted over a file.
        for (breaks, reason, remedy) in [
            (["umount", "/dev/kvm"], "/dev/kvm is there and is no device", "remove it, and load the module"),
            (["rm", "/dev/kvm"], "no /dev/kvm", ""),
        ] {
            sandbox.outside(&breaks);
            let (breaks, probe) = (breaks[0], "acceleration");
            says(&Breakage { breaks, probe, state: "broken", reason, remedy, status: 0 });
        }
    }

    // By now there is no KVM, which a sandbox may do without unless the settings say otherwise.
    let prove = ["check", "--prove", "--recipe", &recipe.path(), &host];
    toril(&prove).exits(0).shows("! acceleration: ");
    Toril::new(&prove).env("TORIL_ACCEL", "kvm").run().exits(5).shows("✗ acceleration: ");
    sandbox.is_clean();
}
