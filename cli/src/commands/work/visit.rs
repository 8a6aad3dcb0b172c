use std::collections::BTreeMap;

use tokio::time::Instant;

use toril_inventory::{Chosen, Host};
use toril_provisioner::Bundle;
use toril_runner::Shard;

use super::Task;
use crate::agent::Job;
use crate::client::{Client, Trouble, Way};
use crate::commands::choices::both;
use crate::commands::fleet::Turn;
use crate::commands::{UsageError, fail};
use crate::exit::Status;
use crate::view::{HostOutcome, View};

/// A host, the way to it, and what the task means there.
pub(super) struct Place {
    pub(super) chosen: Chosen,
    pub(super) way: Way,
    /// The recipe with the host's own variables.
    pub(super) bundle: Option<Bundle>,
    /// The suite's variables there.
    pub(super) vars: BTreeMap<String, String>,
    /// Its part of the suite, if that is spread over the hosts.
    pub(super) part: Option<Shard>,
}

impl Place {
    pub(super) fn new(chosen: Chosen, way: Way, task: &Task) -> Result<Place, UsageError> {
        let bundle = task.recipe.as_ref().map(|recipe| recipe.of(&chosen)).transpose();
        let vars = task.suite.as_ref().map(|suite| suite.vars_of(&chosen)).transpose();
        let (bundle, vars) = both(bundle, vars)?;
        Ok(Place { chosen, way, bundle, vars: vars.unwrap_or_default(), part: None })
    }
}

/// How far what a host was to do has come, as far as that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// Nothing was begun.
    NotBegun,
    /// It was ordered, and its end was not heard of.
    Unknown,
    /// It ended too early.
    CutShort,
    Done,
}

/// A host on its way through the task.
pub(super) struct Visit {
    pub(super) outcome: HostOutcome,
    pub(super) start: Instant,
    pub(super) client: Option<(Host, Client)>,
    /// What is to be done once everybody has agreed.
    pub(super) jobs: Vec<Job>,
    /// Whether the plan changes the host.
    pub(super) changes: bool,
    /// Its part of the suite.
    pub(super) part: Option<Shard>,
    pub(super) course: Course,
    pub(super) turn: Option<Turn>,
}

impl Visit {
    pub(super) fn new(place: &Place) -> Visit {
        Visit::of(HostOutcome { host: place.chosen.name.clone(), ..HostOutcome::default() }, place.part)
    }

    fn of(outcome: HostOutcome, part: Option<Shard>) -> Visit {
        Visit {
            outcome,
            start: Instant::now(),
            client: None,
            jobs: Vec::new(),
            changes: false,
            part,
            course: Course::NotBegun,
            turn: None,
        }
    }

    pub(super) fn fail(&mut self, view: &View, doing: &str, trouble: &Trouble, status: Status) {
        fail(view, &mut self.outcome, doing, trouble, status);
        self.tell_part();
        self.jobs.clear();
    }

    /// Adds to the host's problem what that means for its part of the suite, which no other host runs.
    pub(super) fn tell_part(&mut self) {
        let (Some(part), Some(problem)) = (self.part, &mut self.outcome.problem) else { return };
        let host = &self.outcome.host;
        problem.push_str(&match self.course {
            Course::NotBegun => format!("; part {part} of the suite ran nowhere"),
            Course::Unknown => format!(
                "; what became of part {part} of the suite is not known here: `toril attach {host}` shows it"
            ),
            Course::CutShort => format!("; part {part} of the suite did not come to its end"),
            Course::Done => return,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_suite_ran_nowhere_only_where_nothing_was_begun() {
        let problem = |course, part: Option<&str>| {
            let outcome =
                HostOutcome { host: "h".into(), problem: Some("why".into()), ..HostOutcome::default() };
            let mut visit = Visit::of(outcome, part.map(|part| part.parse().unwrap()));
            visit.course = course;
            visit.tell_part();
            visit.outcome.problem.unwrap()
        };
        for (course, told) in [
            (Course::NotBegun, "why; part 2/3 of the suite ran nowhere"),
            (
                Course::Unknown,
                "why; what became of part 2/3 of the suite is not known here: `toril attach h` shows it",
            ),
            (Course::CutShort, "why; part 2/3 of the suite did not come to its end"),
            (Course::Done, "why"),
        ] {
            assert_eq!(problem(course, Some("2/3")), told);
            assert_eq!(problem(course, None), "why");
        }
    }
}
