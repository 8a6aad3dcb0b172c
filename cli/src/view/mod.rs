//! What the user sees. Work never prints: it tells what happens as [`Shown`], and a view makes lines of it.

mod human;
mod json;
mod outcome;
mod plan;
mod shown;
mod trial;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use outcome::HostOutcome;
pub(crate) use shown::{Choice, Shown};
pub(crate) use trial::{Fault, Trial, TrialOutcome};

use crate::arguments::Output;
use crate::exit::Status;

/// Where happenings are shown; clones show in the same place.
#[derive(Clone)]
pub(crate) struct View(Arc<Mutex<Kind>>);

enum Kind {
    Human(human::Human),
    Json(json::Json),
}

impl View {
    pub(crate) fn new(output: &Output) -> View {
        View(Arc::new(Mutex::new(match output.json {
            true => Kind::Json(json::Json::new()),
            false => Kind::Human(human::Human::new(output.verbose)),
        })))
    }

    /// Shows what happened on a host, or (with no host) on this machine.
    pub(crate) fn show(&self, host: Option<&str>, shown: &Shown<'_>) {
        match &mut *self.lock() {
            Kind::Human(human) => human.show(host, shown),
            Kind::Json(json) => json.show(host, shown),
        }
    }

    /// Shows how everything ended.
    pub(crate) fn finish(&self, outcomes: &[HostOutcome], status: Status) {
        match &mut *self.lock() {
            Kind::Human(human) => human.finish(outcomes, status),
            Kind::Json(json) => json.finish(outcomes, status),
        }
    }

    /// Takes progress off the terminal while something else uses it, such as a question.
    pub(crate) fn suspend<T>(&self, other: impl FnOnce() -> T) -> T {
        match &*self.lock() {
            Kind::Human(human) => human.suspend(other),
            Kind::Json(_) => other(),
        }
    }

    /// Whether questions may be asked.
    pub(crate) fn is_for_people(&self) -> bool {
        matches!(&*self.lock(), Kind::Human(_))
    }

    fn lock(&self) -> MutexGuard<'_, Kind> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
