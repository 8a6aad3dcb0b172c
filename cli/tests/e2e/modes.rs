//! Guests and commands that misbehave: the verdict, its reason and the exit status, and nothing left of them.

use serde_json::Value;

use crate::harness::{Finished, Sandbox, document, skip, toril};

/// The result of the test with this name.
fn result(run: &Finished, test: &str) -> Value {
    let result = run.results().into_iter().find(|result| result["test"] == test);
    result.unwrap_or_else(|| panic!("no result of {test}{run}"))
}

fn ends(run: &Finished, test: &str, outcome: &str, reason: &str) {
    let result = result(run, test);
    assert_eq!(result["outcome"], outcome, "{test}{run}");
    let why = result["reason"].as_str().unwrap();
    assert!(
        why.contains(reason) && why.is_empty() == reason.is_empty(),
        "{test}: {why:?}, not {reason:?}{run}"
    );
}

#[test]
fn a_guest_ends_in_its_verdict() {
    let Some(sandbox) = Sandbox::provisioned("modes") else { return };
    let host = sandbox.host();
    for (mode, status, outcome, reason, words) in [
        ("pass", 0, "passed", "", "passed boot"),
        ("fail", 4, "failed", "case interrupt: mode=fail asked for it", "case interrupt: failed"),
        ("silent", 4, "incomplete", "without reporting any case", "incomplete boot"),
        ("panic", 4, "crashed", "panic: mode=panic asked for it", "| panic: mode=panic asked for it"),
        ("triple-fault", 4, "crashed", "triple fault", "crashed boot"),
        ("flood", 4, "crashed", "more than 1 MiB of output", "crashed boot"),
        (
            "incomplete",
            4,
            "incomplete",
            "4 of 5 cases are missing: sse, page-fault, msr, interrupt",
            "incomplete boot",
        ),
        ("exception", 4, "crashed", "exception storm", "crashed boot"),
    ] {
        let set = format!("mode={mode}");
        let json = toril(&["test", "--json", "--set", &set, &host]).exits(status);
        ends(&json, "boot", outcome, reason);
        ends(&json, "unprivileged", "passed", "");
        ends(&json, "socat-vsock", "passed", "");
        sandbox.is_clean();
        let people = toril(&["test", "--filter", "boot", "--set", &set, &host]).exits(status).shows(words);
        if status != 0 {
            let reproduce = result(&json, "boot")["reproduce"].as_str().unwrap().to_owned();
            people.shows(&format!("by hand on the host: {reproduce}")).shows("exit status 4");
            if ["fail", "panic"].contains(&mode) {
                let by_hand = sandbox.try_ssh(&format!("{reproduce} </dev/null"));
                by_hand.shows("case long-mode: PASSED").hides("qemu-system-x86_64: -");
            }
        }
    }
    sandbox.is_clean();
}

const HANG: &str = r#"
[[test]]
name = "hang"
deadline = "2s"
[test.guest]
kernel = "builtin:toolkit"
append = "mode=hang"

[[test]]
name = "hang that was stopped by nobody"
deadline = "2s"
command = ["sh", "-c", "trap '' TERM INT HUP; echo here; sleep 1000 & while :; do sleep 1; done"]
"#;

#[test]
fn what_hangs_ends_at_its_deadline() {
    let Some(sandbox) = Sandbox::provisioned("hang") else { return };
    let suite = document(HANG);
    let run = toril(&["test", "--json", "--suite", &suite.path(), &sandbox.host()]).exits(4);
    ends(&run, "hang", "timed-out", "no end within 2 s; silent since");
    ends(&run, "hang that was stopped by nobody", "timed-out", "no end within 2 s; silent since");
    assert_eq!(
        result(&run, "hang")["last_lines"].as_array().unwrap().last().unwrap(),
        "case long-mode: PASSED"
    );
    sandbox.is_clean();
}

const COMMANDS: &str = r#"
[[test]]
name = "fails"
command = ["sh", "-c", "echo out; echo why >&2; exit 3"]

[[test]]
name = "killed"
command = ["sh", "-c", "kill -SEGV $$"]

[[test]]
name = "leaves a daemon"
command = ["sh", "-c", "setsid sh -c 'setsid sleep 1000 </dev/null >/dev/null 2>&1 &'"]

[[test]]
name = "floods"
output-limit = "64K"
command = ["yes", "I flood"]

[[test]]
name = "is nobody special"
command = ["sh", "-c", """
test $(id -un) = toril || { echo "I am $(id)"; exit 1; }
! sudo -n true 2>/dev/null || { echo "I may sudo"; exit 1; }
! touch /etc/mine 2>/dev/null || { echo "I may write to /etc"; exit 1; }
cat /dev/stdin && test -w "$TMPDIR"
"""]

[[test]]
name = "leaves files"
command = ["sh", "-c", "mkdir -p deep/er && echo x > deep/er/file && chmod 0 deep"]
"#;

#[test]
fn a_command_ends_in_its_verdict() {
    let Some(sandbox) = Sandbox::provisioned("commands") else { return };
    let host = sandbox.host();
    let suite = document(COMMANDS);
    let run = toril(&["test", "--json", "--suite", &suite.path(), &host]).exits(4);
    ends(&run, "fails", "failed", "exit status 3: why");
    ends(&run, "killed", "crashed", "killed by SIGSEGV");
    ends(&run, "leaves a daemon", "passed", "");
    ends(&run, "floods", "crashed", "more than 64 KiB of output");
    ends(&run, "is nobody special", "passed", "");
    ends(&run, "leaves files", "passed", "");
    sandbox.is_clean();

    // The set-up outranks the code; both are counted in the table.
    let missing =
        document(&format!("{COMMANDS}[[test]]\nname = \"missing\"\ncommand = [\"no-such-program\"]\n"));
    let run = toril(&["test", "--suite", &missing.path(), &host]).exits(5);
    run.shows("error missing")
        .shows("cannot run `no-such-program`")
        .shows("3 passed, 1 failed, 2 crashed, 1 error");
    let root = document(
        "run-as = \"root\"\n[[test]]\nname = \"t\"\ncommand = [\"sh\", \"-c\", \"id -un; test $(id -u) = 0\"]\n",
    );
    toril(&["test", "--suite", &root.path(), &host]).exits(0).shows("as user root");
    let nobody = document("run-as = \"no-such-user\"\n[[test]]\nname = \"t\"\ncommand = [\"true\"]\n");
    toril(&["test", "--suite", &nobody.path(), &host]).exits(5).shows("there is no user `no-such-user`");
    sandbox.is_clean();
}

#[test]
fn nothing_but_skipped_tests_is_no_success() {
    let Some(sandbox) = Sandbox::provisioned("skipped") else { return };
    let host = sandbox.host();
    let chosen = toril(&["test", "--json", "--filter", "boot", &host]).exits(0);
    if result(&chosen, "boot")["accelerator"] == "kvm" {
        return skip("KVM works here, so nothing has to be skipped for want of it");
    }
    let run = toril(&["test", "--json", "--filter", "boot", "--accel", "kvm", &host]).exits(5);
    ends(&run, "boot", "skipped", "/dev/kvm");
    // Tests that need no guest do not make up for guests that cannot run.
    let all = toril(&["test", "--accel", "kvm", &host]).exits(5);
    all.shows("skipped boot").shows("2 passed, 1 skipped").shows("host or set-up");
    toril(&["test", "--accel", "kvm", "--filter", "socat", &host]).exits(0).shows("1 passed");
    sandbox.is_clean();
}
