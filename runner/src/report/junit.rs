//! JUnit XML by Jenkins' schema: a testsuite for a suite on a host, a testcase for each case of a test.
//!
//! GitLab knows a testcase by its classname and name, shows only the first of several with the same, and takes no file
//! above 30 MB.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report as Xml, TestCase, TestCaseStatus, TestRerun, TestSuite};

use super::entry::{Entry, Judgement, entries};
use super::text::{clean, clipped, cost, line};
use super::{HostRun, Report, ReportError};
use crate::event::Attempt;
use crate::verdict::Outcome;

/// What all that was said may cost, in bytes of the file; names and structure come to about as much again at most.
const SAID: usize = 12_000_000;
/// What one test's last lines may cost.
const LAST_LINES: usize = 64 * 1024;
/// What a reason may cost, and what it may cost once there is no more room.
const REASON: usize = 4096;
const SHORT_REASON: usize = 100;

pub(super) fn render(report: &Report) -> Result<String, ReportError> {
    let mut xml = Xml::new("toril");
    let mut room = Room(SAID);
    let mut total = Duration::ZERO;
    for (run, entries) in entries(report) {
        let name = run.suite_words().map_or(run.host.clone(), |suite| format!("{}/{suite}", run.host));
        let mut suite = TestSuite::new(clipped(&line(&name), SHORT_REASON * 4));
        suite.extra.insert("hostname".into(), clipped(&line(&run.host), SHORT_REASON * 2).into());
        let time = run.results.iter().map(|result| Duration::from_millis(result.duration_ms)).sum();
        suite.set_time(time);
        total += time;
        for (name, value) in report.properties.iter().chain(&run.properties) {
            suite.add_property(Property::new(line(name), clipped(&line(value), REASON)));
        }
        reproduce(run, &mut suite, &mut room);
        suite.add_test_cases(entries.iter().map(|entry| testcase(entry, &mut room)));
        xml.add_test_suite(suite);
    }
    xml.set_time(total);
    let text = xml.to_string().map_err(|error| ReportError(error.to_string()))?;
    Ok(without_skipped_of_all(text))
}

/// Jenkins' schema has no testcase properties, so how to do a test by hand is one of the suite.
fn reproduce(run: &HostRun, suite: &mut TestSuite, room: &mut Room) {
    for result in run.results.iter().filter(|result| !is_fine(result.outcome)) {
        let Some(command) = &result.reproduce else { continue };
        if command.contains('\n') {
            // An attribute has one line; the failure's text has them all.
            continue;
        }
        let command = clipped(&line(command), REASON);
        if room.take(&command) {
            suite.add_property(Property::new(
                clipped(&format!("reproduce {}", line(&result.test)), 300),
                command,
            ));
        }
    }
}

fn is_fine(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Passed | Outcome::Flaky | Outcome::Skipped)
}

fn testcase(entry: &Entry<'_>, room: &mut Room) -> TestCase {
    let reason = clipped(&entry.reason, REASON);
    // It stands there twice: as the message, and in the text.
    let reason =
        if room.take(&reason) && room.take(&reason) { reason } else { clipped(&reason, SHORT_REASON) };
    let message = if reason.is_empty() { entry.word.to_owned() } else { reason };
    let mut status = match entry.judgement {
        Judgement::Passed => TestCaseStatus::success(),
        Judgement::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(message);
            status
        }
        Judgement::Failure => bad(entry, NonSuccessKind::Failure, message),
        Judgement::Error => bad(entry, NonSuccessKind::Error, message),
    };
    let attempts = entry.details.map(|result| result.attempts.as_slice()).unwrap_or_default();
    status.add_reruns(attempts.iter().map(|attempt| rerun(attempt, room)));
    let mut case = TestCase::new(entry.name.clone(), status);
    case.set_classname(entry.group.clone());
    if let Some(milliseconds) = entry.duration_ms {
        case.set_time(Duration::from_millis(milliseconds));
    }
    let lines = entry.details.map(|result| result.last_lines.as_slice()).unwrap_or_default();
    if !lines.is_empty() {
        let text = clipped(&clean(&lines.join("\n")), LAST_LINES);
        let left_out = "the last lines are left out, for the report would become too large";
        case.set_system_out(if room.take(&text) { text } else { left_out.into() });
    }
    let warnings = clipped(&clean(&entry.warnings.join("\n")), REASON);
    if !warnings.is_empty() && room.take(&warnings) {
        case.set_system_err(warnings);
    }
    case
}

/// An attempt before the last: a `flakyFailure` where that one passed, else a `rerunFailure`.
fn rerun(attempt: &Attempt, room: &mut Room) -> TestRerun {
    let kind = match Judgement::of(attempt.outcome) {
        Judgement::Error => NonSuccessKind::Error,
        Judgement::Passed | Judgement::Failure | Judgement::Skipped => NonSuccessKind::Failure,
    };
    let mut rerun = TestRerun::new(kind);
    rerun.set_type(attempt.outcome.words());
    let reason = clipped(&line(&attempt.reason), REASON);
    rerun.set_message(if room.take(&reason) { reason } else { clipped(&reason, SHORT_REASON) });
    let said = clipped(&clean(&attempt.last_lines.join("\n")), LAST_LINES);
    if !said.is_empty() && room.take(&said) {
        rerun.set_system_out(said);
    }
    rerun
}

fn bad(entry: &Entry<'_>, kind: NonSuccessKind, message: String) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(entry.word);
    let by_hand = entry.details.and_then(|result| result.reproduce.as_deref());
    let by_hand =
        by_hand.map(|command| format!("\nby hand on the host: {}", clipped(&clean(command), REASON)));
    status.set_description(format!("{}: {message}{}", entry.word, by_hand.unwrap_or_default()));
    status.set_message(message);
    status
}

/// What may still be said.
struct Room(usize);

impl Room {
    fn take(&mut self, text: &str) -> bool {
        let left = self.0.checked_sub(cost(text));
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// Jenkins' schema knows no `skipped` of all suites together, which quick-junit writes.
fn without_skipped_of_all(mut text: String) -> String {
    let Some(start) = text.find("<testsuites ") else { return text };
    let Some(end) = text[start..].find('>').map(|length| start + length) else { return text };
    let Some(from) = text[start..end].find(" skipped=\"").map(|length| start + length) else { return text };
    let value = from + " skipped=\"".len();
    if let Some(length) = text[value..end].find('"') {
        text.replace_range(from..=value + length, "");
    }
    text
}
