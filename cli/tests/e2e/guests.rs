//! Guests that need more than QEMU, on real hosts: both daemons of virtio-fs, vsock, ports that are forwarded, companions.
//! What is missing, dies or is wrong has its own verdict, and nothing is left of any of them.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Finished, Sandbox, document, toril};

/// A guest with a shared directory that reads a file of it, leaves one, and reports on a console of its own.
const SHARE: &str = r#"
[[test]]
name = "t"
deadline = "5m"
cases = "toril"
expect = ["virtio-fs-mount", "virtio-fs-read", "virtio-fs-write"]
[test.guest]
kernel = "builtin:toolkit"
append = "cases=0 console=report fs={{ guest.tag }} read=input write=output token=left"
consoles = ["report"]
share = { dir = "/srv/share", tag = "data" }
"#;

/// Has the guest wait after its first case, for longer than anything takes that comes meanwhile.
const WAITS: &str = "cases=1 seconds=200";

const PUT: &str = "mkdir -p /srv/share; echo from the host > /srv/share/input; chmod -R a+rX /srv/share";

fn run(sandbox: &Sandbox, suite: &str, status: i32) -> Finished {
    let suite = document(suite);
    toril(&["test", "--json", "--suite", &suite.path(), &sandbox.host()]).exits(status)
}

fn only_result(run: &Finished) -> Value {
    run.results().into_iter().next().unwrap_or_else(|| panic!("no result{run}"))
}

#[track_caller]
fn ends(sandbox: &Sandbox, suite: &str, status: i32, outcome: &str, reason: &str) -> Value {
    let run = run(sandbox, suite, status);
    let result = only_result(&run);
    let why = result["reason"].as_str().unwrap();
    assert_eq!(result["outcome"], outcome, "{run}");
    assert!(why.contains(reason) && why.is_empty() == reason.is_empty(), "{why:?}, not {reason:?}{run}");
    sandbox.is_clean();
    result
}

/// What holds of both daemons.
fn shares(sandbox: &Sandbox, daemon: &str) {
    sandbox.sudo(PUT);
    let result = ends(sandbox, SHARE, 0, "passed", "");
    assert_eq!(result["cases"].as_array().unwrap().len(), 3, "{result}");
    let again = ends(sandbox, SHARE, 0, "passed", "");
    assert_eq!(again["cases"], result["cases"], "a fresh copy for every run");
    assert_eq!(sandbox.ssh("ls /srv/share"), "input\n");

    // What a person is told to type does the same.
    let wrong = SHARE.replace("expect = [", "expect = [\"no-such-case\", ");
    let result = ends(sandbox, &wrong, 4, "incomplete", "no-such-case");
    let by_hand = result["reproduce"].as_str().unwrap();
    sandbox.try_ssh(&format!("exec </dev/null\n{by_hand}")).shows("case virtio-fs-write: PASSED");
    sandbox.is_quiet();
    assert_eq!(sandbox.sudo("find /tmp -name 'toril-*'"), "");

    ends(sandbox, &SHARE.replace("{{ guest.tag }}", "other"), 4, "failed", "case virtio-fs-mount");
    ends(
        sandbox,
        &SHARE.replace("/srv/share", "/srv/none"),
        5,
        "error",
        "cannot copy /srv/none, which is to be shared",
    );
    sandbox.sudo("echo s > /srv/share/secret; chmod 600 /srv/share/secret");
    ends(sandbox, SHARE, 5, "error", "as user toril: /srv/share/secret: Permission denied");
    sandbox.sudo("rm /srv/share/secret");

    sandbox.sudo(&format!("mv {daemon} {daemon}.away"));
    ends(sandbox, SHARE, 5, "error", "there is no virtiofsd on the host");
    sandbox.sudo(&format!("mv {daemon}.away {daemon}"));
    killed(sandbox, daemon);
}

/// The daemon is killed while the guest waits: it is named, not the hang that would come of it.
fn killed(sandbox: &Sandbox, daemon: &str) {
    let suite = document(&SHARE.replace("cases=0", WAITS));
    let mut test = toril_spawned(sandbox, &suite.path());
    test.wait_for("\"long-mode\"");
    sandbox.sudo(&format!("pkill -KILL -f '^{daemon}'"));
    let start = Instant::now();
    let test = test.wait().exits(5);
    assert!(start.elapsed() < Duration::from_secs(90), "{:?}{test}", start.elapsed());
    let result = only_result(&test);
    assert_eq!(result["reason"], "virtiofsd was killed by SIGKILL while the guest ran", "{test}");
    sandbox.is_clean();
}

fn toril_spawned(sandbox: &Sandbox, suite: &str) -> crate::harness::Running {
    crate::harness::Toril::new(&["test", "--json", "--suite", suite, &sandbox.host()]).spawn()
}

#[test]
fn a_directory_is_shared_by_the_daemon_of_qemu() {
    let Some(sandbox) = Sandbox::provisioned("share-c") else { return };
    shares(&sandbox, "/usr/lib/qemu/virtiofsd");
    // It must be root, and so cannot have what the suite names.
    let in_place = SHARE.replace("tag = \"data\"", "tag = \"data\", in-place = true");
    ends(&sandbox, &in_place, 5, "error", "the virtiofsd of this host runs as root");
    sandbox.sudo("cp /usr/lib/qemu/virtiofsd /srv/v; chown toril /srv/v");
    let own = SHARE.replace("tag = \"data\"", "tag = \"data\", virtiofsd = \"/srv/v\"");
    ends(&sandbox, &own, 5, "error", "/srv/v must be run as root, and others than root can change /srv/v");

    // Its agent's death takes all of it along.
    let suite = document(&SHARE.replace("cases=0", WAITS));
    let mut test = toril_spawned(&sandbox, &suite.path());
    test.wait_for("\"long-mode\"");
    sandbox.sudo("pkill -KILL -f '[a]gent-worker'");
    test.wait().exits(1);
    sandbox.is_quiet();

    // Without the kernel's vsock, and without a program in its place.
    let vsock = "[[test]]\nname = \"t\"\ncases = \"toril\"\n[test.guest]\nkernel = \"builtin:toolkit\"\nvsock = true\n";
    ends(
        &sandbox,
        vsock,
        5,
        "skipped",
        "there is no /dev/vhost-vsock, and vhost-device-vsock is not on the path",
    );
}

#[test]
fn a_directory_is_shared_by_the_daemon_of_newer_releases() {
    let Some(sandbox) = Sandbox::of_release("share-rust", "13") else { return };
    toril(&["apply", "--yes", &sandbox.host()]).exits(0);
    shares(&sandbox, "/usr/libexec/virtiofsd");
    // It runs as the test's user, and may have the directory itself.
    sandbox.sudo("chown toril /srv/share");
    let in_place = SHARE.replace("tag = \"data\"", "tag = \"data\", in-place = true");
    ends(&sandbox, &in_place, 0, "passed", "");
    assert_eq!(sandbox.ssh("stat -c %U /srv/share/output"), "toril\n");
}

/// A guest that answers at port 80 of its vsock, and a companion that asks it over TCP. The guest's side has nothing more to say
/// first: so the port is in TIME_WAIT afterwards, which keeps neither toril nor what it starts from having it again.
const VSOCK: &str = r#"
[[test]]
name = "t"
deadline = "5m"
cases = "toril"
expect = ["vsock-listen"]
[test.guest]
kernel = "builtin:toolkit"
append = "cases=0 vsock-listen=80 token=answered"
vsock = true
forward = ["4000:80"]
[test.companion]
when = "after"
ready = "^value vsock-listening: "
command = ["sh", "-c", "(echo {{ guest.cid }}; sleep 1) | socat -t 10 - TCP:127.0.0.1:4000"]
"#;

#[test]
fn ports_lead_to_the_vsock_of_a_guest() {
    let Some(sandbox) = Sandbox::machine("vsock") else { return };
    ends(&sandbox, VSOCK, 0, "passed", "");
    let companion = "| grep -q '^answered 1000$' && echo heard; exit 3";
    let loud = VSOCK.replace("TCP:127.0.0.1:4000\"", &format!("TCP:127.0.0.1:4000 {companion}\""));
    let result = ends(&sandbox, &loud, 4, "failed", "the companion exited with status 3: heard");
    let by_hand = result["reproduce"].as_str().unwrap();
    sandbox.try_ssh(&format!("exec </dev/null\n{by_hand}")).shows("case vsock-listen: PASSED");

    // Another program has the CID that would be next, and the guest gets another.
    sandbox.sudo(
        "setsid qemu-system-x86_64 -M microvm,acpi=off -nodefaults -display none -S -daemonize \
         -pidfile /run/other.pid -global virtio-mmio.force-legacy=false -device vhost-vsock-device,guest-cid=1000",
    );
    let run = run(&sandbox, VSOCK, 0);
    assert!(only_result(&run)["qemu"].to_string().contains("guest-cid=1001"), "{run}");
    sandbox.sudo("kill $(cat /run/other.pid)");

    sandbox.sudo(
        "setsid socat TCP-LISTEN:4000,bind=127.0.0.1,reuseaddr STDIO </dev/null >/dev/null 2>&1 & echo $! > /run/port.pid
        until grep -q ' 0100007F:0FA0 00000000:0000 0A ' /proc/net/tcp; do kill -0 $!; sleep 0.1; done",
    );
    ends_while_something_runs(
        &sandbox,
        "the port 4000 of 127.0.0.1, which is to be forwarded, is in use already",
    );
    sandbox.sudo("kill $(cat /run/port.pid); rm -f /run/port.pid /run/other.pid");
    sandbox.sudo("mv /usr/bin/socat /usr/bin/socat.away");
    ends(&sandbox, VSOCK, 5, "error", "ports are forwarded by socat, which is not on the host");
    sandbox.sudo("mv /usr/bin/socat.away /usr/bin/socat");
    sandbox.is_clean();
}

#[track_caller]
fn ends_while_something_runs(sandbox: &Sandbox, reason: &str) {
    let run = run(sandbox, VSOCK, 5);
    assert_eq!(only_result(&run)["reason"], reason, "{run}");
}
