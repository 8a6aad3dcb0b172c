//! `run`, one kernel and what it prints as it comes, and `attach`, an earlier run seen again.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Sandbox, TORIL, Toril, document, toril};
use crate::main_job::artifact;

#[test]
fn a_kernel_is_booted_and_its_output_is_live() {
    let Some(sandbox) = Sandbox::provisioned("run") else { return };
    let host = sandbox.host();
    let dir = tempfile::tempdir().unwrap();
    let kernel = kernel(&sandbox, &dir);
    let kernel = kernel.as_str();

    let into = dir.path().join("kept").display().to_string();
    let pass = toril(&["run", kernel, "--on", &host, "--append", "mode=pass", "--artifacts", &into]).exits(0);
    assert!(artifact(&pass, "tests/001-guest.elf/serial.txt").contains("case sse: PASSED"), "{pass}");
    pass.shows("case long-mode: PASSED\ncase sse: PASSED\n")
        .shows("toril-guest: end\n")
        .shows("passed guest.elf");

    let mut hang =
        Toril::new(&["run", kernel, "--on", &host, "--append", "mode=hang", "--deadline", "15s"]).spawn();
    hang.wait_for("case long-mode: PASSED\n");
    assert!(!hang.stdout_so_far().contains("timed out"), "{}", hang.stdout_so_far());
    hang.wait().exits(4).shows("timed out guest.elf");

    // There is nothing to expect of a kernel that nobody described: its end is told and not judged.
    let fault = toril(&["run", kernel, "--on", &host, "--append", "mode=triple-fault"]).exits(0);
    fault.shows("guest-reset");
    sandbox.is_clean();
}

/// Progress on a terminal must not come between the pieces of a line that a guest prints.
#[test]
fn what_a_guest_prints_is_whole_on_a_terminal() {
    let Some(sandbox) = Sandbox::provisioned("run-terminal") else { return };
    let dir = tempfile::tempdir().unwrap();
    let kernel = kernel(&sandbox, &dir);
    for more in ["", " --console"] {
        let call = format!("'{TORIL}' run '{kernel}' --on {} --append mode=pass{more}", sandbox.host());
        let script = ["-qec", &call, "/dev/null"];
        let run = Toril::of(Path::new("script"), &script).env("TERM", "xterm").run().exits(0);
        let shown = run.stdout.replace('\r', "");
        let (_, guest) = shown.split_once("toril-guest: ").unwrap_or_else(|| panic!("{run}"));
        let (guest, _) = guest.split_once("toril-guest: end").unwrap_or_else(|| panic!("{run}"));
        assert!(guest.contains("\ncase long-mode: PASSED\ncase sse: PASSED\n"), "{run}");
        assert!(!guest.contains('\u{1b}'), "something was drawn: {run}");
    }
}

/// The built-in guest as a file of this machine.
fn kernel(sandbox: &Sandbox, dir: &tempfile::TempDir) -> String {
    toril(&["test", "--filter", "boot", &sandbox.host()]).exits(0);
    let kernel = dir.path().join("guest.elf");
    fs::write(&kernel, sandbox.read_bytes("/var/lib/toril/kernels/toolkit-*.elf")).unwrap();
    kernel.to_str().unwrap().to_owned()
}

#[test]
fn a_guest_has_a_directory_of_this_machine() {
    let Some(sandbox) = Sandbox::provisioned("run-share") else { return };
    let dir = tempfile::tempdir().unwrap();
    let kernel = kernel(&sandbox, &dir);
    let share = dir.path().join("share");
    fs::create_dir_all(share.join("deep")).unwrap();
    fs::write(share.join("deep/input"), "from this machine\n").unwrap();
    let share = share.to_str().unwrap();
    let arguments = ["run", &kernel, "--on", &sandbox.host(), "--share", share, "--tag", "data", "--append"];
    let with = |append: &'static str| toril(&[&arguments[..], &[append]].concat());
    let run = with("cases=0 fs=data read=deep/input write=output").exits(0);
    run.shows("value virtio-fs-read: from this machine\n").shows("case virtio-fs-write: PASSED\n");
    assert!(!dir.path().join("share/output").exists());
    sandbox.is_clean();
    let nowhere = toril(&["run", &kernel, "--on", &sandbox.host(), "--share", "/nonexistent"]);
    nowhere.exits(2).shows("cannot share /nonexistent");
    toril(&["run", &kernel, "--on", &sandbox.host(), "--forward", "4000"]).exits(2).shows("is no forwarding");
    // A container has no vsock of its own.
    let vsock = toril(&["run", &kernel, "--on", &sandbox.host(), "--forward", "4000:80"]).exits(5);
    vsock.shows("skipped guest.elf").shows("there is no /dev/vhost-vsock");
    sandbox.is_clean();
}

#[test]
fn a_guest_waits_for_a_debugger() {
    let Some(sandbox) = Sandbox::provisioned("run-gdb") else { return };
    let dir = tempfile::tempdir().unwrap();
    let kernel = kernel(&sandbox, &dir);
    let mut run = Toril::new(&["run", &kernel, "--on", &sandbox.host(), "--gdb"]).spawn();
    run.wait_for("-ex 'target remote 127.0.0.1:");
    run.wait_for("'\n");
    let told = run.stdout_so_far();
    assert!(!told.contains("case long-mode") && !told.contains("ssh -N"), "{told}");
    let port = told.split("target remote 127.0.0.1:").nth(1).unwrap().split('\'').next().unwrap();
    // The sandbox has this machine's network. What gdb sends for `continue`.
    let address = format!("127.0.0.1:{port}");
    let mut gdb = connected(&address);
    gdb.write_all(b"+$c#63").unwrap();
    let run = run.wait().exits(0).shows("case long-mode: PASSED").shows("passed guest.elf");
    drop((run, gdb));
    sandbox.is_clean();
}

fn connected(address: &str) -> TcpStream {
    let until = Instant::now() + Duration::from_secs(90);
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < until, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Stands in for QEMU, and takes what its guest would be given.
const ECHO: &str =
    "#!/bin/sh\necho ready\nwhile read -r line; do echo \"got $line\"; [ \"$line\" = end ] && exit 0; done\n";

#[test]
fn what_is_typed_is_the_guests() {
    let Some(sandbox) = Sandbox::provisioned("run-console") else { return };
    let dir = tempfile::tempdir().unwrap();
    let kernel = kernel(&sandbox, &dir);
    sandbox.sudo("mv /usr/bin/qemu-system-x86_64 /usr/bin/qemu.real");
    sandbox.sudo(&format!(
        "printf '%s' '{ECHO}' > /usr/bin/qemu-system-x86_64; chmod 755 /usr/bin/qemu-system-x86_64"
    ));
    let toril = TORIL;
    let script = format!(
        "(printf 'hello\\n'; sleep 2; printf 'end\\n') | {toril} run {kernel} --on {} --console --accel tcg",
        sandbox.host()
    );
    let run = Toril::of(Path::new("sh"), &["-c", &script]).run();
    // It is no QEMU, and the verdict says so; what counts is what it read.
    let run = run.exits(5).shows("ready").shows("got hello").shows("got end");
    run.shows("QEMU exited with status 0 before the guest ran");
    sandbox.is_clean();
}

#[test]
fn a_run_is_seen_again_from_its_beginning() {
    let Some(sandbox) = Sandbox::fresh("attach") else { return };
    let host = sandbox.host();
    toril(&["attach", &host]).exits(1).shows("no run on this host yet");
    let suite =
        "run-as = \"nobody\"\n[[test]]\nname = \"bad\"\ncommand = [\"sh\", \"-c\", \"echo why; exit 3\"]\n";
    let suite = document(suite);
    let first = toril(&["test", "--json", "--suite", &suite.path(), &host]).exits(4);
    let again = toril(&["attach", "--json", &host]).exits(4);
    let of_run = |events: Vec<serde_json::Value>| {
        events.into_iter().filter(|event| event["event"] == "run").collect::<Vec<_>>()
    };
    assert_eq!(of_run(again.events()), of_run(first.events()), "{again}");
    toril(&["attach", &host]).exits(4).shows("failed bad").shows("exit status 3: why").shows("| why");
    toril(&["attach", &host, "19700101-1"]).exits(1).shows("knows of no run 19700101-1");
}

/// Each test is within what is kept of one; together they are more than one frame of the protocol holds.
#[test]
fn cases_of_any_size_are_told_to_the_end() {
    let Some(sandbox) = Sandbox::fresh("large") else { return };
    let test = |name: &str, cases: u32, length: u32| {
        format!(
            "[[test]]\nname = \"{name}\"\ncases = \"toril\"\ncommand = [\"sh\", \"-c\", \"p=$(head -c {length} /dev/zero | tr '\\\\0' B); \
             i=0; while [ $i -lt {cases} ]; do echo \\\"case $i-$p: PASSED\\\"; i=$((i+1)); done\"]\n"
        )
    };
    let tests: String = (0..5).map(|number| test(&format!("within{number}"), 3600, 1100)).collect();
    let suite = document(&format!("run-as = \"nobody\"\n{tests}{}", test("beyond", 9000, 1500)));
    let run = toril(&["test", "--suite", &suite.path(), &sandbox.host()]).exits(4);
    run.shows("passed within4")
        .shows("failed beyond")
        .shows("more than 4 MiB of cases were reported")
        .hides("the connection was lost");
    sandbox.is_clean();
}
