//! A report's lines: what came of each (test, case), of tests without cases, and of runs as wholes.

use std::borrow::Cow;
use std::collections::HashSet;

use super::text::{clipped, line};
use super::{HostRun, Report};
use crate::case::{Case, CaseResult};
use crate::event::TestResult;
use crate::verdict::Outcome;

/// More entries than this are not made, all in all: a report must stay one that its readers accept.
const MOST: usize = 20_000;
/// What a name may cost.
const NAME: usize = 200;

/// One line of a report.
pub(super) struct Entry<'r> {
    /// Suite and test, and before them the host where there are several.
    pub group: String,
    /// The case, or the test where it tells of the test as a whole. Unique within its group.
    pub name: String,
    pub judgement: Judgement,
    /// The outcome's own word, such as `timed out`.
    pub word: &'static str,
    /// Why, on one line; may be empty.
    pub reason: String,
    /// The test, on that one of its entries which shows its last lines.
    pub details: Option<&'r TestResult>,
    /// What was not as the suite wants it, though the test ran; on the first of its entries.
    pub warnings: &'r [String],
    /// In milliseconds; only of tests without cases, since nothing is known of a single case's time.
    pub duration_ms: Option<u64>,
}

/// What every format tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Passed,
    /// The code is to blame.
    Failure,
    /// The host or the set-up is to blame, or it is not known how it came out.
    Error,
    Skipped,
}

impl Judgement {
    pub(super) fn is_bad(self) -> bool {
        matches!(self, Judgement::Failure | Judgement::Error)
    }

    pub(super) fn of(outcome: Outcome) -> Judgement {
        match outcome {
            Outcome::Passed | Outcome::Flaky => Judgement::Passed,
            Outcome::Failed | Outcome::Crashed | Outcome::TimedOut | Outcome::Incomplete => {
                Judgement::Failure
            }
            Outcome::Error => Judgement::Error,
            Outcome::Skipped => Judgement::Skipped,
        }
    }
}

/// The entries of each run.
pub(super) fn entries(report: &Report) -> Vec<(&HostRun, Vec<Entry<'_>>)> {
    let hosts: HashSet<&str> = report.runs.iter().map(|run| run.host.as_str()).collect();
    let results = || report.runs.iter().flat_map(|run| run.builds.iter().chain(&run.results));
    let cases: usize = results().map(|result| result.cases.len()).sum();
    let most_cases = if cases <= MOST { usize::MAX } else { (MOST / results().count().max(1)).max(1) };
    let mut maker = Maker { with_host: hosts.len() > 1, most_cases, used: HashSet::new() };
    report.runs.iter().map(|run| (run, maker.run(run))).collect()
}

struct Maker {
    with_host: bool,
    /// Of one test.
    most_cases: usize,
    /// The pairs of group and name that there are: some readers show only the first of several with the same.
    used: HashSet<(String, String)>,
}

impl Maker {
    fn run<'r>(&mut self, run: &'r HostRun) -> Vec<Entry<'r>> {
        let mut entries = Vec::new();
        for result in run.builds.iter().chain(&run.results) {
            self.test(run, result, &mut entries);
        }
        for test in run.lost() {
            let reason = "it was to be run and has no verdict";
            entries.push(self.entry(run, Some(test), test, Judgement::Error, "error", reason.into()));
        }
        let unfinished = (!run.complete).then(|| "the run did not come to its end".to_owned());
        for trouble in run.troubles.iter().chain(&unfinished) {
            let name = format!("the run on {}", run.host);
            entries.push(self.entry(run, None, &name, Judgement::Error, "error", trouble.into()));
        }
        entries
    }

    fn test<'r>(&mut self, run: &'r HostRun, result: &'r TestResult, entries: &mut Vec<Entry<'r>>) {
        let first = entries.len();
        let failed = |case: &Case| case.result == CaseResult::Failed;
        let (kept, folded) = result.cases.split_at(result.cases.len().min(self.most_cases));
        for case in kept {
            let judgement = match case.result {
                CaseResult::Passed => Judgement::Passed,
                CaseResult::Failed => Judgement::Failure,
                CaseResult::Skipped => Judgement::Skipped,
            };
            let word = case.result.word();
            entries.push(self.entry(
                run,
                Some(&result.test),
                &case.name,
                judgement,
                word,
                case.reason.as_str().into(),
            ));
        }
        if !folded.is_empty() {
            let bad = folded.iter().filter(|case| failed(case)).count();
            let name = format!("{} further cases", folded.len());
            let (judgement, word, reason) = match bad {
                0 => (Judgement::Passed, "passed", String::new()),
                bad => (
                    Judgement::Failure,
                    "failed",
                    format!("{bad} of these cases failed; a report has not room for all"),
                ),
            };
            entries.push(self.entry(run, Some(&result.test), &name, judgement, word, reason.into()));
        }
        // The cases tell all of a test that passed, and of one that failed or was skipped by them.
        let told = match result.outcome {
            Outcome::Passed => true,
            Outcome::Failed => result.cases.iter().any(failed),
            Outcome::Skipped => result.cases.iter().all(|case| case.result == CaseResult::Skipped),
            Outcome::Flaky | Outcome::Crashed | Outcome::TimedOut | Outcome::Incomplete | Outcome::Error => {
                false
            }
        };
        if result.cases.is_empty() || !told {
            let judgement = Judgement::of(result.outcome);
            let word = result.outcome.words();
            let mut entry = self.entry(
                run,
                Some(&result.test),
                &result.test,
                judgement,
                word,
                result.reason.as_str().into(),
            );
            entry.duration_ms = result.cases.is_empty().then_some(result.duration_ms);
            entry.details = Some(result);
            entries.push(entry);
        } else if let Some(entry) = entries[first..].iter_mut().find(|entry| entry.judgement.is_bad()) {
            entry.details = Some(result);
        }
        if let Some(entry) = entries.get_mut(first) {
            entry.warnings = &result.warnings;
        }
    }

    fn entry<'r>(
        &mut self,
        run: &HostRun,
        test: Option<&str>,
        name: &str,
        judgement: Judgement,
        word: &'static str,
        reason: Cow<'_, str>,
    ) -> Entry<'r> {
        let host = self.with_host.then_some(run.host.as_str());
        let parts = [host, run.suite_words(), test].into_iter().flatten().map(line);
        let mut group = clipped(&parts.collect::<Vec<_>>().join("/"), NAME);
        if group.is_empty() {
            group = "toril".into();
        }
        let plain = clipped(&line(name), NAME);
        let mut key = (group, plain.clone());
        let mut number = 1;
        while self.used.contains(&key) {
            number += 1;
            key.1 = format!("{plain} ({number})");
        }
        self.used.insert(key.clone());
        let (group, name) = key;
        Entry {
            group,
            name,
            judgement,
            word,
            reason: line(&reason),
            details: None,
            warnings: &[],
            duration_ms: None,
        }
    }
}
