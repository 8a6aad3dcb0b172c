//! The suite of the page on a project's own scripts, with scripts as projects have them.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;

use crate::place::{Place, place};
use toril_runner::{Outcome, Suite, TestResult};

const PAGE: &str = include_str!("../../../docs/src/how-to/own-scripts.md");

/// What such scripts end with: they fail where a report has a failure, and only there.
const LOOK: &str = "if grep -q FAILED ./memory.report; then exit 1; fi\n";

/// Judges a project that has this script of each of the two tests.
fn judge(place: &Place, memory: &str, start_up: &str) -> [TestResult; 2] {
    let checkout = tempfile::Builder::new().prefix("toril-test-").tempdir().unwrap();
    let allow = |path: &std::path::Path| fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    allow(checkout.path());
    for (directory, name, script) in
        [("tests/memory", "run.sh", memory), ("tests/start-up", "measure.sh", start_up)]
    {
        let directory = checkout.path().join(directory);
        fs::create_dir_all(&directory).unwrap();
        allow(&directory);
        fs::write(directory.join(name), script).unwrap();
        // It is of an earlier run, in which all was well.
        fs::write(directory.join("memory.report"), report(5, "PASSED")).unwrap();
        allow(&directory.join("memory.report"));
    }
    let text = PAGE.split("\n```toml suite\n").nth(1).unwrap().split("\n```").next().unwrap();
    let text = text.replace("deadline = \"5m\"", "deadline = \"10s\"");
    let vars = BTreeMap::from([("checkout".to_owned(), checkout.path().to_string_lossy().into_owned())]);
    let suite = Suite::parse("scripts.toml", &text, &vars).unwrap_or_else(|error| panic!("{error}"));
    let (summary, _) = place.run_suite(&suite, &AtomicBool::new(false));
    summary.results.try_into().unwrap()
}

fn report(cases: usize, last: &str) -> String {
    (1..=cases)
        .map(|n| format!("[1] CPU0 alloc-{n}: {}\r\n", if n == cases { last } else { "PASSED" }))
        .collect()
}

fn writes(cases: usize, last: &str) -> String {
    format!("cat > memory.report <<'END'\n{}END\n{LOOK}", report(cases, last))
}

#[test]
fn scripts_get_the_verdict_that_their_exit_status_cannot_give() {
    let Some(place) = place(false) else { return };
    let measure = "echo StartUp: PASSED\n";
    let [memory, start_up] = judge(&place, &writes(5, "PASSED"), measure);
    assert_eq!((memory.outcome, memory.cases.len()), (Outcome::Passed, 5), "{memory:#?}");
    assert_eq!(start_up.outcome, Outcome::Passed, "{start_up:#?}");

    let missing = format!("toril-no-such-emulator -kernel x\n{measure}exit 0\n");
    for (script, outcome, reason) in [
        (LOOK.into(), Outcome::Error, "exit status 127: a program could not be run: grep: ./memory.report"),
        ("exit 0".into(), Outcome::Incomplete, "it ended without reporting any case"),
        (writes(3, "PASSED"), Outcome::Incomplete, "3 of 5 cases were reported"),
        (writes(5, "FAILED"), Outcome::Failed, "case alloc-5"),
        (format!("{}exit 3\n", writes(5, "PASSED")), Outcome::Failed, "exit status 3"),
        ("sleep 3012.5".into(), Outcome::TimedOut, "no end within 10 s; silent from the start"),
    ] {
        let [memory, start_up] = judge(&place, &script, &missing);
        assert_eq!(memory.outcome, outcome, "{script}: {memory:#?}");
        assert!(memory.reason.starts_with(reason), "{script}: {}", memory.reason);
        assert_eq!(start_up.outcome, Outcome::Error, "{start_up:#?}");
        assert!(
            start_up.reason.ends_with("toril-no-such-emulator: command not found"),
            "{}",
            start_up.reason
        );
    }
}
