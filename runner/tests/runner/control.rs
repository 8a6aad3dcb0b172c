//! How a suite's tests are run: again, side by side, up to a deadline, in parts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::place::{Place, cut_off, place, processes, soon};
use toril_runner::{Event, Outcome, Shard, Summary, exit_status};

/// A test of one shell command.
fn test(name: &str, script: &str, more: &str) -> String {
    format!("[[test]]\nname = \"{name}\"\n{more}\ncommand = [\"sh\", \"-c\", '''{script}''']\n")
}

/// A folder of the place that tests may write to, and which outlives them.
fn shared(place: &Place) -> String {
    let path = place.state.path().join("shared");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    path.display().to_string()
}

fn ends(summary: &Summary) -> Vec<(&str, Outcome, &str)> {
    let results = summary.results.iter();
    results.map(|result| (result.test.as_str(), result.outcome, result.reason.as_str())).collect()
}

#[test]
fn what_passes_only_in_a_retry_is_flaky() {
    let Some(mut place) = place(false) else { return };
    let counter = format!("{}/counter", shared(&place));
    let script =
        format!("echo x >> {counter}; test $(wc -l < {counter}) -ge 3 || {{ echo not yet; exit 1; }}");
    let suite = test("late", &script, "retries = 4");
    let (summary, events) = place.run(&suite);
    assert_eq!(
        ends(&summary),
        [("late", Outcome::Flaky, "passed in attempt 3 of 5; the first: failed: exit status 1: not yet")]
    );
    assert_eq!((exit_status(&summary), summary.counts().flaky), (0, 1));
    let attempts = &summary.results[0].attempts;
    assert_eq!(attempts.len(), 2);
    assert!(attempts.iter().all(|attempt| attempt.outcome == Outcome::Failed));
    assert_eq!(attempts[1].last_lines, ["not yet"]);
    let told = events.iter().filter(|event| matches!(event, Event::AttemptEnded { of: 5, .. })).count();
    assert_eq!(told, 2);
    // It can be taken for a failure, by the suite and by the user.
    fs::remove_file(&counter).unwrap();
    assert_eq!(exit_status(&place.run(&format!("flaky = \"fail\"\n{suite}")).0), 4);
    fs::remove_file(&counter).unwrap();
    place.options.control.fail_on_flaky = true;
    assert_eq!(exit_status(&place.run(&suite).0), 4);
    // The user's number of retries counts.
    fs::remove_file(&counter).unwrap();
    place.options.control.retries = Some(1);
    let (summary, _) = place.run(&suite);
    let reason = "exit status 1: not yet (attempt 2 of 2; the first: failed: exit status 1: not yet)";
    assert_eq!(ends(&summary), [("late", Outcome::Failed, reason)]);
    assert_eq!(exit_status(&summary), 4);
}

#[test]
fn what_the_host_is_to_blame_for_is_not_tried_again() {
    let Some(place) = place(false) else { return };
    let suite = format!("retries = 3\n{}", test("t", "toril-no-such-program", ""));
    let (summary, _) = place.run(&suite);
    assert_eq!(summary.results[0].outcome, Outcome::Error);
    assert!(summary.results[0].attempts.is_empty());
}

#[test]
fn fail_fast_leaves_the_rest_out() {
    let Some(mut place) = place(false) else { return };
    let tests = [test("a", "true", ""), test("b", "exit 1", ""), test("c", "true", "")].concat();
    let left_out = "left out: `b` did not pass, and the run is to end with that";
    let (summary, _) = place.run(&format!("fail-fast = true\n{tests}"));
    let expected = [
        ("a", Outcome::Passed, ""),
        ("b", Outcome::Failed, "exit status 1"),
        ("c", Outcome::Skipped, left_out),
    ];
    assert_eq!(ends(&summary), expected);
    assert_eq!((exit_status(&summary), summary.stopped), (4, false));
    place.options.control.fail_fast = true;
    assert_eq!(ends(&place.run(&tests).0), expected);
}

#[test]
fn a_suites_deadline_ends_the_test_that_runs_and_fails_those_to_come() {
    let Some(place) = place(false) else { return };
    let tests = [test("a", "true", ""), test("b", "sleep 300", ""), test("c", "true", "")].concat();
    let run = |deadline: &str| place.run(&format!("suite-deadline = \"{deadline}\"\nretries = 2\n{tests}")).0;
    let (summary, deadline) = cut_off(run, |summary| ends(summary)[0].1 == Outcome::Passed);
    let [a, b, c] = &ends(&summary)[..] else { panic!("{summary:?}") };
    assert_eq!(a.1, Outcome::Passed);
    assert_eq!(b.1, Outcome::TimedOut);
    let over = format!("the suite's deadline of {deadline} was over");
    assert!(b.2.starts_with(&format!("{over}: no end within ")), "{}", b.2);
    assert_eq!((c.1, c.2), (Outcome::TimedOut, format!("not begun: {over}").as_str()));
    assert_eq!(exit_status(&summary), 4);
}

#[test]
fn parts_are_run_and_an_empty_one_is_no_success() {
    let Some(mut place) = place(false) else { return };
    let tests = [test("a", "true", ""), test("b", "true", ""), test("c", "true", "")].concat();
    for (index, expected) in [(1, &["a", "c"][..]), (2, &["b"])] {
        place.options.control.shard = Some(Shard { index, of: 2 });
        let (summary, events) = place.run(&tests);
        assert_eq!(summary.results.iter().map(|result| result.test.as_str()).collect::<Vec<_>>(), expected);
        let left_out = 3 - expected.len();
        let Event::RunStarted { left_out: told, shard, .. } = &events[0] else { panic!("{events:?}") };
        assert_eq!((*told, *shard), (left_out, place.options.control.shard));
    }
    place.options.control.shard = Some(Shard { index: 4, of: 4 });
    let (summary, _) = place.run(&tests);
    assert_eq!((summary.results.len(), exit_status(&summary)), (0, 5));
}

#[test]
fn tests_run_side_by_side_and_each_ones_events_stay_in_order() {
    let Some(mut place) = place(false) else { return };
    let shared = shared(&place);
    // Each waits for the other two, which would not end one after the other.
    let waits = |name: &str| {
        let script = format!(
            "touch {shared}/{name}; until test -e {shared}/a && test -e {shared}/b && test -e {shared}/c; do sleep 0.02; done; \
             for case in 1 2 3; do echo case $case: PASSED; done"
        );
        test(name, &script, "cases = \"toril\"\nexpect-count = 3\ndeadline = \"60s\"")
    };
    let alone = format!("touch {shared}/alone; sleep 0.3; rm {shared}/alone");
    let beside = format!("test ! -e {shared}/alone");
    let tests = [
        waits("a"),
        waits("b"),
        waits("c"),
        test("alone", &alone, "alone = true"),
        test("after", &beside, ""),
        test("last", &beside, ""),
    ];
    place.options.control.jobs = 3;
    let (summary, events) = place.run(&tests.concat());
    let names: Vec<&str> = summary.results.iter().map(|result| result.test.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "alone", "after", "last"]);
    assert_eq!(exit_status(&summary), 0, "{summary:#?}");
    for name in ["a", "b", "c"] {
        let own = events.iter().filter_map(|event| match event {
            Event::TestStarted { test } if test == name => Some("begun".to_owned()),
            Event::Case { test, case } if test == name => Some(case.name.clone()),
            Event::TestEnded(result) if result.test == name => Some("ended".into()),
            _ => None,
        });
        assert_eq!(own.collect::<Vec<_>>(), ["begun", "1", "2", "3", "ended"]);
    }
}

#[test]
fn a_stop_ends_all_that_run() {
    let Some(mut place) = place(false) else { return };
    place.options.control.jobs = 2;
    place.options.control.retries = Some(2);
    let mark = "sleep 3015.5";
    let tests = ["a", "b", "c"].map(|name| test(name, &format!("{mark} & yes"), "output-limit = \"4096G\""));
    let stop = AtomicBool::new(false);
    let (summary, _) = thread::scope(|scope| {
        scope.spawn(|| {
            // The programs themselves, and not the shells that are told of them.
            let running = || processes(mark).iter().filter(|line| line.starts_with(mark)).count();
            soon(|| running() == 2);
            stop.store(true, Ordering::Relaxed);
        });
        place.run_until(&tests.concat(), &stop)
    });
    let reasons: Vec<_> = ends(&summary).iter().map(|end| (end.1, end.2[..7].to_owned())).collect();
    let skipped = |reason: &str| (Outcome::Skipped, reason.to_owned());
    assert_eq!(reasons, [skipped("stopped"), skipped("stopped"), skipped("the run")]);
    assert!(summary.stopped && exit_status(&summary) == 1);
    assert_eq!(processes(mark), [""; 0]);
}
