//! `report merge`: one report, and one exit status, of what several runs have told as JSON events.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toril_runner::report::{HostRun, Report};

use crate::agent::RunEvent;
use crate::arguments::Merge;
use crate::commands::choices::Chooser;
use crate::commands::{UsageError, finish};
use crate::exit::Status;
use crate::view::{HostOutcome, Shown, View};

pub(super) fn merge(arguments: &Merge) -> Result<Status, UsageError> {
    // Before a report is begun: it may be one of them, and nothing is to be written where one cannot be read.
    let mut merged = Merged::default();
    let mut files = Vec::new();
    for path in &arguments.files {
        let name = path.to_string_lossy().into_owned();
        files.push((open(path, &name)?, name));
    }
    let view = Chooser::here()?.view(&arguments.output, &arguments.reporting, &[])?;
    for (file, name) in files {
        merged.file(file, &name, &view)?;
    }
    let (report, outcomes) = merged.conclude(&view);
    view.replace_report(report);
    Ok(finish(&view, &outcomes))
}

fn open(path: &Path, name: &str) -> Result<File, UsageError> {
    File::open(path).map_err(|error| UsageError::Other(format!("cannot read the events of {name}: {error}")))
}

/// The longest line that is taken, in bytes: the last of a run names every case once more.
const LONGEST: u64 = 256 << 20;

/// What is read of an event; whatever else it has is not kept.
#[derive(Deserialize)]
struct Line {
    event: String,
    host: Option<String>,
    run: Option<RunEvent>,
    recipe: Option<Named>,
    suite: Option<Named>,
    hosts: Option<Vec<Host>>,
    facts: Option<toril_machine::Facts>,
    checks: Option<Vec<toril_provisioner::Check>>,
    doing: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    origin: String,
}

/// In the first line a host is a name, in the last one its outcome.
#[derive(Deserialize)]
#[serde(untagged)]
enum Host {
    Name(String),
    Outcome {
        host: String,
        status: u8,
        #[serde(default)]
        problem: Option<String>,
        #[serde(default)]
        milliseconds: u64,
    },
}

/// What became of a host, in all files together.
#[derive(Default)]
struct Known {
    statuses: Vec<Status>,
    problem: Option<String>,
    time: Duration,
    /// Files that tell of it and do not tell its end.
    unfinished: Vec<String>,
}

#[derive(Default)]
struct Merged {
    report: Report,
    hosts: BTreeMap<String, Known>,
    /// What is lost or twofold.
    notes: Vec<String>,
}

impl Merged {
    fn file(&mut self, file: File, name: &str, view: &View) -> Result<(), UsageError> {
        let mut reader = BufReader::new(file);
        let mut bytes = Vec::new();
        let mut file = FileState { name, ..FileState::default() };
        for number in 1_usize.. {
            bytes.clear();
            let taken = reader.by_ref().take(LONGEST).read_until(b'\n', &mut bytes);
            let taken = taken.map_err(|error| UsageError::Other(format!("cannot read {name}: {error}")))?;
            if taken == 0 {
                break;
            }
            let whole = bytes.last() == Some(&b'\n');
            if whole {
                bytes.pop();
            }
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let line: Line = match serde_json::from_slice(&bytes) {
                Ok(line) => line,
                // The writer was ended in the middle of a line.
                Err(_) if !whole && (taken as u64) < LONGEST => {
                    file.finished = false;
                    break;
                }
                Err(error) => {
                    let what =
                        if taken as u64 == LONGEST { "a line is too long".into() } else { error.to_string() };
                    return Err(UsageError::Other(format!(
                        "{name}:{number}: no JSON event of toril's: {what}"
                    )));
                }
            };
            file.finished = line.event == "finished";
            if !file.finished {
                view.copy_event(&bytes);
            }
            self.line(line, &mut file);
        }
        if !file.finished {
            for host in &file.hosts {
                self.hosts.entry(host.clone()).or_default().unfinished.push(name.to_owned());
            }
        }
        if file.hosts.is_empty() {
            // It stands for the host that it should have told of.
            self.hosts.entry(name.to_owned()).or_default().unfinished.push(name.to_owned());
        }
        Ok(())
    }

    fn line(&mut self, line: Line, file: &mut FileState<'_>) {
        if let Some(suite) = &line.suite
            && suite.origin != "built-in"
        {
            self.report.suite_file.get_or_insert_with(|| suite.origin.clone());
        }
        if let Some(recipe) = line.recipe
            && !self.report.properties.iter().any(|(name, _)| name == "recipe")
        {
            self.report.properties.push(("recipe".into(), recipe.name));
        }
        for host in line.hosts.into_iter().flatten() {
            match host {
                Host::Name(name) => file.see(&name),
                Host::Outcome { host, status, problem, milliseconds } => {
                    file.see(&host);
                    let known = self.hosts.entry(host).or_default();
                    known.statuses.push(Status::of_number(status));
                    known.problem = known.problem.take().or(problem);
                    known.time += Duration::from_millis(milliseconds);
                }
            }
        }
        let Some(host) = line.host else { return };
        file.see(&host);
        if let Some(RunEvent::Test { event }) = &line.run {
            if let toril_runner::Event::RunStarted { suite, .. } = event {
                file.suites.insert(host.clone(), suite.clone());
            }
            let suite = file.suites.get(&host).cloned();
            let run = self.run(&host, suite);
            let again = run.take(event);
            if let Some(test) = again {
                let text = format!(
                    "{host}: {test} has more than one verdict, again in {}; the worst counts",
                    file.name
                );
                self.notes.push(text);
            }
        }
        let suite = file.suites.get(&host).cloned();
        if let Some(facts) = &line.facts {
            crate::view::know(self.run(&host, suite.clone()), facts);
        }
        for trouble in crate::view::unfit(line.checks.as_deref().unwrap_or_default()) {
            self.run(&host, suite.clone()).troubles.push(format!("{trouble} ({})", file.name));
        }
        if let Some(RunEvent::Ended { ended }) = &line.run {
            crate::view::know_end(self.run(&host, suite.clone()), ended);
        }
        let trouble = match line.run {
            Some(RunEvent::Failed { error }) => Some(error),
            Some(RunEvent::Ended { ended }) if ended.stopped => {
                Some("the run was stopped before its end".into())
            }
            _ => line.error.map(|error| format!("{}: {error}", line.doing.unwrap_or_default())),
        };
        if let Some(trouble) = trouble {
            self.run(&host, suite).troubles.push(format!("{trouble} ({})", file.name));
        }
    }

    /// The run of a suite on a host. One whose suite is not known yet becomes the first that is.
    fn run(&mut self, host: &str, suite: Option<String>) -> &mut HostRun {
        let runs = &mut self.report.runs;
        let is = |run: &HostRun| {
            run.host == host && (run.suite == suite || run.suite.is_none() || suite.is_none())
        };
        let index = runs.iter().position(is).unwrap_or_else(|| {
            runs.push(HostRun::new(host));
            runs.len() - 1
        });
        if runs[index].suite.is_none() {
            runs[index].suite = suite;
        }
        &mut runs[index]
    }

    /// Notes parts of suites that no file tells of. Returns the places of the runs that lack them: where it is not known
    /// which host that is, a part stands for the host that it should have been run on.
    fn lost_parts(&mut self) -> BTreeSet<usize> {
        let mut lacking = BTreeSet::new();
        for lost in self.report.lost_parts() {
            let runs = &mut self.report.runs;
            let place = lost.run.unwrap_or_else(|| {
                runs.push(HostRun::new(lost.name));
                runs.len() - 1
            });
            runs[place].troubles.push(lost.trouble.clone());
            self.notes.push(lost.trouble);
            lacking.insert(place);
        }
        lacking
    }

    /// Says what is lost or twofold, and what all of it comes to.
    fn conclude(mut self, view: &View) -> (Report, Vec<HostOutcome>) {
        for name in self.hosts.keys().cloned().collect::<Vec<_>>() {
            self.run(&name, None);
        }
        let lacking = self.lost_parts();
        let mut outcomes: Vec<HostOutcome> = Vec::new();
        for (place, run) in self.report.runs.iter_mut().enumerate() {
            let known = self.hosts.remove(&run.host).unwrap_or_default();
            let mut statuses = known.statuses;
            if lacking.contains(&place) {
                statuses.push(Status::Operation);
            }
            for file in &known.unfinished {
                run.troubles.push(format!("{file} does not tell the run's end"));
                statuses.push(Status::Operation);
            }
            let lost: Vec<String> = run.lost().into_iter().map(str::to_owned).collect();
            if !lost.is_empty() {
                self.notes.push(format!("{}: no file has the verdict of {}", run.host, lost.join(", ")));
                statuses.push(Status::Operation);
            }
            let summary = run.summary();
            if !summary.results.is_empty() {
                statuses.push(Status::of_number(toril_runner::exit_status(&summary)));
            }
            if run.suite.is_none() && statuses.iter().all(|status| *status == Status::Fine) {
                statuses.push(Status::Setup);
            }
            run.close(matches!(Status::worst(statuses.iter().copied()), Status::Fine | Status::Drift));
            outcomes.push(HostOutcome {
                host: run.host.clone(),
                tests: run.suite.is_some().then_some(summary),
                problem: known.problem.or_else(|| run.troubles.first().cloned()),
                statuses,
                time: known.time,
                ..HostOutcome::default()
            });
        }
        for note in &self.notes {
            view.show(None, &Shown::Note { text: note });
        }
        (self.report, outcomes)
    }
}

/// What is known in one file.
#[derive(Default)]
struct FileState<'n> {
    name: &'n str,
    hosts: Vec<String>,
    suites: BTreeMap<String, String>,
    finished: bool,
}

impl FileState<'_> {
    fn see(&mut self, host: &str) {
        if !self.hosts.iter().any(|known| known == host) {
            self.hosts.push(host.to_owned());
        }
    }
}
