//! What is done on the host, with all that it tells on record.

use std::collections::BTreeSet;

use toril_provisioner::{Event, ItemState, Plan};

use super::{Acceptance, End};
use crate::agent::{Ended, Job, Order, RunEvent, TestJob, Tests};
use crate::client::{Client, Parcels, Told};
use crate::commands::acceptance::record::{DriftRecord, Run, Stage, TimedEvent};
use crate::commands::reach;
use crate::commands::recipe::drift::{self, Drift};
use crate::commands::work::{conclude, policy};
use crate::exit::Status;
use crate::view::{HostOutcome, Shown};

/// Kinds of which one is broken on purpose where that is wanted: text is appended to a file of toril's own, which nothing
/// reads before an apply mends it.
const HARMLESS: [&str; 3] = ["file", "udev-rule", "kernel-module"];

/// How many are broken at most.
const BREAK: usize = 2;

impl Acceptance<'_> {
    pub(super) async fn apply(&mut self, client: &mut Client, stage: Stage) -> Result<Ended, End> {
        let Some(host) = &self.host else { return Err(End::Interrupted) };
        let job = Job::Apply { bundle: self.task.bundle.clone(), host: reach::info(host) };
        let ended = self.run(client, stage, job).await?;
        if ended.failed || ended.converged != Some(true) {
            self.statuses.push(Status::Operation);
        }
        Ok(ended)
    }

    pub(super) async fn check(&mut self, client: &mut Client) -> Result<(), End> {
        let plan = self.plan(client).await?;
        self.view.show(Some(&self.task.chosen.name), &Shown::Plan { plan: &plan, matters: true });
        let counts = plan.counts();
        if counts.failed > 0 {
            self.statuses.push(Status::Operation);
        } else if counts.drifted > 0 {
            self.statuses.push(Status::Drift);
        }
        self.record.check = Some(plan);
        self.record.survey_after = Some(self.survey(client).await?);
        Ok(())
    }

    pub(super) async fn apply_again(&mut self, client: &mut Client) -> Result<(), End> {
        let ended = self.apply(client, Stage::ApplyAgain).await?;
        if ended.applied.is_some_and(|counts| counts.changed > 0) {
            self.statuses.push(Status::Operation);
        }
        Ok(())
    }

    pub(super) async fn test(&mut self, client: &mut Client) -> Result<(), End> {
        let Some(host) = &self.host else { return Err(End::Interrupted) };
        let suite = &self.task.suite;
        let job = Job::Test(TestJob {
            suite: suite.document.clone(),
            tests: Tests::Suite { text: suite.text.clone(), vars: suite.vars.clone() },
            policy: policy(self.task.accelerator, host),
            filter: self.task.filter.clone(),
            control: self.task.control.clone(),
            live: false,
            keep: false,
            source: None,
        });
        let ended = self.run(client, Stage::Test, job).await?;
        let mut outcome = HostOutcome::default();
        conclude(&mut outcome, ended);
        self.statuses.extend(outcome.statuses.into_iter().filter(|status| *status != Status::Fine));
        Ok(())
    }

    /// Breaks little things, and sees that they are named and mended.
    pub(super) async fn drift(&mut self, client: &mut Client) -> Result<(), End> {
        let fine: BTreeSet<&str> = match &self.record.check {
            Some(plan) => satisfied(plan).collect(),
            None => BTreeSet::new(),
        };
        let described = self.recipe()?.describe();
        let harmless = described.iter().filter(|resource| HARMLESS.contains(&resource.kind));
        let drifts: Vec<Drift> = harmless
            .filter(|resource| fine.contains(resource.name.as_str()))
            .filter_map(Drift::of)
            .take(BREAK)
            .collect();
        if drifts.is_empty() {
            return Err(End::Chosen("the recipe keeps nothing here that can be broken without harm"));
        }
        let Some(host) = self.host.clone() else { return Err(End::Interrupted) };
        let broken = drift::inject(&host, &self.way.options.ssh_options, &drifts).map_err(|error| {
            let text = format!(
                "{error}: it takes a shell of root's by plain ssh, with sudo that asks for no password"
            );
            End::Failed("breaking the host on purpose", text.into(), Status::Operation)
        })?;
        for Drift { resource, what, .. } in &broken {
            self.view.show(
                Some(&self.task.chosen.name),
                &Shown::Note { text: &format!("broke {resource}: {what}") },
            );
        }
        let seen = self.plan(client).await?;
        let ended = self.apply(client, Stage::Drift).await?;
        let after = self.plan(client).await?;
        let names = |wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
            broken.iter().map(|drift| drift.resource.clone()).filter(|name| wanted(name)).collect()
        };
        let record = DriftRecord {
            broken: broken.iter().map(|drift| (drift.resource.clone(), drift.what.clone())).collect(),
            named: names(&|name| drifted(&seen).any(|other| other == name)),
            mended: names(&|name| {
                ended.converged == Some(true) && satisfied(&after).any(|other| other == name)
            }),
        };
        if record.broken.len() != drifts.len()
            || record.mended.len() != drifts.len()
            || record.named.len() != drifts.len()
        {
            self.statuses.push(Status::Operation);
        }
        self.record.drift = Some(record);
        Ok(())
    }

    /// A run on the host, with its events on record.
    async fn run(&mut self, client: &mut Client, stage: Stage, job: Job) -> Result<Ended, End> {
        let order = Order {
            who: "toril acceptance".into(),
            wait: self.task.wait,
            attended: self.task.attended,
            jobs: vec![job],
        };
        self.record.runs.push(Run { stage, events: Vec::new(), ended: None });
        let (view, name) = (self.view, self.task.chosen.name.clone());
        let record = &mut self.record;
        let mut tell = |told: Told| {
            reach::show(view, &name, &told);
            let milliseconds = record.elapsed();
            if let Told::Run(event) = told
                && let Some(run) = record.runs.last_mut()
                && is_worth_keeping(&event)
            {
                run.events.push(TimedEvent { milliseconds, event });
            }
        };
        let ended = client.run(order, Parcels::default(), self.interrupts, &mut tell).await;
        let ended = ended.map_err(|error| End::client(stage.words(), &error))?;
        if let Some(run) = self.record.runs.last_mut() {
            run.ended = Some(ended.clone());
        }
        if ended.stopped {
            return Err(End::Interrupted);
        }
        match failure_of(self.record.runs.last()) {
            Some(error) => Err(End::Failed(stage.words(), error.into(), Status::Operation)),
            None => Ok(ended),
        }
    }
}

/// Why a run's job could not be done at all.
fn failure_of(run: Option<&Run>) -> Option<String> {
    run?.events.iter().find_map(|timed| match &timed.event {
        RunEvent::Failed { error } => Some(error.clone()),
        _ => None,
    })
}

/// Not every line that apt prints; nor who else is at work on the host, nor what ends the run, which is on record.
fn is_worth_keeping(event: &RunEvent) -> bool {
    !matches!(
        event,
        RunEvent::Provision { event: Event::Progress { .. } }
            | RunEvent::Waiting { .. }
            | RunEvent::Ended { .. }
    )
}

fn satisfied(plan: &Plan) -> impl Iterator<Item = &str> {
    let satisfied = plan.items.iter().filter(|item| item.state == ItemState::Satisfied);
    satisfied.map(|item| item.resource.as_str())
}

fn drifted(plan: &Plan) -> impl Iterator<Item = &str> {
    plan.items.iter().filter(|item| !item.state.changes().is_empty()).map(|item| item.resource.as_str())
}
