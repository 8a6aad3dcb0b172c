//! Commands as tests: their ends, and that everything they started ends with them, whoever dies first.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::place::{HARNESS, SOON, boot, cut_off, place, processes, shell, soon};
use toril_runner::{Event, Outcome, exit_status};

#[test]
fn every_end_has_its_verdict() {
    let Some(place) = place(false) else { return };
    for (script, outcome, reason) in [
        ("exit 0", Outcome::Passed, ""),
        ("echo out; echo why >&2; exit 3", Outcome::Failed, "exit status 3: why"),
        ("echo only out; exit 1", Outcome::Failed, "exit status 1: only out"),
        ("kill -SEGV $$", Outcome::Crashed, "killed by SIGSEGV"),
        ("kill -KILL $$", Outcome::Crashed, "killed by SIGKILL"),
        ("exit 134", Outcome::Failed, "exit status 134"),
        ("toril-no-such-program", Outcome::Error, "exit status 127: a program could not be run"),
        ("cat /dev/stdin; test $(pwd) = $TMPDIR && touch mine && test $USER = nobody", Outcome::Passed, ""),
        // Neither the first process of the namespace nor `unshare` can be hit from inside.
        ("kill -KILL 1; kill -KILL 0", Outcome::Crashed, "killed by SIGKILL"),
    ] {
        let result = place.result(&shell(script, ""));
        assert_eq!(result.outcome, outcome, "{script}: {result:#?}");
        assert!(result.reason.starts_with(reason), "{script}: {}", result.reason);
    }
    let result = place.result("[[test]]\nname = \"t\"\ncommand = [\"toril-no-such-program\"]\n");
    assert_eq!(result.outcome, Outcome::Error);
    assert_eq!(result.reason, "cannot run `toril-no-such-program`: no such program on the host");
}

#[test]
fn an_unknown_user_is_an_error() {
    let Some(mut place) = place(false) else { return };
    place.options.run_as = Some("toril-no-such-user".into());
    let (summary, _) = place.run(&shell("true", ""));
    assert_eq!(exit_status(&summary), 5);
    assert!(summary.results[0].reason.starts_with("there is no user `toril-no-such-user`"));
}

/// Starts a process that has left its session, its parents and its output behind, and waits until it has.
fn daemon(seconds: &str) -> String {
    format!(
        "setsid sh -c 'setsid sh -c \": > left; exec sleep {seconds}\" </dev/null >/dev/null 2>&1 &' & \
         until [ -e left ]; do sleep 0.02; done"
    )
}

#[test]
fn daemons_end_with_the_test() {
    let Some(place) = place(false) else { return };
    let result = place.result(&shell(&daemon("3011.5"), ""));
    assert_eq!(result.outcome, Outcome::Passed, "{result:#?}");
    assert_eq!(processes("sleep 3011.5"), [""; 0]);
}

#[test]
fn one_that_holds_the_output_open_holds_nobody_up() {
    let Some(place) = place(false) else { return };
    let start = Instant::now();
    let result = place.result(&shell("sleep 3012.5 & echo done", ""));
    assert_eq!(result.outcome, Outcome::Passed);
    assert!(start.elapsed() < SOON / 2, "{:?}", start.elapsed());
    assert_eq!(processes("sleep 3012.5"), [""; 0]);
}

#[test]
fn a_deadline_ends_everything() {
    let Some(place) = place(false) else { return };
    let script = format!("trap '' TERM INT HUP; {}; echo here; while :; do sleep 1; done", daemon("3013.5"));
    let run = |deadline: &str| place.result(&shell(&script, "").replace("60s", deadline));
    let (result, deadline) = cut_off(run, |result| !result.last_lines.is_empty());
    assert_eq!(result.outcome, Outcome::TimedOut, "{result:#?}");
    let reason = format!("no end within {deadline}; silent since ");
    assert!(result.reason.starts_with(&reason), "{}", result.reason);
    assert_eq!(result.last_lines, ["here"]);
    assert_eq!(processes("sleep 3013.5"), [""; 0]);
}

#[test]
fn a_flood_neither_blocks_nor_fills_memory() {
    let Some(place) = place(false) else { return };
    let result = place.result(&shell("exec yes toril", "output-limit = \"64M\""));
    assert_eq!(result.outcome, Outcome::Crashed, "{}", result.reason);
    assert_eq!(result.reason, "flood: more than 64 MiB of output");
    assert_eq!(result.last_lines.len(), 20);
}

#[test]
fn a_case_with_a_long_reason_counts_in_whatever_pieces_it_comes() {
    let Some(place) = place(false) else { return };
    for pause in ["", "sleep 0.2;"] {
        let script = |length: u32| {
            format!(
                "echo case b: PASSED; printf 'case a: FAILED ('; {pause} yes x | tr -d '\\n' | head -c {length}; \
                 {pause} echo ')'"
            )
        };
        let result = place.result(&shell(&script(9000), "cases = \"toril\""));
        assert_eq!(result.outcome, Outcome::Failed, "{pause}: {result:#?}");
        assert!(result.reason.starts_with("case a: xxxx") && result.reason.len() < 5000, "{}", result.reason);
        // Of this one neither the result's end nor the reason's is seen.
        let result = place.result(&shell(&script(70_000), "cases = \"toril\""));
        assert_eq!(result.outcome, Outcome::Failed, "{pause}: {result:#?}");
        let reason =
            "the report is wrong: a line that may report a case is longer than 64 KiB: `case a: FAILED (xx";
        assert!(result.reason.starts_with(reason), "{}", result.reason);
    }
}

#[test]
fn megabytes_below_the_limit_pass() {
    let Some(place) = place(false) else { return };
    let script = "yes toril | head -c 3000001; echo case a: PASSED";
    let result = place.result(&shell(script, "output-limit = \"64M\"\ncases = \"toril\"\nexpect = [\"a\"]"));
    // The line before it has no end, so the case is not at the beginning of one.
    assert_eq!(result.outcome, Outcome::Incomplete, "{result:#?}");
    let script = "yes toril | head -n 1000000; echo case a: PASSED";
    let result = place.result(&shell(script, "output-limit = \"64M\"\ncases = \"toril\"\nexpect = [\"a\"]"));
    assert_eq!(result.outcome, Outcome::Passed, "{result:#?}");
}

#[test]
fn a_runner_that_is_killed_takes_everything_with_it() {
    let Some(place) = place(true) else { return };
    let state = place.state.path().display().to_string();
    let commands = place.state.path().join("commands.toml");
    fs::write(&commands, shell(&format!("{}; sleep 3014.5", daemon("3014.5")), "")).unwrap();
    let guest = place.state.path().join("guest.toml");
    fs::write(&guest, boot("hang", "60s")).unwrap();
    for (suite, marks) in [(commands, "sleep 3014.5"), (guest, state.as_str())] {
        let mut runner = Command::new(HARNESS)
            .args(["run", &suite.display().to_string(), &state, "nobody", "tcg"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(runner.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("test-started")));
        let running =
            || processes(marks).iter().any(|line| !line.contains(HARNESS) && !line.contains("sh -c"));
        assert!(soon(running), "it did not start");
        let start = Instant::now();
        runner.kill().unwrap();
        runner.wait().unwrap();
        let gone = soon(|| processes(marks).is_empty());
        assert!(gone, "{:?}", processes(marks));
        println!("{marks}: gone after {:?}", start.elapsed());
        assert_eq!(fs::read_dir(place.state.path().join("runs")).unwrap().count(), 1, "its folder");
    }
    // The next run removes what the killed ones left; `Place` checks that.
    assert_eq!(place.result(&shell("true", "")).outcome, Outcome::Passed);
}

#[test]
fn where_namespaces_are_not_permitted_it_says_so() {
    let Some(place) = place(false) else { return };
    let state = place.state.path().join("of-nobody");
    fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(65534), Some(65534)).unwrap();
    let suite = place.state.path().join("suite.toml");
    fs::write(&suite, shell("true", "")).unwrap();
    // Where nobody may execute it: the build's folder may be closed to others.
    let harness = place.state.path().join("harness");
    // By another process, as in `program`.
    assert!(Command::new("cp").arg(HARNESS).arg(&harness).status().unwrap().success());
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&harness)
        .args(["run", &suite.display().to_string(), &state.display().to_string(), "nobody", "tcg"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let ended = text.lines().find(|line| line.contains("test-ended")).unwrap();
    let Event::TestEnded(result) = serde_json::from_str(ended).unwrap() else { panic!("{ended}") };
    assert_eq!(result.outcome, Outcome::Error);
    assert!(
        result.reason.starts_with("its process namespace could not be made: unshare: "),
        "{}",
        result.reason
    );
}

const OWN_FORMAT: &str = r#"
[[case-format]]
name = "dots"
pattern = '^(?<name>\S+) \.+ (?<result>ok|bad|left out)( \((?<reason>.*)\))?$'
passed = ["ok"]
failed = ["bad"]
skipped = ["left out"]
header = '^started$'
end = '^finished$'
"#;

#[test]
fn reports_in_every_format() {
    let Some(place) = place(false) else { return };
    let tap = "cases = \"tap\"";
    let dots =
        "cases = \"dots\"\nexpect = [\"add\", \"divide\"]\nunexpected = \"fail\"\nmust-print = ['^bye$']";
    let dots_of = |lines: &str| format!("printf 'started\\n{lines}finished\\nbye\\n'");
    for (script, more, outcome, reason) in [
        ("echo 1..2; echo 'ok 1 - a'; echo 'ok 2 - b'", tap, Outcome::Passed, ""),
        ("echo 1..2; echo 'ok 1 - a'", tap, Outcome::Incomplete, "1 of 2 planned cases were reported"),
        ("echo 'ok 1 - a'; echo 'not ok 2 - b'; echo 1..2; exit 1", tap, Outcome::Failed, "case b"),
        ("echo '1..0 # SKIP no disk'", tap, Outcome::Skipped, "it planned no case: no disk"),
        ("echo 'Bail out! no disk'", tap, Outcome::Incomplete, "it gave up after 0 cases: no disk"),
        (&dots_of("add ... ok\\ndivide ... ok\\n"), dots, Outcome::Passed, ""),
        (&dots_of("add ... ok\\ndivide ... left out\\n"), dots, Outcome::Passed, "skipped: divide"),
        (&dots_of("add ... ok\\ndivide ... bad (by 0)\\n"), dots, Outcome::Failed, "case divide: by 0"),
        (&dots_of("add ... ok\\ndivide ... ok\\nx ... ok\\n"), dots, Outcome::Failed, "not expected: x"),
        (
            "printf 'started\\nadd ... ok\\nfinished\\ndivide ... ok\\nbye\\n'",
            dots,
            Outcome::Failed,
            "reported after the end: divide",
        ),
        (
            "printf 'add ... ok\\ndivide ... ok\\nfinished\\nbye\\n'",
            dots,
            Outcome::Incomplete,
            "its report has no header",
        ),
        (
            "printf 'started\\nadd ... ok\\ndivide ... ok\\nfinished\\n'",
            dots,
            Outcome::Incomplete,
            "it did not print what a good end needs: /^bye$/",
        ),
    ] {
        let result = place.result(&format!("{OWN_FORMAT}{}", shell(script, more)));
        assert_eq!((result.outcome, result.reason.as_str()), (outcome, reason), "{script}");
    }
}
