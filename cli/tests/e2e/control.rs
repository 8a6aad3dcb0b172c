//! How a suite's tests are run on a real host: what the command line says of it gets there.

use crate::harness::{Finished, Sandbox, document, toril};

/// `left` and `right` wait for each other; `alone` would see `busy`; `late` passes when it is tried again.
const SUITE: &str = r#"
run-as = "nobody"
deadline = "120s"
[[test]]
name = "quick left"
command = ["sh", "-c", "touch /tmp/left; until [ -e /tmp/right ]; do sleep 0.02; done"]
[[test]]
name = "quick right"
command = ["sh", "-c", "touch /tmp/right; until [ -e /tmp/left ]; do sleep 0.02; done"]
[[test]]
name = "quick busy"
command = ["sh", "-c", "touch /tmp/busy; sleep 0.4; rm /tmp/busy"]
[[test]]
name = "quick alone"
alone = true
command = ["sh", "-c", "sleep 0.1; test ! -e /tmp/busy"]
[[test]]
name = "late"
command = ["sh", "-c", "! mkdir /tmp/late"]
[[test]]
name = "stalls"
cases = "toril"
case-deadline = "300ms"
command = ["sh", "-c", "echo case one: PASSED; while echo busy; do sleep 0.02; done"]
[[test]]
name = "hangs"
deadline = "300ms"
command = ["sleep", "60"]
"#;

/// Each test that was run and what came of it, by its name: side by side, any may end first.
fn ends(run: &Finished) -> Vec<String> {
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let end = |result: &serde_json::Value| format!("{}: {}", word(&result["test"]), word(&result["outcome"]));
    let mut ends: Vec<String> = run.results().iter().map(end).collect();
    ends.sort();
    ends
}

#[test]
fn what_is_said_of_the_way_a_suite_is_run_gets_to_the_host() {
    let Some(sandbox) = Sandbox::fresh("control") else { return };
    let (host, suite) = (sandbox.host(), document(SUITE));
    let test = |more: &[&str]| toril(&[&["test", "--json", "--suite", &suite.path(), &host], more].concat());

    let run = test(&["--filter", "quick", "--filter", "=late", "--jobs", "2", "--retries", "1"]).exits(0);
    let passed = [
        "late: flaky",
        "quick alone: passed",
        "quick busy: passed",
        "quick left: passed",
        "quick right: passed",
    ];
    assert_eq!(ends(&run), passed, "{run}");
    sandbox.ssh("sudo rmdir /tmp/late");
    test(&["--filter", "=late", "--retries", "1", "--fail-on-flaky"]).exits(4);

    // With the files of the first run, each can pass by itself.
    let mut parts = Vec::new();
    for part in ["1/2", "2/2"] {
        parts.extend(ends(&test(&["--filter", "quick", "--shard", part]).exits(0)));
    }
    parts.sort();
    assert_eq!(parts, passed[1..]);

    let run = test(&["--filter", "=stalls", "--filter", "=hangs", "--fail-fast"]).exits(4);
    assert_eq!(ends(&run), ["hangs: skipped", "stalls: timed-out"], "{run}");
    let short = document(&format!("suite-deadline = \"1s\"\n{}", SUITE.replace("300ms", "20s")));
    let filters = ["--filter", "=hangs", "--filter", "=stalls"];
    let arguments = ["test", "--json", "--suite", &short.path(), &host];
    let run = toril(&[&arguments[..], &filters].concat()).exits(4);
    assert_eq!(ends(&run), ["hangs: timed-out", "stalls: timed-out"], "{run}");
    sandbox.is_clean();
}
