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
    pub(super) turn: Option<Turn>,
}

impl Visit {
    pub(super) fn new(place: &Place) -> Visit {
        let outcome = HostOutcome { host: place.chosen.name.clone(), ..HostOutcome::default() };
        let (start, part) = (Instant::now(), place.part);
        Visit { outcome, start, client: None, jobs: Vec::new(), changes: false, part, turn: None }
    }

    pub(super) fn fail(&mut self, view: &View, doing: &str, trouble: &Trouble, status: Status) {
        fail(view, &mut self.outcome, doing, trouble, status);
        if let (Some(part), Some(problem)) = (self.part, &mut self.outcome.problem) {
            problem.push_str(&format!("; part {part} of the suite ran nowhere"));
        }
        self.jobs.clear();
    }
}
