//! One test of a run: whether it is run at all, its attempts, and its verdict on record.

use std::mem::take;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::accelerator::{Accelerator, Choice};
use crate::artifacts::{Artifact, Artifacts, Subject};
use crate::event::{Attempt, BuildResult, Event, TestResult};
use crate::execute::{Executed, Stage};
use crate::gate::{Measured, judge};
use crate::suite::{Action, Test};
use crate::verdict::{Outcome, Verdict, seconds};

/// What every test of a run is run by.
pub(crate) struct Attempts<'r> {
    pub stage: Result<&'r Stage<'r>, &'r str>,
    pub choice: &'r Choice,
    /// Where what tests printed is kept.
    pub artifacts: &'r Artifacts,
    /// What came of the builds.
    pub builds: &'r [BuildResult],
    /// How often a test is tried again, whatever it says itself.
    pub retries: Option<u32>,
    pub fail_fast: bool,
    /// When the whole suite must be over.
    pub until: Option<Until>,
    pub stop: &'r AtomicBool,
    pub tell: &'r (dyn Fn(Event) + Sync),
    pub so_far: SoFar,
}

/// What the tests that ran have shown for those to come.
#[derive(Debug, Default)]
pub(crate) struct SoFar {
    /// The first test that did not pass.
    failed: OnceLock<String>,
    /// Whether a test was ended or left out because somebody wished so.
    stopped: AtomicBool,
}

/// Why a test is not run.
enum NotRun {
    /// This host cannot.
    Here(String),
    /// It is left out of this run, with this outcome.
    Now(Outcome, String),
}

/// A deadline for all the tests together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    at: Instant,
    limit: Duration,
}

impl Until {
    pub(crate) fn from_now(limit: Duration) -> Until {
        Until { at: Instant::now() + limit, limit }
    }

    fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

impl Attempts<'_> {
    /// Runs a test, if it can be run, and puts what came of it on record.
    pub(crate) fn run(&self, test: &Test) -> TestResult {
        (self.tell)(Event::TestStarted { test: test.name.clone() });
        let not_built = self.not_built(test).filter(|_| !self.stop.load(Ordering::Relaxed));
        let (result, mut executed) = match (not_built, self.stage_for(test)) {
            (Some(result), _) => (result, None),
            (None, Ok((stage, accelerator))) => self.try_it(test, stage, accelerator),
            (None, Err(kept)) => {
                let (outcome, reason, not_here) = match kept {
                    NotRun::Here(why) => (Outcome::Skipped, why, true),
                    NotRun::Now(outcome, why) => (outcome, why, false),
                };
                let accelerator = self.accelerator(test);
                let result = TestResult::not_run(test, outcome, reason);
                (TestResult { accelerator, not_here, ..result }, None)
            }
        };
        // A test that came to its own end counts, whenever the wish to stop came.
        if result.outcome == Outcome::Skipped && self.stop.load(Ordering::Relaxed) {
            self.so_far.stopped.store(true, Ordering::Relaxed);
        }
        if result.outcome.blames_the_code() || result.outcome == Outcome::Error {
            let _ = self.so_far.failed.set(test.name.clone());
        }
        // On record before the test's folder is removed.
        (self.tell)(Event::TestEnded(Box::new(result.clone())));
        let mut files = vec![Artifact::of_json("result.json", &result)];
        files.extend(executed.iter_mut().flat_map(|executed| take(&mut executed.artifacts)));
        self.artifacts.keep(&Subject::Test(test.name.clone()), None, files);
        if let (Ok(stage), Some(executed)) = (self.stage, executed)
            && let Some(folder) = executed.folder
        {
            stage.leave(folder, executed.share);
        }
        result
    }

    /// Whether a test was ended or left out because somebody wished so.
    pub(crate) fn was_stopped(&self) -> bool {
        self.so_far.stopped.load(Ordering::Relaxed)
    }

    /// What comes of a test that needs something which could not be built; nothing where it needs no such thing.
    fn not_built(&self, test: &Test) -> Option<TestResult> {
        let needed = self.builds.iter().filter(|build| test.needs_build.contains(&build.build));
        let (build, trouble) = needed.filter_map(|build| Some((build, build.trouble.as_ref()?))).next()?;
        Some(TestResult::not_built(test, build, trouble))
    }

    fn accelerator(&self, test: &Test) -> Option<Accelerator> {
        self.choice.accelerator.filter(|_| is_guest(test))
    }

    /// What a test is run on; an error is why it is not run.
    fn stage_for(&self, test: &Test) -> Result<(&Stage<'_>, Option<Accelerator>), NotRun> {
        let accelerator = self.accelerator(test);
        match self.stage {
            _ if self.stop.load(Ordering::Relaxed) => {
                Err(NotRun::Now(Outcome::Skipped, "the run was stopped".into()))
            }
            Err(why) => Err(NotRun::Now(Outcome::Error, why.to_owned())),
            Ok(_) if is_guest(test) && accelerator.is_none() => Err(NotRun::Here(self.choice.reason.clone())),
            Ok(stage) => match (self.so_far.failed.get().filter(|_| self.fail_fast), self.until) {
                (Some(first), _) => {
                    let reason = format!("left out: `{first}` did not pass, and the run is to end with that");
                    Err(NotRun::Now(Outcome::Skipped, reason))
                }
                (None, Some(until)) if until.left().is_zero() => {
                    let reason =
                        format!("not begun: the suite's deadline of {} was over", seconds(until.limit));
                    Err(NotRun::Now(Outcome::TimedOut, reason))
                }
                _ => match stage.options.verified.as_ref().and_then(|verified| verified.speaks_against(test))
                {
                    Some(why) => Err(NotRun::Here(why)),
                    None => Ok((stage, accelerator)),
                },
            },
        }
    }

    /// Tries a test until it passes or no retry is left.
    fn try_it(
        &self,
        test: &Test,
        stage: &Stage<'_>,
        accelerator: Option<Accelerator>,
    ) -> (TestResult, Option<Executed>) {
        let start = Instant::now();
        let most = self.retries.unwrap_or(test.retries).saturating_add(1);
        let mut former: Vec<Attempt> = Vec::new();
        loop {
            let begun = Instant::now();
            let (mut executed, metrics) = self.series(test, stage, accelerator);
            let number = u32::try_from(former.len()).unwrap_or(u32::MAX).saturating_add(1);
            let may_go_on = number < most
                && !self.stop.load(Ordering::Relaxed)
                && self.until.is_none_or(|until| !until.left().is_zero());
            if executed.verdict.outcome.blames_the_code() && may_go_on {
                let attempt = Attempt {
                    outcome: executed.verdict.outcome,
                    reason: executed.verdict.reason,
                    duration_ms: milliseconds(begun),
                    cases: executed.cases,
                    metrics,
                    last_lines: executed.last_lines,
                    diagnosis: executed.diagnosis,
                };
                (self.tell)(Event::AttemptEnded {
                    test: test.name.clone(),
                    number,
                    of: most,
                    attempt: attempt.clone(),
                });
                self.artifacts.keep(&Subject::Test(test.name.clone()), Some(number), executed.artifacts);
                former.push(attempt);
                continue;
            }
            let result = TestResult {
                duration_ms: milliseconds(start),
                accelerator,
                metrics,
                attempts: former,
                ..TestResult::of(test, &mut executed)
            };
            return (with_attempts(result, number, most), Some(executed));
        }
    }

    /// One attempt: as many runs as the gates of the test want, each of which must pass.
    fn series(
        &self,
        test: &Test,
        stage: &Stage<'_>,
        accelerator: Option<Accelerator>,
    ) -> (Executed, Vec<Measured>) {
        let runs = test.runs();
        let mut samples: Vec<Vec<f64>> = vec![Vec::new(); test.gates.len()];
        let mut run = 1;
        loop {
            // What the first run has told, the others would only tell again.
            let mut tell = |event| {
                if run == 1 {
                    (self.tell)(event)
                }
            };
            let mut executed = self.once(test, stage, accelerator, &mut tell);
            if executed.verdict.outcome == Outcome::Passed {
                let unread = take_samples(test, &mut samples, take(&mut executed.readings));
                if let Some(why) = unread {
                    executed.verdict = Verdict { outcome: Outcome::Incomplete, reason: why };
                }
            }
            let passed = executed.verdict.outcome == Outcome::Passed;
            if passed && run < runs {
                run += 1;
                continue;
            }
            if !passed && runs > 1 {
                executed.verdict.reason = format!("run {run} of {runs}: {}", executed.verdict.reason);
            }
            let measured: Vec<Measured> =
                test.gates.iter().zip(samples).map(|(gate, samples)| gate.measured(samples, runs)).collect();
            if passed {
                executed.verdict = judge(executed.verdict, &measured);
            }
            return (executed, measured);
        }
    }

    /// One run, which ends with the suite's deadline if that comes before the test's own.
    fn once(
        &self,
        test: &Test,
        stage: &Stage<'_>,
        accelerator: Option<Accelerator>,
        tell: &mut dyn FnMut(Event),
    ) -> Executed {
        match self.until {
            Some(until) if until.left() < test.deadline => {
                let cut = Test { deadline: until.left(), ..test.clone() };
                let mut executed = stage.execute(&cut, accelerator, tell);
                if executed.verdict.outcome == Outcome::TimedOut {
                    let over = format!("the suite's deadline of {} was over", seconds(until.limit));
                    executed.verdict.reason = format!("{over}: {}", executed.verdict.reason);
                }
                executed
            }
            _ => stage.execute(test, accelerator, tell),
        }
    }
}

/// Adds what a run has measured; why a gate got nothing, if one did not.
fn take_samples(test: &Test, samples: &mut [Vec<f64>], readings: Vec<Result<f64, String>>) -> Option<String> {
    let mut unread = None;
    for ((gate, samples), reading) in test.gates.iter().zip(samples).zip(readings) {
        match reading {
            Ok(value) => samples.push(value),
            Err(why) => {
                unread.get_or_insert(format!("{} could not be measured: {why}", gate.name));
            }
        }
    }
    unread
}

pub(crate) fn is_guest(test: &Test) -> bool {
    matches!(test.action, Action::Guest(_))
}

/// What the attempts mean together: one that passed after others did not is no plain success.
fn with_attempts(mut result: TestResult, number: u32, most: u32) -> TestResult {
    let Some(first) = result.attempts.first() else { return result };
    let former = format!("the first: {}: {}", first.outcome.words(), first.reason);
    let also = if result.reason.is_empty() { String::new() } else { format!("; {}", result.reason) };
    if result.outcome == Outcome::Passed {
        result.outcome = Outcome::Flaky;
        result.reason = format!("passed in attempt {number} of {most}; {former}{also}");
    } else {
        result.reason = format!("{} (attempt {number} of {most}; {former})", result.reason);
    }
    result
}

fn milliseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
