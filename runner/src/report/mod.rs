//! Reports of runs: one [`Report`] is gathered from events, and each [`Format`] is a text made of it.
//!
//! A report never looks better than the run was. A host whose run did not come to its end has an entry that is an error,
//! and so has each test that was to be run there and has no verdict.

mod entry;
mod github;
mod html;
mod junit;
mod markdown;
mod parts;
mod tap;
mod text;

use std::collections::HashSet;

pub use github::annotations;
pub use parts::LostParts;

use crate::accelerator::Accelerator;
use crate::control::Shard;
use crate::event::{BuildResult, Event, Summary, TestResult, all_guests_skipped};
use crate::verdict::Outcome;

/// What reports tell of: the runs that one call of toril has made, or several that are put together.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What holds of all runs, by name, such as toril's version.
    pub properties: Vec<(String, String)>,
    /// The suite's file, where it is one.
    pub suite_file: Option<String>,
    /// A suite on a host each.
    pub runs: Vec<HostRun>,
}

/// The property that names a host's fingerprint by its short form.
const FINGERPRINT: &str = "fingerprint";

/// A suite's run on one host, as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct HostRun {
    /// The host.
    pub host: String,
    /// The suite's name; nothing where its tests were not begun.
    pub suite: Option<String>,
    /// What is known of the host and of the run, by name.
    pub properties: Vec<(String, String)>,
    /// The tests that were to be run.
    pub planned: Vec<String>,
    /// Which parts of the suite they are; nothing where they are the whole.
    parts: Vec<Shard>,
    /// What came of each build, told of as if it were a test.
    pub builds: Vec<TestResult>,
    /// What came of each test, in the order of their coming.
    pub results: Vec<TestResult>,
    /// What kept the run from being what it should have been.
    pub troubles: Vec<String>,
    /// Whether it came to its end.
    pub complete: bool,
    /// What guests ran under.
    accelerator: Option<Accelerator>,
    /// Whether guests could not be run, and why.
    no_guests: Option<String>,
}

/// The formats that are texts made of a whole [`Report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JUnit XML, as Jenkins and GitLab read it.
    Junit,
    /// The Test Anything Protocol, version 13.
    Tap,
    /// A summary in Markdown, as GitHub shows it.
    Markdown,
    /// One page of HTML that needs nothing else.
    Html,
}

/// A report could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the report: {0}")]
pub struct ReportError(String);

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] = [Format::Junit, Format::Tap, Format::Markdown, Format::Html];

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Junit => "junit",
            Format::Tap => "tap",
            Format::Markdown => "markdown",
            Format::Html => "html",
        }
    }

    /// The report in this format.
    ///
    /// # Errors
    /// It cannot be written as XML, which no text that a run can have makes true.
    pub fn render(self, report: &Report) -> Result<String, ReportError> {
        match self {
            Format::Junit => junit::render(report),
            Format::Tap => Ok(tap::render(report)),
            Format::Markdown => Ok(markdown::render(report)),
            Format::Html => Ok(html::render(report)),
        }
    }
}

impl HostRun {
    /// A run of which nothing is known yet.
    pub fn new(host: impl Into<String>) -> HostRun {
        HostRun { host: host.into(), ..HostRun::default() }
    }

    /// The suite as reports name it: where it is a file, its name alone, since readers compare runs of different
    /// directories by it.
    pub(super) fn suite_words(&self) -> Option<&str> {
        let suite = self.suite.as_deref()?;
        let file = suite.rsplit('/').next().unwrap_or(suite);
        Some(file.strip_suffix(".toml").unwrap_or(file).trim_start_matches("built-in "))
    }

    /// Takes what happened in it. Returns the name of a test that had a verdict before: the worse one is kept.
    pub fn take(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::RunStarted { suite, tests, run_as, shard, .. } => {
                self.suite = Some(suite.clone());
                self.parts.extend(shard.filter(|shard| !self.parts.contains(shard)));
                self.know("run as", run_as);
                let known: HashSet<&String> = self.planned.iter().collect();
                let more: Vec<String> = tests.iter().filter(|test| !known.contains(test)).cloned().collect();
                self.planned.extend(more);
            }
            Event::SourceReady { source, .. } => self.know("source", &source.to_string()),
            Event::AcceleratorChosen { accelerator, reason } => {
                self.accelerator = *accelerator;
                self.no_guests = accelerator.is_none().then(|| reason.clone());
                let under = accelerator.map_or("none".to_owned(), |accelerator| accelerator.to_string());
                self.know("accelerator", &under);
                self.know("accelerator reason", reason);
            }
            Event::ArtifactsKept(kept) => self.know("artifacts on the host", &kept.directory),
            Event::FolderKept(folder) if folder.kept => self.know("kept on the host", &folder.directory),
            Event::BuildEnded(result) => self.builds.push(told_like_a_test(result)),
            Event::TestEnded(result) => return self.record(result),
            Event::BuildStarted { .. }
            | Event::TestStarted { .. }
            | Event::AwaitsDebugger { .. }
            | Event::AttemptEnded { .. }
            | Event::Case { .. }
            | Event::Output { .. }
            | Event::FolderKept(_)
            | Event::RunEnded(_) => {}
        }
        None
    }

    fn record(&mut self, result: &TestResult) -> Option<String> {
        match self.results.iter_mut().find(|known| known.test == result.test) {
            Some(known) => {
                if severity(result.outcome) > severity(known.outcome) {
                    known.clone_from(result);
                }
                Some(result.test.clone())
            }
            None => {
                self.results.push(result.clone());
                None
            }
        }
    }

    /// Notes what is known of the host or the run; a name that is known already keeps its value.
    pub fn know(&mut self, name: &str, value: &str) {
        if !self.properties.iter().any(|(known, _)| known == name) {
            self.properties.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Notes the host's fingerprint: its short form, and its values by name.
    pub fn know_fingerprint<'v>(&mut self, id: &str, values: impl Iterator<Item = (&'v str, &'v str)>) {
        self.know(FINGERPRINT, id);
        for (name, value) in values {
            self.know(&format!("{FINGERPRINT} {name}"), value);
        }
    }

    fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The tests that were to be run and have no verdict.
    pub fn lost(&self) -> Vec<&str> {
        let known: HashSet<&str> = self.results.iter().map(|result| result.test.as_str()).collect();
        self.planned.iter().map(String::as_str).filter(|test| !known.contains(test)).collect()
    }

    /// Says that it came to its end, and whether that was a good one. Where it was not, the report says so even if no
    /// test does.
    pub fn close(&mut self, fine: bool) {
        self.complete = true;
        let failing = |result: &TestResult| severity(result.outcome) >= severity(Outcome::Failed);
        if fine || !self.troubles.is_empty() || self.results.iter().any(failing) || !self.lost().is_empty() {
            return;
        }
        self.troubles.push(match self.no_guests() {
            Some(reason) => format!("none of the guests could be run: {reason}"),
            None if self.results.iter().all(|result| result.outcome == Outcome::Skipped) => {
                "no test ran".into()
            }
            None => "the run did not end well, though no test failed".into(),
        });
    }

    /// Why no guest could be run, where there were guests and none could.
    fn no_guests(&self) -> Option<&str> {
        let skipped = self.results.iter().find(|result| result.not_here);
        let skipped = skipped.filter(|_| all_guests_skipped(&self.results));
        self.no_guests.as_deref().or(skipped.map(|result| result.reason.as_str()))
    }

    /// The run's summary, as far as it is known.
    pub fn summary(&self) -> Summary {
        Summary {
            results: self.results.clone(),
            accelerator: self.accelerator,
            no_guests: self.no_guests().is_some(),
            ..Summary::default()
        }
    }
}

/// Reports have one kind of lines.
fn told_like_a_test(build: &BuildResult) -> TestResult {
    TestResult {
        test: format!("build {}", build.build),
        outcome: if build.trouble.is_none() { Outcome::Passed } else { Outcome::Error },
        reason: build.trouble.clone().unwrap_or_default(),
        duration_ms: build.duration_ms,
        attempts: Vec::new(),
        cases: Vec::new(),
        metrics: Vec::new(),
        accelerator: None,
        last_lines: build.last_lines.clone(),
        diagnosis: Vec::new(),
        qemu: Vec::new(),
        reproduce: build.trouble.is_some().then(|| build.reproduce.clone()),
        warnings: Vec::new(),
        not_here: false,
    }
}

/// How much an outcome weighs where one test has several.
fn severity(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Skipped => 0,
        Outcome::Passed => 1,
        Outcome::Flaky => 2,
        Outcome::Failed | Outcome::Crashed | Outcome::TimedOut | Outcome::Incomplete => 3,
        Outcome::Error => 4,
    }
}

#[cfg(test)]
mod tests;
