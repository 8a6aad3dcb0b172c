//! Reports, and what several come to together: no host is needed, since merging reads what runs have told.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::program::{TORIL, Toril};
use crate::seen::Place;

fn line(host: &str, event: Value) -> String {
    format!("{}\n", json!({ "host": host, "event": "run", "run": { "kind": "test", "event": event } }))
}

fn started(host: &str, tests: &[&str]) -> String {
    line(host, json!({ "event": "run-started", "suite": "guests", "tests": tests, "run_as": "toril" }))
}

fn ended(host: &str, test: &str, outcome: &str, reason: &str, cases: &Value) -> String {
    let lines = if outcome == "passed" {
        json!([])
    } else {
        json!(["booting", "tick", "tick", "tick", "panic: no root"])
    };
    let reproduce = (outcome != "passed").then_some("qemu-system-x86_64 -M microvm");
    line(
        host,
        json!({ "event": "test-ended", "test": test, "outcome": outcome, "reason": reason, "duration_ms": 1500,
            "cases": cases, "accelerator": "tcg", "last_lines": lines, "qemu": [], "reproduce": reproduce }),
    )
}

fn begun(hosts: &[&str]) -> String {
    let suite = json!({ "name": "guests.toml", "origin": "guests.toml", "chosen": "the command line", "description": "" });
    format!("{}\n", json!({ "event": "choices", "recipe": null, "suite": suite, "hosts": hosts }))
}

fn finished(hosts: &[(&str, u8)]) -> String {
    let worst = hosts.iter().map(|(_, status)| *status).max().unwrap();
    let hosts: Vec<Value> = hosts
        .iter()
        .map(|(host, status)| json!({ "host": host, "status": status, "milliseconds": 2000 }))
        .collect();
    format!("{}\n", json!({ "event": "finished", "status": worst, "hosts": hosts }))
}

fn two_cases() -> Value {
    json!([
        { "name": "sse", "result": "passed", "reason": "" },
        { "name": "clock", "result": "failed", "reason": "went backwards" },
    ])
}

/// Two parts of a suite on one host, and one of them on another.
fn place() -> Place {
    let place = Place::empty();
    let first = [
        begun(&["host-1", "host-2"]),
        started("host-1", &["boot", "cases"]),
        started("host-2", &["boot", "cases"]),
        ended("host-1", "boot", "passed", "", &json!([])),
        ended("host-2", "boot", "timed-out", "no end within 20 s, silent for 18 s", &json!([])),
        ended("host-1", "cases", "failed", "case clock: FAILED", &two_cases()),
        ended("host-2", "cases", "passed", "", &json!([{ "name": "sse", "result": "passed", "reason": "" }])),
        finished(&[("host-1", 4), ("host-2", 4)]),
    ];
    place.write("first.jsonl", &first.concat());
    let second = [
        begun(&["host-1"]),
        started("host-1", &["share"]),
        ended("host-1", "share", "crashed", "it panicked: no root", &json!([])),
        finished(&[("host-1", 4)]),
    ];
    place.write("second.jsonl", &second.concat());
    place
}

#[test]
fn several_runs_come_to_one() {
    let place = place();
    let merge = [
        "report",
        "merge",
        "first.jsonl",
        "second.jsonl",
        "--report",
        "junit=all.xml",
        "--report",
        "tap=all.tap",
    ];
    let shown =
        place.seen(&[&merge[..], &["--report", "json=all.jsonl", "--report", "markdown=all.md"]].concat());
    assert_snapshot!("several_runs_come_to_one", shown);
    for name in ["all.xml", "all.tap", "all.md"] {
        assert_snapshot!(name, fs::read_to_string(place.path().join(name)).unwrap());
    }
    // What was merged can be merged again.
    let again = place.seen(&["report", "merge", "all.jsonl"]);
    assert_eq!(again.lines().skip(1).collect::<Vec<_>>(), shown.lines().skip(1).collect::<Vec<_>>());
}

#[test]
fn what_is_lost_or_twofold_is_named() {
    let place = place();
    let whole = fs::read_to_string(place.path().join("first.jsonl")).unwrap();
    // Ended in the middle of a line, after the verdicts of `boot`.
    let lines: Vec<&str> = whole.lines().take(6).collect();
    place.write("killed.jsonl", &lines.join("\n")[..whole.find("went").unwrap()]);
    place.write("empty.jsonl", "");
    let accelerator = json!({ "event": "accelerator-chosen", "accelerator": "tcg", "reason": "no /dev/kvm" });
    let fine = [
        begun(&["host-3"]),
        started("host-3", &["boot"]),
        line("host-3", accelerator),
        ended("host-3", "boot", "passed", "", &json!([])),
        finished(&[("host-3", 0)]),
    ];
    place.write("fine.jsonl", &fine.concat());
    let shown = [
        place.seen(&["report", "merge", "killed.jsonl", "--report", "tap=-"]),
        place.seen(&["report", "merge", "first.jsonl", "first.jsonl"]),
        place.seen(&["report", "merge", "fine.jsonl"]),
        place.seen(&["report", "merge", "fine.jsonl", "empty.jsonl"]),
    ];
    assert_snapshot!(shown.join("\n"));
}

/// A job that died before its file was kept leaves nothing, but the other files say that there was one.
#[test]
fn a_part_of_a_suite_that_no_file_tells_of_is_an_error() {
    let place = Place::empty();
    for index in 1..=3 {
        for host in ["sandbox", &format!("host-{index}")] {
            let test = format!("test-{index}");
            let shard = json!({ "index": index, "of": 3 });
            let started = json!({ "event": "run-started", "suite": "guests", "tests": [test], "left_out": 2,
                "run_as": "toril", "shard": shard });
            let passed = ended(host, &test, "passed", "", &json!([]));
            let events = [begun(&[host]), line(host, started), passed, finished(&[(host, 0)])];
            place.write(&format!("{host}-{index}.jsonl"), &events.concat());
        }
    }
    let merge = |files: &[&str]| place.seen(&[&["report", "merge"], files].concat());
    let shown = [
        merge(&["sandbox-1.jsonl", "sandbox-3.jsonl", "--report", "tap=-"]),
        merge(&["host-1-1.jsonl", "host-3-3.jsonl", "--report", "tap=-"]),
        merge(&["host-1-1.jsonl", "sandbox-2.jsonl", "host-3-3.jsonl"]),
    ];
    assert_snapshot!(shown.join("\n"));
}

#[test]
fn why_a_host_cannot_do_the_job_is_told() {
    let place = Place::empty();
    let checks = json!([
        { "name": "memory", "state": "fine", "what": "8 GiB", "remedy": null },
        { "name": "KVM", "state": "bad", "what": "guests die: internal error 1", "remedy": "have guests emulated" },
    ]);
    let checks = json!({ "event": "checks", "host": "host-1", "checks": checks, "all": false });
    let events = [begun(&["host-1"]), format!("{checks}\n"), finished(&[("host-1", 5)])];
    place.write("broken.jsonl", &events.concat());
    let merge = Toril::new(&["report", "merge", "broken.jsonl", "--report", "junit=all.xml"]);
    merge.dir(&place.path()).run().exits(5);
    let junit = fs::read_to_string(place.path().join("all.xml")).unwrap();
    let why = "the host cannot do the job: KVM: guests die: internal error 1 (broken.jsonl)";
    assert!(junit.contains(why) && !junit.contains("memory"), "{junit}");
}

#[test]
fn what_is_no_report_is_refused_before_anything_is_done() {
    let place = place();
    place.write("other.jsonl", "{\"event\": 3}\n");
    let shown = [
        place.seen(&["report", "merge", "first.jsonl", "missing.jsonl"]),
        place.seen(&["report", "merge", "other.jsonl"]),
        place.seen(&["test", "local", "--report", "junti=a.xml"]),
        place.seen(&["test", "local", "--report", "junit=missing/a.xml"]),
        place.seen(&["test", "local", "--report", "junit=a", "--report", "tap=a"]),
        place.seen(&["test", "local", "--json", "--report", "tap=-"]),
    ];
    assert_snapshot!(shown.join("\n"));
}

fn print(host: &str, values: &Value) -> String {
    format!("{}\n", json!({ "event": "fingerprint", "host": host, "fingerprint": values, "id": "0" }))
}

#[test]
fn fingerprints_that_were_kept_are_compared() {
    let place = Place::empty();
    let old = json!({ "kernel": "6.1.0-1", "qemu.package": "1:7.2", "figure.boot-time": "90 ms" });
    let new =
        json!({ "kernel": "6.1.0-2", "qemu.package": "1:7.2", "figure.boot-time": "91 ms", "guest": "no" });
    let measured = json!({ "kernel": "6.1.0-1", "qemu.package": "1:7.2", "figure.boot-time": "12 ms" });
    place.write("old", &[print("host-1", &old), print("host-2", &old), print("gone", &old)].concat());
    place.write("new", &[print("host-1", &new), print("host-2", &measured), print("come", &new)].concat());
    place.write("one", &print("host-9", &old));
    place.write("other", &print("host-8", &measured));
    place.write("none", "{}\n");
    let shown = [
        place.seen(&["report", "compare", "old", "new"]),
        place.seen(&["report", "compare", "one", "other"]),
        place.seen(&["report", "compare", "one", "new", "--quiet"]),
        place.seen(&["report", "compare", "one", "other", "--json"]),
        place.seen(&["report", "compare", "old", "none"]),
    ];
    assert_snapshot!(shown.join("\n"));
}

#[test]
fn github_gets_annotations_and_a_summary() {
    let place = place();
    place.write("summary.md", "# before\n");
    let arguments = ["report", "merge", "first.jsonl", "second.jsonl", "--report", "github"];
    let summary = place.path().join("summary.md");
    let call =
        Toril::new(&arguments).dir(&place.path()).env("GITHUB_STEP_SUMMARY", summary.to_str().unwrap());
    let shown = place.look(call, &arguments);
    let annotations: Vec<&str> = shown.lines().filter(|line| line.starts_with("::")).collect();
    assert_snapshot!(annotations.join("\n"));
    let summary = fs::read_to_string(summary).unwrap();
    assert!(summary.starts_with("# before\n### toril: 3 failures\n"), "{summary}");
}

/// A host that cannot be reached is in the report, and the report of an earlier run is not.
#[test]
fn a_run_that_came_to_nothing_is_reported_as_that() {
    let place = Place::empty();
    place.write("toril.toml", "reports = [\"junit=a.xml\", \"json=a.jsonl\"]\n");
    place.write("a.xml", "<testsuites/>");
    // Nothing listens there.
    let call = Toril::new(&["test", "nobody@127.0.0.1:1", "--connect-timeout", "5s"]).dir(&place.path());
    call.run().exits(1);
    let xml = fs::read_to_string(place.path().join("a.xml")).unwrap();
    assert!(xml.contains("errors=\"1\"") && xml.contains("connecting: "), "{xml}");
    let events = fs::read_to_string(place.path().join("a.jsonl")).unwrap();
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["status"]), (&json!("finished"), &json!(1)));
}

/// Who has nothing to do is told so, and no report waits for its run.
#[test]
fn hosts_beyond_the_number_of_tests_are_in_no_report() {
    let place = Place::empty();
    place.write(
        "two.toml",
        "[[test]]\nname = \"a\"\ncommand = [\"true\"]\n[[test]]\nname = \"b\"\ncommand = [\"true\"]\n",
    );
    // Nothing listens there.
    let hosts = ["nobody@127.0.0.1:1", "nobody@127.0.0.1:2", "nobody@127.0.0.1:3"];
    let arguments = ["--spread", "--suite", "two.toml", "--report", "junit=a.xml", "--connect-timeout", "5s"];
    let call = Toril::new(&[&["test"], &hosts[..], &arguments[..]].concat()).dir(&place.path());
    call.run().exits(1).shows("nothing for nobody@127.0.0.1:3");
    let xml = fs::read_to_string(place.path().join("a.xml")).unwrap();
    assert!(xml.contains(hosts[0]) && xml.contains(hosts[1]) && !xml.contains(hosts[2]), "{xml}");
}

/// What a reader has before it is no file to be replaced, and gets the report once.
#[test]
fn a_fifo_a_link_and_what_a_shell_has_opened_stay_what_they_are() {
    let place = place();
    let call = |arguments: &str, then: &str| {
        let call = format!("'{TORIL}' report merge first.jsonl second.jsonl {arguments}");
        let script = format!("mkfifo -m 600 fifo 2>/dev/null; ln -sf linked link; {call}; {then}");
        Toril::of(Path::new("bash"), &["-c", &script]).dir(&place.path()).run()
    };
    let whole = call("--report tap=all.tap >/dev/null", "cat all.tap").exits(0).stdout;
    assert!(whole.starts_with("TAP version 13"), "{whole}");
    let fifo = call("--report tap=fifo >/dev/null & cat fifo", "wait; test -p fifo").exits(0);
    assert_eq!(fifo.stdout, whole);
    let opened = call("--report tap=>(cat >opened) >/dev/null", "wait $!; cat opened").exits(0);
    assert_eq!(opened.stdout, whole);
    let linked = call("--report tap=link >/dev/null", "test -L link && cat linked").exits(0);
    assert_eq!(linked.stdout, whole);
}

/// What is printed to a full disk is lost, and that is told; a reader that went away is no loss.
#[test]
fn what_could_not_be_printed_is_told() {
    let place = place();
    let call = |arguments: &str| {
        let script = format!("'{TORIL}' report {arguments}");
        Toril::of(Path::new("bash"), &["-o", "pipefail", "-c", &script]).dir(&place.path()).run()
    };
    let passed = ended("host-3", "boot", "passed", "", &json!([]));
    let lines = [begun(&["host-3"]), started("host-3", &["boot"]), passed, finished(&[("host-3", 0)])];
    place.write("fine.jsonl", &lines.concat());
    for (output, what) in [("--report junit=-", "the report"), ("--json", "the events")] {
        call(&format!("merge fine.jsonl {output} >/dev/null")).exits(0);
        let full = call(&format!("merge fine.jsonl {output} >/dev/full")).exits(1);
        full.shows(&format!("error: reporting: cannot print {what}: No space left on device"));
        call(&format!("merge fine.jsonl {output} | true")).exits(0).hides("error");
    }
    // Of a file as of standard output.
    let full = call("merge fine.jsonl --report junit=/dev/fd/3 3>/dev/full").exits(1);
    full.shows("error: reporting: cannot write /dev/fd/3: No space left on device").shows("exit status 1");
}
