//! Reports: what happens, gathered, and written to the files that the user has named.

use std::env;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use toril_machine::Facts;
use toril_provisioner::{Check, CheckState, Event as ProvisionEvent};
use toril_runner::report::{Format, HostRun, Report, annotations};

use super::place::{self, Place};
use super::{HostOutcome, Shown, is_gone, json};
use crate::agent::{Ended, RunEvent};
use crate::exit::Status;

/// A report that is wished, such as `junit=report.xml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportChoice {
    kind: Kind,
    to: To,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The events themselves, as they come.
    Json,
    /// Annotations, and the summary of a step.
    Github,
    Of(Format),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum To {
    StandardOutput,
    File(PathBuf),
}

impl ReportChoice {
    /// Reads `FORMAT=FILE`; a file named `-` is standard output.
    pub(crate) fn parse(text: &str) -> Result<ReportChoice, String> {
        let (name, file) = match text.split_once('=') {
            Some((name, file)) => (name, Some(file)),
            None => (text, None),
        };
        let format = Format::ALL.into_iter().find(|format| format.name() == name);
        let kind = match (name, format) {
            ("json", _) => Kind::Json,
            ("github", _) => Kind::Github,
            (_, Some(format)) => Kind::Of(format),
            _ => {
                let names: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
                return Err(format!(
                    "no format is called `{name}`; there are {}, json and github",
                    names.join(", ")
                ));
            }
        };
        let to = match (kind, file) {
            (Kind::Github, None) => To::StandardOutput,
            (Kind::Github, Some(_)) => {
                return Err("`github` has no file: it prints, and adds to $GITHUB_STEP_SUMMARY".into());
            }
            (_, None | Some("")) => {
                return Err(format!("say where: `{name}=FILE`, or `{name}=-` to print it"));
            }
            (_, Some("-")) => To::StandardOutput,
            (_, Some(file)) => To::File(file.into()),
        };
        Ok(ReportChoice { kind, to })
    }

    /// With its file seen from a directory.
    pub(crate) fn below(self, directory: &Path) -> ReportChoice {
        let to = match self.to {
            To::File(path) => To::File(directory.join(path)),
            To::StandardOutput => To::StandardOutput,
        };
        ReportChoice { to, ..self }
    }

    /// Whether nothing else may be printed on standard output.
    fn has_standard_output(&self) -> bool {
        self.to == To::StandardOutput && self.kind != Kind::Github
    }
}

impl fmt::Display for ReportChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::Json => "json",
            Kind::Github => return f.write_str("github"),
            Kind::Of(format) => format.name(),
        };
        match &self.to {
            To::StandardOutput => write!(f, "{name}=-"),
            To::File(path) => write!(f, "{name}={}", path.display()),
        }
    }
}

/// The reports of one call.
#[derive(Default)]
pub(crate) struct Reports {
    choices: Vec<ReportChoice>,
    report: Report,
    events: Vec<(PathBuf, json::Json<File>)>,
    /// Where the others go that are files.
    places: Vec<(PathBuf, Place)>,
    /// Whether the view prints JSON events on standard output.
    json: bool,
}

impl Reports {
    /// Begins reports on these hosts: from now on every file says that the run did not come to its end, until it has.
    pub(crate) fn begin(choices: Vec<ReportChoice>, hosts: &[String], json: bool) -> Result<Reports, String> {
        let printed = choices.iter().filter(|choice| choice.has_standard_output()).count();
        if printed + usize::from(json) > 1 {
            return Err("only one of the reports and --json can be printed; give the others a file".into());
        }
        let mut reports = Reports { choices, json, ..Reports::default() };
        for (index, choice) in reports.choices.iter().enumerate() {
            if let To::File(path) = &choice.to
                && let Some(directory) = place::whole(path).parent()
                && !directory.is_dir()
            {
                return Err(format!(
                    "cannot write {choice}: {} is no directory; make it first",
                    directory.display()
                ));
            }
            if matches!(choice.to, To::File(_))
                && reports.choices[..index].iter().any(|other| other.to == choice.to)
            {
                return Err(format!("two reports go to the same file: {choice}"));
            }
        }
        let version = ("toril".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        reports.report.properties.push(version);
        reports.report.runs = hosts.iter().map(HostRun::new).collect();
        for choice in &reports.choices {
            let To::File(path) = &choice.to else { continue };
            let failed = |error: io::Error| format!("cannot write {choice}: {error}");
            match choice.kind {
                Kind::Json => {
                    let file = File::create(path).map_err(failed)?;
                    reports.events.push((path.clone(), json::Json::new(file)));
                }
                _ => reports.places.push((path.clone(), Place::find(path).map_err(failed)?)),
            }
        }
        // What is read as it is written is read but once, and has only the end.
        let replaced = |choice: &&ReportChoice| {
            reports.place(choice).is_some_and(|place| matches!(place, Place::File(_)))
        };
        match reports.write(replaced).into_iter().next() {
            Some(error) => Err(error),
            None => Ok(reports),
        }
    }

    /// Whether one of them has standard output for itself.
    pub(super) fn take_standard_output(&self) -> bool {
        self.choices.iter().any(ReportChoice::has_standard_output)
    }

    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        !self.choices.is_empty()
    }

    /// Takes what happened.
    pub(super) fn take(&mut self, host: Option<&str>, shown: &Shown<'_>) {
        if !self.any() {
            return;
        }
        self.events.iter_mut().for_each(|(_, json)| json.show(host, shown));
        match shown {
            Shown::Choices { recipe, suite, .. } => {
                let recipe = recipe.map(|choice| ("recipe".to_owned(), choice.name.clone()));
                self.report.properties.extend(recipe);
                self.report.suite_file =
                    suite.filter(|choice| choice.origin != "built-in").map(|s| from_here(&s.origin));
            }
            Shown::Facts { facts } => know(self.run(host), facts),
            Shown::Checks { checks, .. } => self.run(host).troubles.extend(unfit(checks)),
            Shown::Problem { doing, error, .. } => self.run(host).troubles.push(format!("{doing}: {error}")),
            Shown::Run { run } => self.event(host, run),
            _ => {}
        }
    }

    fn event(&mut self, host: Option<&str>, event: &RunEvent) {
        let run = self.run(host);
        match event {
            RunEvent::Test { event } => drop(run.take(event)),
            RunEvent::Provision { event: ProvisionEvent::Failed { resource, error } } => {
                run.troubles.push(format!("{resource}: {error}"));
            }
            RunEvent::Failed { error } => run.troubles.push(error.clone()),
            RunEvent::Ended { ended } => {
                know_end(run, ended);
                if ended.stopped {
                    run.troubles.push("the run was stopped before its end, as was asked".into());
                }
            }
            _ => {}
        }
    }

    fn run(&mut self, host: Option<&str>) -> &mut HostRun {
        let host = host.unwrap_or("this machine");
        let runs = &mut self.report.runs;
        let index = runs.iter().position(|run| run.host == host).unwrap_or_else(|| {
            runs.push(HostRun::new(host));
            runs.len() - 1
        });
        &mut runs[index]
    }

    /// Adds a line to those that are events.
    pub(super) fn copy_event(&mut self, line: &[u8]) {
        self.events.iter_mut().for_each(|(_, json)| json.raw(line));
    }

    /// Reports on runs that were put together, instead of what was taken.
    pub(crate) fn replace(&mut self, report: Report) {
        let properties = std::mem::take(&mut self.report.properties);
        self.report = report;
        for (name, value) in properties {
            if !self.report.properties.iter().any(|(known, _)| *known == name) {
                self.report.properties.push((name, value));
            }
        }
    }

    /// Notes how everything ended, and writes what is a file. Returns what could not be written, and the status with that.
    pub(super) fn finish(&mut self, outcomes: &[HostOutcome], status: Status) -> (Vec<String>, Status) {
        for outcome in outcomes {
            let fine = matches!(outcome.status(), Status::Fine | Status::Drift);
            let ended = outcome.tests.is_some() || !outcome.statuses.is_empty();
            for run in
                self.report.runs.iter_mut().filter(|run| run.host == outcome.host && !run.complete && ended)
            {
                run.close(fine);
            }
        }
        let mut errors = self.write(|choice| matches!(choice.to, To::File(_)));
        if self.choices.iter().any(|choice| choice.kind == Kind::Github) {
            errors.extend(self.step_summary().err());
        }
        let with = |errors: &[String]| match errors {
            [] => status,
            _ => Status::worst([status, Status::Operation]),
        };
        // They tell the status, so they are the last.
        let known = with(&errors);
        for (path, json) in &mut self.events {
            json.finish(outcomes, known);
            if let Some(error) = json.failure() {
                errors.push(format!("cannot write {}: {error}", path.display()));
            }
        }
        let status = with(&errors);
        (errors, status)
    }

    /// Writes files that say that nothing is known of the end.
    pub(super) fn leave(&self) {
        // Whoever leaves at once does not wait to hear what could not be written.
        drop(self.write(|choice| matches!(choice.to, To::File(_))));
    }

    /// Prints what is to be printed.
    pub(super) fn print(&self) -> Vec<String> {
        self.write(|choice| choice.to == To::StandardOutput)
    }

    fn write(&self, wanted: impl Fn(&&ReportChoice) -> bool) -> Vec<String> {
        let write = |choice: &ReportChoice| match (choice.kind, &choice.to) {
            (Kind::Json, _) => Ok(()),
            (Kind::Github, _) => self.annotate(),
            (Kind::Of(format), to) => {
                let text = format.render(&self.report).map_err(|error| error.to_string())?;
                match (to, self.place(choice)) {
                    (To::File(_), Some(place)) => place.write(&text),
                    _ => print(io::stdout(), &text),
                }
            }
        };
        self.choices.iter().filter(wanted).filter_map(|choice| write(choice).err()).collect()
    }

    fn place(&self, choice: &ReportChoice) -> Option<&Place> {
        let To::File(path) = &choice.to else { return None };
        self.places.iter().find(|(of, _)| of == path).map(|(_, place)| place)
    }

    /// GitHub reads commands from both outputs.
    fn annotate(&self) -> Result<(), String> {
        let text = annotations(&self.report);
        match self.json || self.take_standard_output() {
            true => print(io::stderr(), &text),
            false => print(io::stdout(), &text),
        }
    }

    fn step_summary(&self) -> Result<(), String> {
        let Some(path) = env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else {
            return Ok(());
        };
        let text = Format::Markdown.render(&self.report).map_err(|error| error.to_string())?;
        let append = || OpenOptions::new().append(true).create(true).open(&path)?.write_all(text.as_bytes());
        append().map_err(|error| format!("cannot add to {}: {error}", Path::new(&path).display()))
    }
}

/// A file as it is seen from here, which is how GitHub knows it.
fn from_here(path: &str) -> String {
    let here = env::current_dir().unwrap_or_default();
    Path::new(path).strip_prefix(here).unwrap_or(Path::new(path)).to_string_lossy().into_owned()
}

fn print(mut to: impl Write, text: &str) -> Result<(), String> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if !is_gone(&error) => Err(format!("cannot print the report: {error}")),
        _ => Ok(()),
    }
}

/// What keeps a host from doing the job at all.
pub(crate) fn unfit(checks: &[Check]) -> impl Iterator<Item = String> {
    let bad = checks.iter().filter(|check| check.state == CheckState::Bad);
    bad.map(|check| format!("the host cannot do the job: {}: {}", check.name, check.what))
}

/// What the end of a run tells of its host.
pub(crate) fn know_end(run: &mut HostRun, ended: &Ended) {
    if let Some(print) = &ended.fingerprint {
        run.know_fingerprint(
            &print.id(),
            print.0.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        );
    }
}

/// What of a host can move a test's result.
pub(crate) fn know(run: &mut HostRun, facts: &Facts) {
    run.know("os", &format!("{} {}", facts.os, facts.version));
    run.know("kernel", &facts.kernel);
    run.know("cpu", &facts.cpu_model);
    run.know("cpus", &facts.cpus.to_string());
    for (name, value) in [
        ("microcode", &facts.microcode),
        ("virtualization", &facts.virtualization),
        ("container", &facts.container),
    ] {
        if let Some(value) = value {
            run.know(name, value);
        }
    }
    run.know("itself a guest", if facts.guest { "yes" } else { "no" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_is_shown() {
        for text in ["junit=a/b.xml", "tap=-", "markdown=x=y.md", "json=events.jsonl", "github"] {
            assert_eq!(ReportChoice::parse(text).unwrap().to_string(), text);
        }
        for (text, expected) in [
            ("xml=a", "no format is called `xml`"),
            ("junit", "say where: `junit=FILE`"),
            ("tap=", "say where: `tap=FILE`"),
            ("github=a", "`github` has no file"),
        ] {
            let error = ReportChoice::parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn what_is_printed_is_one_thing() {
        let choices = |texts: &[&str]| texts.iter().map(|text| ReportChoice::parse(text).unwrap()).collect();
        assert!(Reports::begin(choices(&["tap=-", "junit=-"]), &[], false).is_err());
        assert!(Reports::begin(choices(&["tap=-"]), &[], true).is_err());
        assert!(Reports::begin(choices(&["tap=-", "github"]), &[], false).is_ok());
        assert!(Reports::begin(choices(&["tap=/nonexistent/a"]), &[], false).is_err());
    }
}
