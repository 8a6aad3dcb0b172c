//! What failed, as people read it: as it happens, and once more below the table of a run's end.

use console::style;
use toril_runner::{BuildResult, Case, CaseResult, Outcome, TestResult};

use super::HostOutcome;
use crate::exit::Status;

/// So many failures are shown once more in full, with so many of their last lines.
const SHOWN: usize = 20;
const LAST_LINES: usize = 8;

/// All failures, for the end of a run. Nothing where there was but one test, and it was `seen` a moment ago.
pub(super) fn lines(outcomes: &[HostOutcome], seen: bool) -> Vec<String> {
    let results = || {
        let tested = outcomes.iter().filter_map(|outcome| Some((&outcome.host, outcome.tests.as_ref()?)));
        tested.flat_map(|(host, tests)| tests.results.iter().map(move |result| (host, result)))
    };
    let failed = || results().filter(|(_, result)| !is_fine(result.outcome));
    let count = failed().count();
    if count == 0 || seen && results().count() == 1 {
        return Vec::new();
    }
    let mut lines =
        vec![String::new(), if count == 1 { "1 failure".into() } else { format!("{count} failures") }];
    for (host, result) in failed().take(SHOWN) {
        let reason = if result.reason.is_empty() { String::new() } else { format!(": {}", result.reason) };
        let word = style(result.outcome.words()).red().bold();
        lines.push(format!("  {}: {} {word}{reason}", style(host).cyan(), style(&result.test).bold()));
        lines.extend(details(result, LAST_LINES));
    }
    if count > SHOWN {
        lines.push(format!("  and {} more, which are above and in every report (--report)", count - SHOWN));
    }
    lines
}

/// Why nothing ran on hosts where that counts, for whoever did not see it.
pub(super) fn skipped(outcomes: &[HostOutcome]) -> Vec<String> {
    let counts = outcomes.iter().filter(|outcome| outcome.status() == Status::Setup);
    let tested = counts.filter_map(|outcome| Some((style(&outcome.host).cyan(), outcome.tests.as_ref()?)));
    let mut lines = Vec::new();
    for (host, tests) in tested {
        if tests.results.is_empty() {
            lines.push(format!("{host}: no test was chosen"));
        }
        let skipped = tests.results.iter().filter(|result| result.outcome == Outcome::Skipped);
        lines.extend(skipped.map(|result| {
            let word = style(result.outcome.words()).yellow();
            format!("{host}: {word} {}: {}", result.test, result.reason)
        }));
    }
    let more = lines.len().saturating_sub(SHOWN);
    lines.truncate(SHOWN);
    lines.extend((more > 0).then(|| format!("and {more} more, which are in every report (--report)")));
    lines
}

/// Where all is that the tests of a host printed, if one of them did not pass.
pub(super) fn artifacts(outcome: &HostOutcome) -> Option<String> {
    let tests = outcome.tests.as_ref()?;
    let directory = &tests.artifacts.as_ref()?.directory;
    if outcome.artifacts.is_some() || tests.results.iter().all(|result| is_fine(result.outcome)) {
        return None;
    }
    let run = directory.rsplit('/').nth(1).unwrap_or_default();
    let host = &outcome.host;
    Some(format!(
        "{host}: all that they printed is kept on the host; `toril attach {host} {run} --artifacts DIR` fetches it"
    ))
}

pub(super) fn is_fine(outcome: Outcome) -> bool {
    match outcome {
        // Every attempt of a flaky one was shown when it ended.
        Outcome::Passed | Outcome::Flaky | Outcome::Skipped => true,
        Outcome::Failed | Outcome::Crashed | Outcome::TimedOut | Outcome::Incomplete | Outcome::Error => {
            false
        }
    }
}

/// The cases of a test that failed, its last lines, and how to do the same by hand.
pub(super) fn details(result: &TestResult, most_lines: usize) -> Vec<String> {
    let mut lines = told(&result.cases, &result.diagnosis, &result.last_lines, most_lines);
    if let Some(command) = &result.reproduce {
        // A guest that needs other processes takes several lines.
        let start = if command.contains('\n') { "\n" } else { " " };
        lines.push(format!("      by hand on the host:{start}{command}"));
    }
    lines
}

/// The last lines of a build that failed, and how to do the same by hand.
pub(super) fn of_build(build: &BuildResult, most_lines: usize) -> Vec<String> {
    let mut lines = told(&[], &[], &build.last_lines, most_lines);
    if !build.reproduce.is_empty() {
        lines.push(format!("      by hand on the host: {}", build.reproduce));
    }
    lines
}

/// The cases that failed, what was learnt, and the last lines.
pub(super) fn told(
    cases: &[Case],
    diagnosis: &[String],
    last_lines: &[String],
    most_lines: usize,
) -> Vec<String> {
    let failed = cases.iter().filter(|case| case.result == CaseResult::Failed);
    let mut lines: Vec<String> = failed.map(|known| format!("      {}", case(known))).collect();
    lines.extend(diagnosis.iter().map(|line| format!("      {line}")));
    // A guest in a loop says the same again and again.
    let said: Vec<&[String]> = last_lines.chunk_by(|one, next| one == next).collect();
    for same in &said[said.len().saturating_sub(most_lines)..] {
        let times = if same.len() > 1 { format!(" ({} times)", same.len()) } else { String::new() };
        lines.push(format!("      {} {}{times}", style("|").dim(), same[0]));
    }
    lines
}

/// A case in words.
pub(super) fn case(case: &Case) -> String {
    let result = case.result.word();
    match case.reason.is_empty() {
        true => format!("case {}: {result}", case.name),
        false => format!("case {}: {result} ({})", case.name, case.reason),
    }
}
