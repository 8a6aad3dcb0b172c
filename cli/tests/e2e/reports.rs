//! Reports of runs on real hosts: complete ones, and those of clients that were killed, left, or came back.

use std::fs;

use crate::harness::{Finished, Sandbox, Toril, document, toril};

const SUITE: &str = r#"
run-as = "nobody"
[[test]]
name = "good"
command = ["true"]
[[test]]
name = "bad"
command = ["sh", "-c", "printf 'before \\033[31mthe end\\n'; exit 3"]
[[test]]
name = "slow"
command = ["sh", "-c", "until [ -e /tmp/go ]; do sleep 0.05; done"]
"#;

const INCOMPLETE: &str = "the run did not come to its end";

#[test]
fn a_report_tells_how_far_a_run_came() {
    let Some(sandbox) = Sandbox::fresh("reports") else { return };
    let (host, suite) = (sandbox.host(), document(SUITE));
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let read = |name: &str| fs::read_to_string(path(name)).unwrap();
    let test = |name: &str| {
        let reports = [format!("junit={}.xml", path(name)), format!("json={}.jsonl", path(name))];
        let arguments =
            ["test", &host, "--suite", &suite.path(), "--report", &reports[0], "--report", &reports[1]];
        let mut running = Toril::new(&arguments).spawn();
        running.wait_for("failed bad");
        running
    };

    // A client that is killed: the report says from the beginning what it will then still say.
    fs::write(path("killed.xml"), "of an earlier run").unwrap();
    let running = test("killed");
    assert!(read("killed.xml").contains(INCOMPLETE), "{}", read("killed.xml"));
    running.signal(9);
    running.wait();
    assert!(read("killed.xml").contains(INCOMPLETE), "{}", read("killed.xml"));
    assert!(!read("killed.jsonl").contains("\"finished\""), "{}", read("killed.jsonl"));
    let merged = toril(&["report", "merge", &path("killed.jsonl")]).exits(1);
    merged.shows("no file has the verdict of slow").shows("bad failed: exit status 3");

    // Somebody who comes back to it gets it whole.
    sandbox.sudo("touch /tmp/go");
    let report = format!("junit={}", path("attached.xml"));
    toril(&["attach", &host, "--report", &report]).exits(4);
    let xml = read("attached.xml");
    assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"0\"") && !xml.contains(INCOMPLETE), "{xml}");
    assert!(xml.contains("<system-out>before the end</system-out>"), "{xml}");

    // A client that is left at once: what it has seen, and that it is not all.
    sandbox.sudo("rm /tmp/go");
    let mut running = test("left");
    running.signal(2);
    running.wait_for("press Ctrl-C again");
    running.signal(2);
    let left: Finished = running.wait();
    // The first one may have been enough.
    let left = left.exits(1);
    let xml = read("left.xml");
    assert!(xml.contains("exit status 3") && xml.contains("<error"), "{left}{xml}");
    sandbox.sudo("touch /tmp/go");

    // A run that comes to its end says on what it ran.
    let report = format!("junit={}", path("whole.xml"));
    let whole =
        ["test", &host, "--wait", "60s", "--suite", &suite.path(), "--filter", "good", "--report", &report];
    toril(&whole).exits(0);
    let xml = read("whole.xml");
    assert!(xml.contains("tests=\"1\" failures=\"0\" errors=\"0\""), "{xml}");
    for property in ["toril", "os", "kernel", "cpu", "run as"] {
        assert!(xml.contains(&format!("<property name=\"{property}\"")), "{property}: {xml}");
    }
}
