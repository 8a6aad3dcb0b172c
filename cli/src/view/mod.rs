//! What the user sees. Work never prints: it tells what happens as [`Shown`], and a view makes lines of it.

mod acceptance;
mod failures;
mod footprint;
mod human;
mod json;
mod kept;
mod lines;
mod outcome;
mod place;
mod plan;
mod quiet;
mod report;
mod screen;
mod shown;
mod trial;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use acceptance::{OF_RECIPE, Promise, Verdict};
pub(crate) use outcome::HostOutcome;
pub(crate) use report::{ReportChoice, Reports, know, know_end, unfit};
pub(crate) use shown::{Choice, Shown};
pub(crate) use trial::{Fault, Trial, TrialOutcome};

use toril_runner::report::Report;

use crate::arguments::Output;
use crate::exit::Status;

/// Where happenings are shown; clones show in the same place.
#[derive(Clone)]
pub(crate) struct View(Arc<Mutex<Sinks>>);

struct Sinks {
    kind: Kind,
    reports: Reports,
}

enum Kind {
    Human(human::Human),
    Json(json::Json<io::Stdout>),
}

impl View {
    pub(crate) fn new(output: &Output) -> View {
        View::reporting(output, Reports::default())
    }

    /// A view that tells only what goes wrong.
    pub(crate) fn quiet() -> View {
        View::new(&Output { json: false, verbose: false, quiet: true })
    }

    /// A view that also reports.
    pub(crate) fn reporting(output: &Output, reports: Reports) -> View {
        let kind = match output.json {
            true => Kind::Json(json::Json::new(io::stdout())),
            false => {
                Kind::Human(human::Human::new(output.verbose, output.quiet, reports.take_standard_output()))
            }
        };
        let view = View(Arc::new(Mutex::new(Sinks { kind, reports })));
        if !output.json && !output.quiet && !io::stderr().is_terminal() {
            let sinks = Arc::downgrade(&view.0);
            thread::spawn(move || break_silence(&sinks));
        }
        view
    }

    /// Shows what happened on a host, or (with no host) on this machine.
    pub(crate) fn show(&self, host: Option<&str>, shown: &Shown<'_>) {
        let mut sinks = self.lock();
        sinks.reports.take(host, shown);
        sinks.kind.show(host, shown);
    }

    /// Notes for the reports alone what the user did not ask for.
    pub(crate) fn note(&self, host: &str, shown: &Shown<'_>) {
        self.lock().reports.take(Some(host), shown);
    }

    /// Whether there are reports, which should say what is known of hosts.
    pub(crate) fn reports(&self) -> bool {
        self.lock().reports.any()
    }

    /// Adds a line to reports that are JSON events.
    pub(crate) fn copy_event(&self, line: &[u8]) {
        self.lock().reports.copy_event(line);
    }

    /// Reports on these runs, and on no others.
    pub(crate) fn replace_report(&self, report: Report) {
        self.lock().reports.replace(report);
    }

    /// Shows how everything ended, and returns what to exit with: this status, unless what was to be told could not be.
    pub(crate) fn finish(&self, outcomes: &[HostOutcome], status: Status) -> Status {
        let mut sinks = self.lock();
        let Sinks { kind, reports } = &mut *sinks;
        let (errors, mut status) = reports.finish(outcomes, status);
        for error in errors {
            kind.show(None, &Shown::Problem { doing: "reporting", error: &error, remedy: None });
        }
        let mut lost = Vec::new();
        match kind {
            Kind::Human(human) => human.finish(outcomes, status),
            Kind::Json(json) => {
                json.finish(outcomes, status);
                let failure = json.failure().filter(|error| !is_gone(error));
                lost.extend(failure.map(|error| format!("cannot print the events: {error}")));
            }
        }
        // Below all else, and after it.
        lost.extend(reports.print());
        for error in lost {
            status = Status::worst([status, Status::Operation]);
            // Standard output is what cannot be had; there is nobody left to tell if this fails, too.
            let told = format!("error: reporting: {error}\nexit status {}\n", status.number());
            drop(io::stderr().write_all(told.as_bytes()));
        }
        status
    }

    /// Writes the reports of a run that is left before its end.
    pub(crate) fn leave(&self) {
        self.lock().reports.leave();
    }

    /// Draws no progress until the test that runs has ended: the terminal is its guest's.
    pub(crate) fn give_terminal(&self) {
        if let Kind::Human(human) = &mut self.lock().kind {
            human.screen.give();
        }
    }

    /// Shows a host, or this machine, no longer at the last step that was told.
    pub(crate) fn at_rest(&self, host: Option<&str>) {
        if let Kind::Human(human) = &mut self.lock().kind {
            human.screen.clear(host);
        }
    }

    /// Takes progress off the terminal while something else uses it, such as a question.
    pub(crate) fn suspend<T>(&self, other: impl FnOnce() -> T) -> T {
        match &self.lock().kind {
            Kind::Human(human) => human.screen.suspend(other),
            Kind::Json(_) => other(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sinks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind {
    fn show(&mut self, host: Option<&str>, shown: &Shown<'_>) {
        match self {
            Kind::Human(human) => human.show(host, shown),
            Kind::Json(json) => json.show(host, shown),
        }
    }
}

/// Says in a log now and then what is at work, as long as there is the view.
fn break_silence(sinks: &Weak<Mutex<Sinks>>) {
    while let Some(sinks) = sinks.upgrade() {
        if let Kind::Human(human) = &mut sinks.lock().unwrap_or_else(PoisonError::into_inner).kind {
            human.screen.break_silence(Instant::now());
        }
        drop(sinks);
        thread::sleep(Duration::from_secs(5));
    }
}

/// Whether the reader of an output went away, which is no problem of the run's.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
