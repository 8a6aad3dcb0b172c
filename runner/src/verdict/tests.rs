use super::*;
use crate::capture::Line;
use crate::case::{CaseFormat, CaseLog};
use crate::event::{Summary, TestResult};
use crate::suite::{Action, CaseRules, CommandTest, Pattern, Test};

/// A test whose evidence is changed case by case: a guest that ended as it should with both of its cases passed.
struct Given {
    lines: Vec<&'static str>,
    expected: Vec<&'static str>,
    count: Option<usize>,
    judged_by_cases: bool,
    format: &'static str,
    only_expected: bool,
    expected_exceptions: Option<u64>,
    unprinted: Vec<&'static str>,
    command: bool,
    ends: ExpectedEnd,
    ending: Ending,
    started: bool,
    shutdown: Option<&'static str>,
    panicked: bool,
    broken: Option<&'static str>,
    panic_line: Option<&'static str>,
    exceptions: u64,
    stderr: &'static str,
    last_output: Option<u64>,
}

fn guest() -> Given {
    Given {
        lines: vec!["case a: PASSED", "case b: PASSED", "toril-guest: end"],
        expected: vec!["a", "b"],
        count: None,
        judged_by_cases: true,
        format: "toril",
        only_expected: false,
        expected_exceptions: None,
        unprinted: vec![],
        command: false,
        ends: ExpectedEnd::ExitStatus(33),
        ending: code(33),
        started: true,
        shutdown: None,
        panicked: false,
        broken: None,
        panic_line: None,
        exceptions: 0,
        stderr: "",
        last_output: Some(2),
    }
}

fn command() -> Given {
    Given {
        lines: vec![],
        expected: vec![],
        judged_by_cases: false,
        command: true,
        ending: code(0),
        ..guest()
    }
}

fn code(code: i32) -> Ending {
    Ending::Exited(Exit::Code(code))
}

fn signal(signal: i32) -> Ending {
    Ending::Exited(Exit::Signal(signal))
}

const DEADLINE: Ending = Ending::Cut(Cut::Deadline(Duration::from_secs(20)));

impl Given {
    fn verdict(&self) -> (Outcome, String) {
        let format = CaseFormat::built_in(self.format).unwrap();
        let rules = self.judged_by_cases.then(|| CaseRules {
            format: format.clone(),
            from: Vec::new(),
            only_expected: self.only_expected,
            expected: self.expected.iter().map(|name| (*name).to_owned()).collect(),
            count: self.count,
        });
        let mut cases = CaseLog::default();
        for line in &self.lines {
            cases.take(&format, Line::whole(line));
        }
        let guest = GuestEvidence {
            ends: self.ends,
            started: self.started,
            shutdown: self.shutdown.map(str::to_owned),
            panicked: self.panicked,
            broken: self.broken.map(str::to_owned),
        };
        let unprinted: Vec<Pattern> =
            self.unprinted.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        let evidence = Evidence {
            subject: if self.command { Subject::Command } else { Subject::Guest(guest) },
            ending: self.ending.clone(),
            elapsed: Duration::from_secs(20),
            last_output: self.last_output.map(Duration::from_secs),
            printed: 17 << 20,
            panic_line: self.panic_line.map(str::to_owned),
            exceptions: (self.exceptions, "Exception: X".into()),
            last_error_line: self.stderr.into(),
            rules: rules.as_ref(),
            cases: &cases,
            expected_exceptions: self.expected_exceptions,
            unprinted: unprinted.iter().collect(),
            begun: true,
            helpers: Vec::new(),
            awaited: None,
            may_be_silent: false,
        };
        let verdict = judge(&evidence);
        (verdict.outcome, verdict.reason)
    }
}

fn check(rows: Vec<(Given, Outcome, &str)>) {
    for (index, (given, outcome, reason)) in rows.into_iter().enumerate() {
        assert_eq!(given.verdict(), (outcome, reason.to_owned()), "row {index}");
    }
}

#[test]
fn guests() {
    use Outcome::{Crashed, Error, Failed, Incomplete, Passed, Skipped, TimedOut};
    let not_started = Ending::NotStarted("the kernel is missing".into());
    check(vec![
        (guest(), Passed, ""),
        (Given { expected: vec!["a"], ..guest() }, Passed, "not expected: b"),
        (Given { expected: vec![], ..guest() }, Passed, ""),
        (Given { expected: vec![], count: Some(2), ..guest() }, Passed, ""),
        // Nothing ran.
        (Given { ending: not_started, ..guest() }, Error, "the kernel is missing"),
        (
            Given {
                ending: code(1),
                started: false,
                stderr: "could not load kernel",
                lines: vec![],
                ..guest()
            },
            Error,
            "QEMU exited with status 1 before the guest ran: could not load kernel",
        ),
        (
            Given { ending: code(0), started: false, lines: vec![], ..guest() },
            Error,
            "QEMU exited with status 0 before the guest ran",
        ),
        (Given { ending: Ending::Cut(Cut::Stopped), ..guest() }, Skipped, "stopped after 20 s"),
        // QEMU broke.
        (
            Given { ending: signal(6), broken: Some("failed to set MSR 0x10a"), started: false, ..guest() },
            Crashed,
            "QEMU was killed by SIGABRT: failed to set MSR 0x10a",
        ),
        (
            Given { ending: signal(6), stderr: "no such device", started: false, lines: vec![], ..guest() },
            Error,
            "QEMU was killed by SIGABRT before the guest ran: no such device",
        ),
        (
            Given { ending: Ending::Cut(Cut::Broken), broken: Some("KVM internal error"), ..guest() },
            Crashed,
            "QEMU said: KVM internal error",
        ),
        (Given { ending: signal(9), ..guest() }, Crashed, "QEMU was killed by SIGKILL"),
        // The guest broke, whatever its cases said.
        (
            Given { ending: Ending::Cut(Cut::Panic), panic_line: Some("panic: at the disco"), ..guest() },
            Crashed,
            "panic: at the disco",
        ),
        (Given { panic_line: Some("Kernel panic"), ..guest() }, Crashed, "panic: Kernel panic"),
        (Given { panicked: true, ..guest() }, Crashed, "the guest told QEMU that it panicked"),
        (
            Given { ending: Ending::Cut(Cut::Storm), exceptions: STORM, ..guest() },
            Crashed,
            "exception storm: 1000 of them, the last: Exception: X",
        ),
        (Given { exceptions: 2, ..guest() }, Passed, ""),
        (
            Given { ending: Ending::Cut(Cut::Flood(16 << 20)), ..guest() },
            Crashed,
            "flood: more than 16 MiB of output",
        ),
        (
            Given { ending: code(0), shutdown: Some("guest-reset"), ..guest() },
            Crashed,
            "the guest reset: a triple fault, unless it meant to",
        ),
        // No end.
        (
            Given { ending: DEADLINE, ..guest() },
            TimedOut,
            "no end within 20 s; silent since 2 s after its start",
        ),
        (
            Given { ending: DEADLINE, last_output: None, lines: vec![], ..guest() },
            TimedOut,
            "no end within 20 s; silent from the start",
        ),
        (
            Given { ending: DEADLINE, last_output: Some(20), ..guest() },
            TimedOut,
            "no end within 20 s; still printing, 17 MiB so far",
        ),
        (
            Given { ending: Ending::Cut(Cut::CaseDeadline(Duration::from_secs(5))), ..guest() },
            TimedOut,
            "no new case within 5 s after b; silent since 2 s after its start",
        ),
        (
            Given { ending: DEADLINE, lines: vec!["case a: FAILED"], ..guest() },
            TimedOut,
            "no end within 20 s; silent since 2 s after its start; 1 of its cases had failed",
        ),
        // Cases.
        (Given { lines: vec!["case a: FAILED (x)", "case b: PASSED"], ..guest() }, Failed, "case a: x"),
        (Given { lines: vec!["case a: FAILED", "case b: FAILED"], ..guest() }, Failed, "case a; 1 more"),
        (
            Given { lines: vec!["case a: PASSED", "case a: PASSED", "case b: PASSED"], ..guest() },
            Failed,
            "reported more than once: a",
        ),
        (
            Given { lines: vec!["case a: PASSED", "toril-guest: end", "case b: PASSED"], ..guest() },
            Failed,
            "reported after the end: b",
        ),
        (Given { expected: vec![], count: Some(1), ..guest() }, Failed, "2 cases where 1 are expected"),
        (Given { lines: vec![], ..guest() }, Incomplete, "it ended without reporting any case"),
        (
            Given { lines: vec![], expected: vec![], ..guest() },
            Incomplete,
            "it ended without reporting any case",
        ),
        (
            Given {
                lines: vec![],
                ending: code(0),
                shutdown: Some("guest-reset"),
                ends: ExpectedEnd::Reset,
                ..guest()
            },
            Incomplete,
            "it ended without reporting any case",
        ),
        (Given { lines: vec!["case b: PASSED"], ..guest() }, Incomplete, "1 of 2 cases are missing: a"),
        (Given { expected: vec![], count: Some(5), ..guest() }, Incomplete, "2 of 5 cases were reported"),
        // The end.
        (
            Given { ending: code(35), ..guest() },
            Failed,
            "it ended with exit status 35, not with exit status 33",
        ),
        (
            Given { ending: code(0), ends: ExpectedEnd::Reset, shutdown: Some("guest-reset"), ..guest() },
            Passed,
            "",
        ),
        (
            Given { ending: code(0), ends: ExpectedEnd::Reset, shutdown: Some("host-signal"), ..guest() },
            Failed,
            "it ended with exit status 0 (host-signal), not with a reset",
        ),
        (
            Given {
                ending: code(0),
                ends: ExpectedEnd::Shutdown,
                shutdown: Some("guest-shutdown"),
                ..guest()
            },
            Passed,
            "",
        ),
        (
            Given {
                ending: code(0),
                ends: ExpectedEnd::Any,
                shutdown: Some("guest-reset"),
                judged_by_cases: false,
                ..guest()
            },
            Passed,
            "ended with exit status 0 (guest-reset)",
        ),
    ]);
}

#[test]
fn commands() {
    use Outcome::{Crashed, Error, Failed, Incomplete, Passed, TimedOut};
    let no_program = Ending::NotStarted("cannot run `x`: no such program on the host".into());
    check(vec![
        (command(), Passed, ""),
        (Given { ending: code(3), stderr: "no", ..command() }, Failed, "exit status 3: no"),
        (Given { ending: signal(11), ..command() }, Crashed, "killed by SIGSEGV"),
        (Given { ending: code(134), ..command() }, Failed, "exit status 134"),
        (
            Given { ending: code(127), stderr: "sh: x: not found", ..command() },
            Error,
            "exit status 127: a program could not be run: sh: x: not found",
        ),
        (Given { ending: code(126), ..command() }, Error, "exit status 126: a program could not be run"),
        (Given { ending: no_program, ..command() }, Error, "cannot run `x`: no such program on the host"),
        (
            Given { ending: DEADLINE, ..command() },
            TimedOut,
            "no end within 20 s; silent since 2 s after its start",
        ),
        // With cases.
        (Given { judged_by_cases: true, ..command() }, Incomplete, "it ended without reporting any case"),
        (Given { judged_by_cases: true, lines: vec!["case a: FAILED"], ..command() }, Failed, "case a"),
        (
            Given { judged_by_cases: true, lines: vec!["case a: PASSED"], ending: code(1), ..command() },
            Failed,
            "exit status 1",
        ),
    ]);
}

fn tap(lines: &[&'static str]) -> Given {
    Given { judged_by_cases: true, format: "tap", lines: lines.to_vec(), ..command() }
}

#[test]
fn reports_in_tap() {
    use Outcome::{Failed, Incomplete, Passed, Skipped};
    check(vec![
        (tap(&["1..2", "ok 1 - a", "ok 2 - b"]), Passed, ""),
        (tap(&["1..2", "ok 1 - a", "ok 2 - b # SKIP no disk"]), Passed, "skipped: b"),
        (tap(&["1..2", "ok 1 - a", "not ok 2 - b # TODO later"]), Passed, "skipped: b"),
        (tap(&["1..2", "ok 1 - a", "not ok 2 - b"]), Failed, "case b"),
        // A subtest's plan and cases are its own.
        (tap(&["    1..3", "    ok 1", "    not ok 2", "ok 1 - sub", "1..1"]), Passed, ""),
        (tap(&["1..3", "ok 1 - a", "ok 2 - b"]), Incomplete, "2 of 3 planned cases were reported"),
        (tap(&["1..1", "ok 1 - a", "ok 2 - b"]), Failed, "2 cases where 1 are planned"),
        (tap(&["ok 1 - a", "1..1", "ok 2 - b"]), Failed, "reported after the end: b"),
        (tap(&["1..2", "ok 1 - a", "ok 1 - a", "ok 2 - b"]), Failed, "reported more than once: a"),
        (tap(&["1..1", "1..1", "ok 1 - a"]), Failed, "the report is wrong: there are two plans"),
        (tap(&["ok 1 - a"]), Incomplete, "its report has no plan (1..N)"),
        (tap(&["1..2"]), Incomplete, "it ended without reporting any case"),
        (tap(&["1..2", "ok 1 - a", "Bail out! no disk"]), Incomplete, "it gave up after 1 cases: no disk"),
        // Nothing was tried.
        (tap(&["1..0 # SKIP no disk"]), Skipped, "it planned no case: no disk"),
        (
            Given { expected: vec!["a"], ..tap(&["1..0 # SKIP no disk"]) },
            Incomplete,
            "1 of 1 cases are missing: a",
        ),
        (
            tap(&["1..2", "ok 1 # SKIP no disk", "ok 2 # SKIP too"]),
            Skipped,
            "all of its cases (2) were skipped: no disk",
        ),
        (Given { ending: code(3), ..tap(&["1..0 # SKIP no disk"]) }, Failed, "exit status 3"),
    ]);
}

/// What Toro reports of a test with two cases that pass, and how it ends: by a triple fault on purpose.
fn toro() -> Given {
    Given {
        format: "toro",
        lines: vec![
            "[27/02/1987-04:10:55] CPU0 Thread#0x43FBF70 Initialization of debugging console",
            "[27/02/1987-04:10:55] CPU0 Thread#0x43FBF70 TestA-0: PASSED",
            "[27/02/1987-04:10:56] CPU0 Thread#0x43FBF70 TestB-0: PASSED",
        ],
        expected: vec!["TestA-0", "TestB-0"],
        ends: ExpectedEnd::Reset,
        ending: code(0),
        shutdown: Some("guest-reset"),
        ..guest()
    }
}

#[test]
fn toros_clean_end_and_those_that_look_like_it() {
    use Outcome::{Crashed, Failed, Incomplete, Passed};
    check(vec![
        (toro(), Passed, ""),
        // A triple fault by mistake: exit status 0 as well, and an empty report.
        (
            Given { lines: vec![], unprinted: vec!["System_Exit"], ..toro() },
            Incomplete,
            "it ended without reporting any case",
        ),
        (
            Given { unprinted: vec!["System_Exit due to ExitCode"], ..toro() },
            Incomplete,
            "it did not print what a good end needs: /System_Exit due to ExitCode/",
        ),
        (
            Given { unprinted: vec!["a", "b", "c"], ..toro() },
            Incomplete,
            "it did not print what a good end needs: /a/; 2 more",
        ),
        (Given { lines: toro().lines[1..].to_vec(), ..toro() }, Incomplete, "its report has no header"),
        (
            Given { lines: toro().lines[..2].to_vec(), ..toro() },
            Incomplete,
            "1 of 2 cases are missing: TestB-0",
        ),
        (Given { expected: vec!["TestA-0"], only_expected: true, ..toro() }, Failed, "not expected: TestB-0"),
        // Two exceptions are part of its process test.
        (Given { exceptions: 2, expected_exceptions: Some(2), ..toro() }, Passed, ""),
        (
            Given { exceptions: 1, expected_exceptions: Some(2), ..toro() },
            Incomplete,
            "1 of 2 exceptions were reported",
        ),
        (
            Given { exceptions: 3, expected_exceptions: Some(2), ..toro() },
            Crashed,
            "3 exceptions where 2 are expected, the last: Exception: X",
        ),
        (
            Given { exceptions: STORM, expected_exceptions: Some(2), ..toro() },
            Crashed,
            "exception storm: 1000 of them, the last: Exception: X",
        ),
    ]);
}

#[test]
fn silence_is_never_success() {
    let ends = [
        (ExpectedEnd::ExitStatus(0), None),
        (ExpectedEnd::Reset, Some("guest-reset")),
        (ExpectedEnd::Shutdown, Some("guest-shutdown")),
        (ExpectedEnd::Any, None),
    ];
    let endings = [code(0), code(33), signal(9), DEADLINE, Ending::Cut(Cut::Panic), Ending::Cut(Cut::Storm)];
    for (ends, shutdown) in ends {
        for ending in &endings {
            for started in [true, false] {
                let ending = ending.clone();
                let given =
                    Given { lines: vec![], expected: vec![], ends, shutdown, ending, started, ..guest() };
                let (outcome, reason) = given.verdict();
                assert_ne!(outcome, Outcome::Passed, "{reason}");
                assert!(!reason.is_empty());
            }
        }
    }
}

#[test]
fn exit_statuses() {
    use Outcome::{Crashed, Error, Failed, Flaky, Incomplete, Passed, Skipped, TimedOut};
    let summary = |outcomes: &[Outcome], stopped| Summary {
        results: outcomes.iter().map(|outcome| result(*outcome)).collect(),
        stopped,
        ..Summary::default()
    };
    for (outcomes, expected) in [
        (&[][..], 5),
        (&[Skipped], 5),
        (&[Skipped, Skipped], 5),
        (&[Passed], 0),
        (&[Passed, Skipped], 0),
        (&[Passed, Failed], 4),
        (&[Crashed], 4),
        (&[TimedOut, Passed], 4),
        (&[Incomplete, Skipped], 4),
        (&[Error, Passed], 5),
        (&[Error, Failed], 5),
        (&[Flaky], 0),
        (&[Flaky, Failed], 4),
        (&[Flaky, Error], 5),
    ] {
        assert_eq!(exit_status(&summary(outcomes, false)), expected, "{outcomes:?}");
        assert_eq!(exit_status(&summary(outcomes, true)), 1, "{outcomes:?}");
    }
    for (outcomes, expected) in
        [(&[Flaky][..], 4), (&[Passed, Flaky], 4), (&[Passed], 0), (&[Flaky, Error], 5), (&[Skipped], 5)]
    {
        let strict = Summary { flaky_fails: true, ..summary(outcomes, false) };
        assert_eq!(exit_status(&strict), expected, "{outcomes:?}");
    }
    // Commands that pass do not make up for a machine that can run no guest.
    let no_guests = Summary { no_guests: true, ..summary(&[Passed, Skipped], false) };
    assert_eq!(exit_status(&no_guests), 5);
}

fn result(outcome: Outcome) -> TestResult {
    let command = CommandTest { argv: vec!["true".into()], env: Vec::new() };
    TestResult::not_run(&Test::new("t", Action::Command(command)), outcome, String::new())
}
