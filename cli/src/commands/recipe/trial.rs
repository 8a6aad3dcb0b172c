//! `recipe test`: a recipe carried out on a throwaway host of each of its releases, carried out again, broken, named,
//! mended.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use toril_inventory::Host;
use toril_provisioner::{
    Bundle, Event, Item, ItemState, Plan, Recipe, Release, describe_releases, sample_facts,
};
use toril_sandbox::{Options, Sandboxes};

use super::drift::{self, Drift};
use super::look;
use crate::agent::{Job, Order, RunEvent};
use crate::arguments::{RecipeTest, Way};
use crate::client::{Client, Parcels, Told, Trouble, chain};
use crate::commands::hosts::block_on;
use crate::commands::sandbox::{self, MakeError};
use crate::commands::{UsageError, problem, reach};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{Choice, Fault, Shown, Trial, TrialOutcome, View};

/// How sandboxes of trials are called; the release and this process's number come after it.
const NAME: &str = "recipe-test-";

/// How long to try to reach a sandbox that answers.
const CONNECT: Duration = Duration::from_secs(30);

/// `toril recipe test`.
pub(super) fn test(arguments: &RecipeTest) -> Result<Status, UsageError> {
    let name = &arguments.recipe;
    let (bundle, recipe) = look::checked(name, arguments.vars.iter().cloned().collect())?;
    let releases = releases(&recipe, &arguments.release)?;
    let way = reach::way(&Way {
        inventory: None,
        ask_sudo_password: false,
        ssh_options: Vec::new(),
        transport: None,
        host_keys: Vec::new(),
        connect_timeout: CONNECT,
        standing: Some(Duration::ZERO),
        output: arguments.output.clone(),
    })?;
    let view = View::new(&arguments.output);
    let choice = Choice {
        name: name.clone(),
        origin: toril_recipes::find(name).map_or_else(|| "a file".into(), |_| "built-in".into()),
        chosen: "the command line".into(),
        description: recipe.description,
    };
    let hosts: Vec<String> = releases.iter().map(ToString::to_string).collect();
    view.show(None, &Shown::Choices { recipe: Some(&choice), suite: None, hosts: &hosts });
    sweep(&view);
    let trials = block_on(&view, async |interrupts: Interrupts| {
        let mut trials = Vec::new();
        for release in releases {
            let sources = arguments.sources.iter().find(|(of, _)| *of == release);
            let label = match sources.is_none() && is_fixture(release) {
                true => format!("{release} (fixture)"),
                false => release.to_string(),
            };
            let attempt = Attempt {
                bundle: &bundle,
                release,
                sources: sources.map(|(_, path)| path.as_path()),
                view: &view,
                interrupts: &interrupts,
                trial: Trial::new(&label),
                label,
            };
            let trial = attempt.run(&way).await;
            let stop = trial.outcome == TrialOutcome::Stopped;
            trials.push(trial);
            if stop {
                break;
            }
        }
        trials
    })?;
    view.show(None, &Shown::RecipeTest { recipe: name, trials: &trials });
    let status = status(&trials);
    Ok(view.finish(&[], status))
}

/// Whether a release is tried on an imitation, where no sources say where it is.
fn is_fixture(release: Release) -> bool {
    toril_sandbox::Release::parse(release.version).is_ok_and(|release| release.or_fixture().is_fixture)
}

/// Those that were asked for, else all that the recipe supports.
fn releases(recipe: &Recipe, wanted: &[Release]) -> Result<Vec<Release>, UsageError> {
    let supports = &recipe.supports;
    match wanted.iter().find(|release| !supports.contains(release)) {
        Some(other) => Err(UsageError::Other(format!(
            "the recipe is not for {other}: it supports {}",
            describe_releases(supports)
        ))),
        None if wanted.is_empty() => Ok(supports.clone()),
        None => Ok(wanted.to_vec()),
    }
}

fn status(trials: &[Trial]) -> Status {
    if trials.iter().all(|trial| trial.outcome == TrialOutcome::Skipped) {
        return Status::Setup;
    }
    Status::worst(trials.iter().map(|trial| match trial.outcome {
        TrialOutcome::Passed | TrialOutcome::Skipped => Status::Fine,
        TrialOutcome::Failed => Status::Tests,
        TrialOutcome::Error | TrialOutcome::Stopped => Status::Operation,
    }))
}

/// Takes away what killed trials left.
fn sweep(view: &View) {
    let result = Sandboxes::system().and_then(|sandboxes| {
        for left in sandboxes.list()? {
            let process = left.name().strip_prefix(NAME).and_then(|rest| rest.rsplit('-').next());
            if process.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                sandboxes.down(left.name())?;
            }
        }
        Ok(())
    });
    // Making the sandboxes fails for the same reason, with better words.
    if let Err(error) = result {
        view.show(None, &Shown::Note { text: &format!("looking for old sandboxes: {}", chain(&error)) });
    }
}

/// A sandbox that is gone with this guard.
struct Guard<'v> {
    name: String,
    view: &'v View,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let down = Sandboxes::system().and_then(|sandboxes| sandboxes.down(&self.name));
        // Who may not remove one has not made one.
        if let Err(error) = down.or_else(|error| match error {
            toril_sandbox::Error::NeedsRoot { .. } => Ok(false),
            error => Err(error),
        }) {
            problem(self.view, None, "removing the sandbox", &chain(&error).into());
        }
    }
}

/// Why a trial did not come to its end.
enum End {
    /// The recipe is at fault: these resources.
    Red,
    Cannot(MakeError),
    Trouble(&'static str, Trouble),
    Stopped,
}

/// The trial of a recipe on one release.
struct Attempt<'t> {
    bundle: &'t Bundle,
    release: Release,
    /// Where its Debian comes from, if not from where this machine's does.
    sources: Option<&'t Path>,
    view: &'t View,
    interrupts: &'t Interrupts,
    label: String,
    trial: Trial,
}

impl Attempt<'_> {
    async fn run(mut self, way: &crate::client::Way) -> Trial {
        let start = Instant::now();
        let end = self.carry_out(way).await;
        self.trial.time = start.elapsed();
        let (outcome, reason) = match end {
            Ok(()) => (TrialOutcome::Passed, String::new()),
            Err(End::Red) => (TrialOutcome::Failed, String::new()),
            Err(End::Stopped) => (TrialOutcome::Stopped, "stopped before its end, as was asked".to_owned()),
            Err(End::Cannot(error)) if error.is_not_possible_here() => {
                (TrialOutcome::Skipped, error.to_string())
            }
            Err(End::Cannot(error)) => {
                problem(self.view, Some(&self.label), "making the sandbox", &error.to_string().into());
                (TrialOutcome::Error, "its sandbox could not be made".to_owned())
            }
            Err(End::Trouble(doing, trouble)) => {
                problem(self.view, Some(&self.label), doing, &trouble);
                (TrialOutcome::Error, format!("{doing} failed"))
            }
        };
        self.trial.outcome = outcome;
        self.trial.reason = reason;
        self.trial
    }

    async fn carry_out(&mut self, way: &crate::client::Way) -> Result<(), End> {
        tokio::select! {
            biased;
            () = self.interrupts.first() => return Err(End::Stopped),
            () = std::future::ready(()) => {}
        }
        let wanted = toril_sandbox::Release::parse(self.release.version)
            .map_err(|error| End::Cannot(MakeError::Sandbox(error)))?;
        let wanted = if self.sources.is_some() { wanted } else { wanted.or_fixture() };
        if wanted.is_fixture {
            let text = format!("this is {}", toril_sandbox::FIXTURE_LIMITS);
            self.view.show(Some(&self.label), &Shown::Note { text: &text });
        }
        let name = format!("{NAME}{}-{}", self.release.version, std::process::id());
        // Before it is made: a half-made one goes away as well.
        let _gone_at_the_end = Guard { name: name.clone(), view: self.view };
        let sources = self.sources.map(Path::to_path_buf);
        let options = Options { release: Some(wanted), sources, ..Options::default() };
        let sandbox = sandbox::make(&name, &self.label, &options, self.view).map_err(End::Cannot)?;
        let mut host = sandbox.host();
        host.name.clone_from(&self.label);
        let mut client = reach::connect(&host, way, self.view)
            .await
            .map_err(|error| End::Trouble("connecting", Trouble::from(&error)))?;
        let result = self.steps(&mut client, &host).await;
        let closed = client.close().await;
        result?;
        closed.map_err(|error| End::Trouble("ending the connection", Trouble::from(&error)))
    }

    async fn steps(&mut self, client: &mut Client, host: &Host) -> Result<(), End> {
        let before = self.plan(client, host).await?;
        self.trial.resources = before.items.len();
        let again = self.apply(client, host).await?;
        self.trial.converges = Some(self.trial.faults.is_empty());
        self.verdict()?;
        let after = self.plan(client, host).await?;
        match again.is_empty() {
            true => self.blame_what_is_left(&after, "would be changed again by a second apply"),
            false => self.trial.faults.extend(again),
        }
        self.trial.idempotent = Some(self.trial.faults.is_empty());
        self.verdict()?;

        let drifts = self.drifts(&after)?;
        let broken = drift::inject(host, &[], &drifts)
            .map_err(|error| End::Trouble("breaking the host", error.into()))?;
        self.trial.broken = broken.len();
        for Drift { resource, what, .. } in &broken {
            self.view.show(Some(&self.label), &Shown::Note { text: &format!("broke {resource}: {what}") });
        }

        let seen = self.plan(client, host).await?;
        let named: BTreeSet<&str> =
            seen.items.iter().filter(|item| drifted(item)).map(|item| item.resource.as_str()).collect();
        for drift in &broken {
            match named.contains(drift.resource.as_str()) {
                true => self.trial.named += 1,
                false => self.blame(&drift.resource, format!("`check` does not see it: {}", drift.what)),
            }
        }
        self.verdict()?;
        let again = self.apply(client, host).await?;
        self.trial.faults.extend(again);
        let mended = self.plan(client, host).await?;
        self.blame_what_is_left(&mended, "is not mended by an apply");
        let left: BTreeSet<&str> =
            mended.items.iter().filter(|item| drifted(item)).map(|item| item.resource.as_str()).collect();
        self.trial.mended = broken.iter().filter(|drift| !left.contains(drift.resource.as_str())).count();
        self.verdict()
    }

    /// What can be broken of what is as it should be.
    fn drifts(&self, plan: &Plan) -> Result<Vec<Drift>, End> {
        let facts = sample_facts(self.release);
        let recipe = Recipe::read(self.bundle, &facts, &crate::commands::choices::sample())
            .map_err(|problems| End::Trouble("reading the recipe", problems.to_string().into()))?;
        let here: BTreeSet<&str> = plan.items.iter().map(|item| item.resource.as_str()).collect();
        let described = recipe.describe();
        Ok(described.iter().filter(|d| here.contains(d.name.as_str())).filter_map(Drift::of).collect())
    }

    async fn plan(&self, client: &mut Client, host: &Host) -> Result<Plan, End> {
        self.view.show(Some(&self.label), &Shown::Step { text: "comparing with the recipe" });
        tokio::select! {
            biased;
            () = self.interrupts.first() => Err(End::Stopped),
            plan = client.plan(self.bundle.clone(), reach::info(host), None) => {
                plan.map(|(plan, _)| plan).map_err(|error| End::Trouble("plan", Trouble::from(&error)))
            }
        }
    }

    /// Carries the recipe out; who fails is to blame. Returns those that were changed and then were to change again.
    async fn apply(&mut self, client: &mut Client, host: &Host) -> Result<Vec<Fault>, End> {
        let job = Job::Apply { bundle: self.bundle.clone(), host: reach::info(host) };
        let order = Order { who: reach::who(), wait: Duration::ZERO, attended: false, jobs: vec![job] };
        let (mut faults, mut again) = (Vec::new(), Vec::new());
        let mut changed = BTreeSet::new();
        let mut failures = Vec::new();
        let mut tell = |told: Told| {
            match &told {
                Told::Run(RunEvent::Provision { event: Event::Failed { resource, error } }) => {
                    let fault = Fault { resource: resource.clone(), what: error.clone() };
                    if changed.contains(resource) { again.push(fault) } else { faults.push(fault) }
                }
                Told::Run(RunEvent::Provision { event: Event::Changed { resource, .. } }) => {
                    changed.insert(resource.clone());
                }
                Told::Run(RunEvent::Failed { error }) => failures.push(error.clone()),
                _ => {}
            }
            reach::show(self.view, &self.label, &told);
        };
        let ended = client.run(order, Parcels::default(), self.interrupts, &mut tell).await;
        let ended = ended.map_err(|error| End::Trouble("apply", Trouble::from(&error)))?;
        self.trial.faults.append(&mut faults);
        if ended.stopped {
            return Err(End::Stopped);
        }
        match failures.is_empty() {
            true => Ok(again),
            false => Err(End::Trouble("apply", failures.join("; ").into())),
        }
    }

    fn blame(&mut self, resource: &str, what: String) {
        self.trial.faults.push(Fault { resource: resource.to_owned(), what });
    }

    fn blame_what_is_left(&mut self, plan: &Plan, words: &str) {
        for item in &plan.items {
            let what = match &item.state {
                ItemState::Unreadable { reason } => format!("could not be looked at: {reason}"),
                ItemState::Impossible { reason, accepted: false, .. } => {
                    format!("not possible here: {reason}")
                }
                state if !state.changes().is_empty() => {
                    let changes = state.changes().iter();
                    let changes: Vec<String> =
                        changes.map(|c| format!("{}: {} → {}", c.what, c.before, c.after)).collect();
                    format!("{words}: {}", changes.join("; "))
                }
                _ => continue,
            };
            self.blame(&item.resource, what);
        }
    }

    /// The end, if somebody is to blame.
    fn verdict(&self) -> Result<(), End> {
        if self.trial.faults.is_empty() { Ok(()) } else { Err(End::Red) }
    }
}

fn drifted(item: &Item) -> bool {
    !item.state.changes().is_empty()
}
