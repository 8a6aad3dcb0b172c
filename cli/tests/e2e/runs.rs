//! `run`, one kernel and what it prints as it comes, and `attach`, an earlier run seen again.

use std::fs;
use std::time::Duration;

use crate::harness::{Sandbox, Toril, document, toril};

#[test]
fn a_kernel_is_booted_and_its_output_is_live() {
    let Some(sandbox) = Sandbox::provisioned("run") else { return };
    let host = sandbox.host();
    toril(&["test", "--filter", "boot", &host]).exits(0);
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("guest.elf");
    fs::write(&kernel, sandbox.read_bytes("/var/lib/toril/kernels/toolkit-*.elf")).unwrap();
    let kernel = kernel.to_str().unwrap();

    let pass = toril(&["run", kernel, "--on", &host, "--append", "mode=pass"]).exits(0);
    pass.shows("case long-mode: PASSED\ncase sse: PASSED\n")
        .shows("toril-guest: end\n")
        .shows("passed guest.elf");

    let mut hang =
        Toril::new(&["run", kernel, "--on", &host, "--append", "mode=hang", "--deadline", "4s"]).spawn();
    hang.wait_for("case long-mode: PASSED\n");
    assert!(!hang.stdout_so_far().contains("timed out"), "{}", hang.stdout_so_far());
    hang.wait().exits(4).shows("timed out guest.elf").takes_at_most(Duration::from_secs(8));

    // There is nothing to expect of a kernel that nobody described: its end is told and not judged.
    let fault = toril(&["run", kernel, "--on", &host, "--append", "mode=triple-fault"]).exits(0);
    fault.shows("guest-reset");
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
