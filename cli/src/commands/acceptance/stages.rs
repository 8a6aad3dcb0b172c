use std::collections::BTreeSet;
use std::time::Duration;

use toril_inventory::{Chosen, Host, Target};
use toril_provisioner::{Bundle, Depth, Event, Finding, ItemState, Plan, Recipe, Traces};
use toril_runner::{Accelerator, Control};
use toril_transport::{Delivery, Sudo};

use super::promises;
use super::record::{
    ConnectionRecord, DriftRecord, Output, ReadOnly, Record, Run, Stage, StageOutcome, TimedEvent,
};
use super::redact::Redaction;
use crate::agent::{Ended, Job, Order, RunEvent, TestJob, Tests};
use crate::client::{Client, ClientError, Parcels, Told, Trouble, Way};
use crate::commands::choices::ChosenSuite;
use crate::commands::recipe::drift::{self, Drift};
use crate::commands::work::{conclude, confirmed, policy};
use crate::commands::{problem, reach, sandbox};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{HostOutcome, Shown, View};

/// Versions of these tell what a release is, beside those of the packages that the recipe names.
const PACKAGES: [&str; 12] = [
    "apt",
    "debian-archive-keyring",
    "dpkg",
    "libc6",
    "openssh-server",
    "python3",
    "qemu-system-x86",
    "socat",
    "sudo",
    "systemd",
    "udev",
    "virtiofsd",
];

/// Kinds of which one is broken on purpose where that is wanted: text is appended to a file of toril's own, which nothing
/// reads before an apply mends it.
const HARMLESS: [&str; 3] = ["file", "udev-rule", "kernel-module"];

/// How many are broken at most.
const BREAK: usize = 2;

/// How long to wait before a new process is looked for again.
const PAUSE: Duration = Duration::from_secs(3);

/// What is asked for.
pub(super) struct Task {
    pub(super) chosen: Chosen,
    pub(super) bundle: Bundle,
    pub(super) suite: ChosenSuite,
    pub(super) filter: Vec<String>,
    pub(super) control: Control,
    pub(super) accelerator: Option<Accelerator>,
    pub(super) wait: Duration,
    pub(super) read_only: bool,
    pub(super) yes: bool,
    pub(super) inject_drift: bool,
}

/// Why nothing comes after a stage.
enum End {
    Failed(&'static str, Trouble, Status),
    Interrupted,
    /// It was not to be.
    Chosen(&'static str),
    Declined,
}

impl End {
    fn client(doing: &'static str, error: &ClientError) -> End {
        End::Failed(doing, Trouble::from(error), error.status())
    }
}

/// An acceptance on its way.
pub(super) struct Acceptance<'a> {
    task: Task,
    way: Way,
    view: &'a View,
    interrupts: &'a Interrupts,
    output: &'a Output,
    record: Record,
    host: Option<Host>,
    statuses: Vec<Status>,
}

impl<'a> Acceptance<'a> {
    pub(super) fn new(
        task: Task,
        way: Way,
        view: &'a View,
        interrupts: &'a Interrupts,
        output: &'a Output,
        record: Record,
    ) -> Acceptance<'a> {
        Acceptance { task, way, view, interrupts, output, record, host: None, statuses: Vec::new() }
    }

    /// Goes through the stages, as far as it can, and writes the file after each.
    pub(super) async fn carry_out(mut self) -> (Record, Status) {
        let end = self.stages().await;
        let why = match &end {
            Ok(()) => None,
            Err(End::Failed(doing, trouble, _)) => Some(format!("{doing} failed: {}", trouble.error)),
            Err(End::Interrupted) => Some("it was interrupted before".to_owned()),
            Err(End::Chosen(why)) => Some((*why).to_owned()),
            Err(End::Declined) => Some("the changes were not confirmed".to_owned()),
        };
        if let Err(End::Failed(doing, trouble, status)) = &end {
            problem(self.view, Some(&self.task.chosen.name), doing, trouble);
            self.statuses.push(*status);
        }
        if matches!(end, Err(End::Interrupted | End::Declined)) {
            self.statuses.push(Status::Operation);
        }
        let missing = Stage::ALL.into_iter().filter(|stage| self.record.outcome(*stage).is_none());
        for stage in missing.collect::<Vec<_>>() {
            let why = match stage {
                Stage::Drift if !self.task.inject_drift => "--inject-drift was not given".to_owned(),
                _ => why.clone().unwrap_or_default(),
            };
            self.record.end(stage, StageOutcome::NotTried { why });
        }
        self.record.complete = matches!(end, Ok(()) | Err(End::Chosen(_) | End::Declined));
        self.save();
        let status = Status::worst(self.statuses.iter().copied());
        (self.record, status)
    }

    async fn stages(&mut self) -> Result<(), End> {
        let mut client = self.stage(Stage::Connect, async |this| this.connect().await).await?;
        let result = self.on_host(&mut client).await;
        let closed = client.close().await;
        result?;
        closed.map_err(|error| End::client("ending the connection", &error))
    }

    async fn on_host(&mut self, client: &mut Client) -> Result<(), End> {
        // Traces come first: asking for facts is looking, too.
        let before = self.stage(Stage::Facts, async |this| this.facts(client).await).await?;
        self.stage(Stage::ReadOnly, async |this| this.look(client, &before).await).await?;
        if self.task.read_only {
            return Err(End::Chosen("--read-only was given"));
        }
        let is_sandbox = self.host.as_ref().is_some_and(|host| host.sandbox);
        let changes = self.record.plan.as_ref().is_some_and(Plan::may_change);
        if changes
            && !self.task.yes
            && !is_sandbox
            && !confirmed(&self.task.chosen.name, false, self.view, self.interrupts)
        {
            return Err(End::Declined);
        }
        self.stage(Stage::Apply, async |this| this.apply(client, Stage::Apply).await).await?;
        self.stage(Stage::Check, async |this| this.check(client).await).await?;
        // As `up` has it: what is tested on half a host tells nothing.
        let is_done = |stage| self.record.outcome(stage) == Some(&StageOutcome::Done);
        if !is_done(Stage::Apply) || !is_done(Stage::Check) {
            return Err(End::Chosen("the host is not as the recipe says"));
        }
        self.stage(Stage::ApplyAgain, async |this| this.apply_again(client).await).await?;
        self.stage(Stage::Test, async |this| this.test(client).await).await?;
        if self.task.inject_drift {
            self.stage(Stage::Drift, async |this| this.drift(client).await).await?;
        }
        Ok(())
    }

    /// One stage: what came of it is on record, and in the file, before the next one begins.
    async fn stage<T>(
        &mut self,
        stage: Stage,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, End>,
    ) -> Result<T, End> {
        self.record.begin();
        let failures = self.statuses.len();
        let result = work(self).await;
        let outcome = match &result {
            Ok(_) if self.statuses.len() == failures => StageOutcome::Done,
            Ok(_) => StageOutcome::Failed { why: promises::failure(&self.record, stage) },
            Err(End::Interrupted) => StageOutcome::Interrupted,
            Err(End::Failed(_, trouble, _)) => StageOutcome::Failed { why: trouble.error.clone() },
            Err(End::Chosen(why)) => StageOutcome::NotTried { why: (*why).to_owned() },
            Err(End::Declined) => StageOutcome::NotTried { why: "not confirmed".to_owned() },
        };
        self.record.end(stage, outcome);
        self.save();
        result
    }

    /// Writes what is known so far. That the file cannot be written any more is told, and ends nothing.
    fn save(&mut self) {
        self.record.promises = promises::judge(&self.record);
        let redaction = Redaction::of(self.host.as_ref(), self.record.facts.as_ref());
        let written = self
            .record
            .text(&redaction)
            .map_err(|error| error.to_string())
            .and_then(|text| self.output.write(&text).map_err(|error| error.to_string()));
        if let Err(error) = written {
            problem(self.view, None, "writing the file", &error.into());
            self.statuses.push(Status::Operation);
        }
    }

    /// Waits for something that only looks; an interrupt ends it at once.
    async fn looking<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, End> {
        self.view.show(Some(&self.task.chosen.name), &Shown::Step { text: doing });
        tokio::select! {
            biased;
            () = self.interrupts.first() => Err(End::Interrupted),
            result = work => result.map_err(|error| End::client(doing, &error)),
        }
    }

    async fn connect(&mut self) -> Result<Client, End> {
        let name = self.task.chosen.name.clone();
        let failed = |error: String| End::Failed("reaching the sandbox", error.into(), Status::Operation);
        let host = reach::host(&self.task.chosen, false, self.view).map_err(failed)?;
        if let Target::Sandbox(sandbox) = &self.task.chosen.target {
            let release =
                sandbox::existing(sandbox).map_err(failed)?.map(|sandbox| sandbox.release().to_owned());
            let release = release.and_then(|release| toril_sandbox::Release::parse(&release).ok());
            if release.is_some_and(|release| release.is_fixture) {
                self.record.host.imitation = Some(toril_sandbox::FIXTURE_LIMITS);
                let text = format!("this is {}", toril_sandbox::FIXTURE_LIMITS);
                self.view.show(Some(&name), &Shown::Note { text: &text });
            }
        }
        self.host = Some(host.clone());
        let (way, view) = (self.way.clone(), self.view);
        let client = self.looking("connecting", reach::connect(&host, &way, view)).await?;
        self.record.connection = client.connection().map(|(connection, delivery)| ConnectionRecord {
            transport: connection.transport,
            key_exchange: connection.key_exchange.clone(),
            host_key: connection
                .host_key
                .iter()
                .filter_map(|key| key.split(' ').next())
                .map(str::to_owned)
                .next(),
            server: connection.server.clone(),
            sudo_password: matches!(way.sudo, Sudo::Password(_)),
            uploaded: match delivery {
                Delivery::Uploaded { bytes, .. } => Some(*bytes),
                _ => None,
            },
        });
        Ok(client)
    }

    /// Returns the traces from before anything was asked.
    async fn facts(&mut self, client: &mut Client) -> Result<Traces, End> {
        let before = self.looking("noting what is there", client.traces()).await?;
        let facts = self.looking("asking for facts", client.facts()).await?;
        self.view.show(Some(&self.task.chosen.name), &Shown::Facts { facts: &facts });
        self.record.facts = Some(facts);
        Ok(before)
    }

    async fn look(&mut self, client: &mut Client, before: &Traces) -> Result<(), End> {
        let survey = self.survey(client).await;
        let plan = match &survey {
            Ok(_) => self.audited(client).await.map(Some),
            Err(_) => Ok(None),
        };
        // Also where the plan could not be made: it was looked all the same.
        let mut after = self.looking("comparing with what was there", client.traces()).await?;
        if !after.changes_since(before).is_empty() {
            // A process may just have been passing by.
            tokio::time::sleep(PAUSE).await;
            after = self.looking("comparing with what was there", client.traces()).await?;
        }
        let changes = after.changes_since(before);
        if !changes.is_empty() {
            self.statuses.push(Status::Operation);
        }
        self.record.read_only = Some(ReadOnly { compared: before.len(), changes });
        self.record.survey = Some(survey?);
        let Some((plan, findings)) = plan? else { return Ok(()) };
        self.view.show(Some(&self.task.chosen.name), &Shown::Plan { plan: &plan });
        if !findings.is_empty() {
            self.view
                .show(Some(&self.task.chosen.name), &Shown::Findings { findings: &findings, drift: false });
        }
        self.record.findings = findings;
        let is_hopeless = plan.counts().failed > 0 && !plan.may_change();
        self.record.plan = Some(plan);
        match is_hopeless {
            true => Err(End::Failed(
                "looking",
                "there are resources that this host cannot have, or that could not be looked at"
                    .to_owned()
                    .into(),
                Status::Operation,
            )),
            false => Ok(()),
        }
    }

    async fn survey(&mut self, client: &mut Client) -> Result<toril_provisioner::Survey, End> {
        let recipe = self.recipe()?;
        let described = recipe.describe();
        let named = described.iter().filter(|resource| resource.kind == "apt-packages");
        let named = named.flat_map(|resource| resource.strings("install"));
        let packages: BTreeSet<&str> = named.chain(PACKAGES).collect();
        let paths: BTreeSet<&String> = described.iter().flat_map(|resource| &resource.paths).collect();
        let packages = packages.into_iter().map(str::to_owned).collect();
        let paths = paths.into_iter().cloned().collect();
        self.looking("surveying packages, sources, modules and rules", client.survey(packages, paths)).await
    }

    /// The recipe as it is meant for this host.
    fn recipe(&self) -> Result<Recipe, End> {
        let failed = |error: String| End::Failed("reading the recipe", error.into(), Status::Operation);
        let (Some(facts), Some(host)) = (&self.record.facts, &self.host) else {
            return Err(failed("the host's facts are not known".to_owned()));
        };
        let recipe = Recipe::read(&self.task.bundle, facts, &reach::info(host));
        recipe.map_err(|problems| failed(problems.to_string()))
    }

    async fn plan(&self, client: &mut Client) -> Result<Plan, End> {
        self.planned(client, None).await.map(|(plan, _)| plan)
    }

    /// The plan, and what is wrong with the host beyond it.
    async fn audited(&self, client: &mut Client) -> Result<(Plan, Vec<Finding>), End> {
        self.planned(client, Some(Depth::All)).await
    }

    async fn planned(&self, client: &mut Client, audit: Option<Depth>) -> Result<(Plan, Vec<Finding>), End> {
        let Some(host) = &self.host else { return Err(End::Interrupted) };
        let plan = client.plan(self.task.bundle.clone(), reach::info(host), audit);
        self.looking("comparing with the recipe", plan).await
    }

    async fn apply(&mut self, client: &mut Client, stage: Stage) -> Result<Ended, End> {
        let Some(host) = &self.host else { return Err(End::Interrupted) };
        let job = Job::Apply { bundle: self.task.bundle.clone(), host: reach::info(host) };
        let ended = self.run(client, stage, job).await?;
        if ended.failed || ended.converged != Some(true) {
            self.statuses.push(Status::Operation);
        }
        Ok(ended)
    }

    async fn check(&mut self, client: &mut Client) -> Result<(), End> {
        let plan = self.plan(client).await?;
        self.view.show(Some(&self.task.chosen.name), &Shown::Plan { plan: &plan });
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

    async fn apply_again(&mut self, client: &mut Client) -> Result<(), End> {
        let ended = self.apply(client, Stage::ApplyAgain).await?;
        if ended.applied.is_some_and(|counts| counts.changed > 0) {
            self.statuses.push(Status::Operation);
        }
        Ok(())
    }

    async fn test(&mut self, client: &mut Client) -> Result<(), End> {
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
    async fn drift(&mut self, client: &mut Client) -> Result<(), End> {
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
        let order = Order { who: "toril acceptance".into(), wait: self.task.wait, jobs: vec![job] };
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
