//! `up`, `apply`, `check`, `test` and `facts`: the same way to a host, and then more or less of the work.

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use toril_inventory::{Chosen, Host, Reach, Target};
use toril_provisioner::{Bundle, CheckState, Depth, Plan};
use toril_runner::{Accelerator, AcceleratorPolicy, OwnKernel, Probe, Shard};

use super::choices::{Chooser, ChosenRecipe, ChosenSuite, both};
use super::fingerprint::{self, Earlier};
use super::fleet::{Fleet, Turn};
use super::hosts::{all, block_on};
use super::{UsageError, artifacts, doctor, finish, problem, reach, reboot};
use crate::agent::{Ended, Job, Order, TestJob, Tests};
use crate::arguments::{self, Reporting, Running};
use crate::client::{Client, ClientError, Parcels, Trouble, Way};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::source::Supply;
use crate::view::{HostOutcome, Shown, View};

/// What is to be done on every host.
#[derive(Default)]
struct Task {
    /// Whether sandboxes are made where they are not there.
    make: bool,
    facts: bool,
    fingerprint: bool,
    /// Fingerprints to compare with.
    against: Earlier,
    recipe: Option<ChosenRecipe>,
    /// Whether the recipe is carried out, or only compared.
    change: bool,
    /// Whether what is wrong beyond the recipe counts as drift, and is looked for more closely.
    strict: bool,
    /// Whether hosts are changed without asking.
    yes: bool,
    /// Whether hosts are rebooted where that is due, and how long they may take to come back.
    reboot: Option<Duration>,
    /// Whether guests are booted that show what hosts can do.
    verify: bool,
    /// When their own kernel is among these.
    own_kernel: OwnKernel,
    /// Whether it counts that something does not work, and what counts even where hosts of their kind cannot have it.
    required: Option<Vec<Probe>>,
    suite: Option<ChosenSuite>,
    /// The tree that is tested, if there is one.
    source: Option<Supply>,
    filter: Vec<String>,
    control: toril_runner::Control,
    /// Whether each host runs a part of the suite, and all together the whole.
    spread: bool,
    accelerator: Option<Accelerator>,
    /// Where artifacts go that are fetched.
    artifacts: Option<PathBuf>,
    /// How long to wait for another run to end.
    wait: Duration,
}

/// `toril up`.
pub(super) fn up(arguments: &arguments::Up) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let testing = testing(&chooser, &arguments.suite, &arguments.running);
    let (recipe, testing) = both(chooser.recipe(&arguments.recipe), testing)?;
    let task = Task {
        make: true,
        recipe: Some(recipe),
        change: true,
        yes: arguments.yes,
        reboot: rebooting(arguments.reboot),
        verify: testing.suite.as_ref().is_some_and(|suite| suite.has_guests),
        ..testing
    };
    let task = Task { artifacts: artifacts::directory(&arguments.fetching)?.map(Path::to_owned), ..task };
    work(&chooser, &arguments.hosts, Some(&arguments.reporting), task)
}

/// `toril apply`.
pub(super) fn apply(arguments: &arguments::Apply) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let task = Task {
        recipe: Some(chooser.recipe(&arguments.recipe)?),
        change: !arguments.dry_run,
        yes: arguments.yes,
        reboot: rebooting(arguments.reboot),
        wait: chooser.wait(&arguments.running),
        ..Task::default()
    };
    work(&chooser, &arguments.hosts, None, task)
}

/// `toril check`.
pub(super) fn check(arguments: &arguments::Check) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let recipe = chooser.recipe(&arguments.recipe)?;
    let task = Task {
        recipe: Some(recipe),
        strict: arguments.strict,
        verify: arguments.prove,
        required: Some(Vec::new()),
        wait: chooser.wait(&arguments.running),
        ..Task::default()
    };
    work(&chooser, &arguments.hosts, None, task)
}

/// `toril test`.
pub(super) fn test(arguments: &arguments::Test) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let testing = testing(&chooser, &arguments.suite, &arguments.running)?;
    let task = Task { spread: arguments.spread, ..testing };
    let task = Task { artifacts: artifacts::directory(&arguments.fetching)?.map(Path::to_owned), ..task };
    work(&chooser, &arguments.hosts, Some(&arguments.reporting), task)
}

/// `toril verify`.
pub(super) fn verify(arguments: &arguments::Verify) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let task = Task {
        verify: true,
        own_kernel: match arguments.require.contains(&Probe::HostKernel) {
            true => OwnKernel::Always,
            false => OwnKernel::UnderKvm,
        },
        required: Some(arguments.require.clone()),
        accelerator: chooser.accelerator(arguments.accelerator),
        wait: chooser.wait(&arguments.running),
        ..Task::default()
    };
    work(&chooser, &arguments.hosts, None, task)
}

/// `toril facts`.
pub(super) fn facts(arguments: &arguments::Facts) -> Result<Status, UsageError> {
    let against = arguments.against.as_deref().map(fingerprint::read).transpose()?;
    let fingerprint = arguments.fingerprint || against.is_some();
    let task = Task { facts: true, fingerprint, against: against.unwrap_or_default(), ..Task::default() };
    work(&Chooser::here()?, &arguments.hosts, None, task)
}

fn testing(chooser: &Chooser, suite: &arguments::SuiteChoice, running: &Running) -> Result<Task, UsageError> {
    Ok(Task {
        suite: Some(chooser.suite(suite)?),
        filter: suite.filter.clone(),
        control: suite.control.to_control(),
        accelerator: chooser.accelerator(suite.accelerator),
        wait: chooser.wait(running),
        ..Task::default()
    })
}

fn rebooting(arguments: arguments::Reboot) -> Option<Duration> {
    arguments.reboot.then_some(arguments.reboot_timeout)
}

/// TCG is for sandboxes; on another host somebody has to ask for it.
pub(super) fn policy(requested: Option<Accelerator>, host: &Host) -> AcceleratorPolicy {
    AcceleratorPolicy { requested, tcg_allowed: host.sandbox || requested == Some(Accelerator::Tcg) }
}

/// What is told where an interrupt came before anything was done.
pub(super) const INTERRUPTED: &str = "interrupted before anything was done; the host is as it was";

/// A host, the way to it, and what the task means there.
struct Place {
    chosen: Chosen,
    way: Way,
    /// The recipe with the host's own variables.
    bundle: Option<Bundle>,
    /// The suite's variables there.
    vars: BTreeMap<String, String>,
    /// Its part of the suite, if that is spread over the hosts.
    part: Option<Shard>,
}

impl Place {
    fn new(chosen: Chosen, way: Way, task: &Task) -> Result<Place, UsageError> {
        let bundle = task.recipe.as_ref().map(|recipe| recipe.of(&chosen)).transpose();
        let vars = task.suite.as_ref().map(|suite| suite.vars_of(&chosen)).transpose();
        let (bundle, vars) = both(bundle, vars)?;
        Ok(Place { chosen, way, bundle, vars: vars.unwrap_or_default(), part: None })
    }
}

/// A host on its way through the task.
struct Visit {
    outcome: HostOutcome,
    start: Instant,
    client: Option<(Host, Client)>,
    /// What is to be done once everybody has agreed.
    jobs: Vec<Job>,
    /// Whether the plan changes the host.
    changes: bool,
    /// Its part of the suite.
    part: Option<Shard>,
    turn: Option<Turn>,
}

impl Visit {
    fn new(place: &Place) -> Visit {
        let outcome = HostOutcome { host: place.chosen.name.clone(), ..HostOutcome::default() };
        let (start, part) = (Instant::now(), place.part);
        Visit { outcome, start, client: None, jobs: Vec::new(), changes: false, part, turn: None }
    }

    fn fail(&mut self, view: &View, doing: &str, trouble: &Trouble, status: Status) {
        problem(view, Some(&self.outcome.host), doing, trouble);
        let reason = trouble.error.lines().next().unwrap_or_default();
        let part =
            self.part.map_or_else(String::new, |part| format!("; part {part} of the suite ran nowhere"));
        self.outcome.problem = Some(format!("{doing}: {reason}{part}"));
        self.outcome.statuses.push(status);
        self.jobs.clear();
    }
}

fn work(
    chooser: &Chooser,
    hosts: &arguments::Hosts,
    reporting: Option<&Reporting>,
    task: Task,
) -> Result<Status, UsageError> {
    let targets = chooser.targets(&hosts.hosts, &hosts.way)?;
    let may_ask = io::stdin().is_terminal() && !hosts.way.output.json;
    let asks = |chosen: &Chosen| matches!(chosen.target, Target::Host(_));
    if task.change && !task.yes && !may_ask && targets.iter().any(asks) {
        let text =
            "there is no terminal to confirm the changes on: give --yes, or look first with `toril check`";
        return Err(UsageError::Other(text.into()));
    }
    let is_here =
        |chosen: &Chosen| matches!(&chosen.target, Target::Host(host) if host.reach == Reach::Local);
    if task.reboot.is_some() && targets.iter().any(is_here) {
        let text = "--reboot: `local` is this machine, and the reboot would end toril with it: reboot it by hand, and give \
                    the command without --reboot";
        return Err(UsageError::Other(text.into()));
    }
    let names: Vec<String> = targets.iter().map(|chosen| chosen.name.clone()).collect();
    let targets = reach::ways(targets, &reach::way(&hosts.way)?)?;
    let places = targets.into_iter().map(|(chosen, way)| Place::new(chosen, way, &task));
    let mut places = places.collect::<Result<Vec<_>, _>>()?;
    let idle = spread(&mut places, &task);
    let view = match reporting {
        Some(reporting) => chooser.view(&hosts.way.output, reporting, &names)?,
        None => View::new(&hosts.way.output),
    };
    let recipe = task.recipe.as_ref().map(|recipe| &recipe.choice);
    let suite = task.suite.as_ref().map(|suite| &suite.choice);
    view.show(None, &Shown::Choices { recipe, suite, hosts: &names });
    if !idle.is_empty() {
        let text = format!("the suite has fewer tests than there are hosts: nothing for {}", idle.join(", "));
        view.show(None, &Shown::Note { text: &text });
    }
    let task = with_source(task, &view)?;
    let fleet = Fleet::new(hosts, places.len());
    let outcomes = block_on(&view, async |interrupts: Interrupts| {
        visit_all(places, task, fleet, view.clone(), interrupts).await
    })?;
    Ok(finish(&view, &outcomes))
}

/// Gives each host its part of a suite that is to be spread; says which hosts are left without one, and leaves them out.
fn spread(places: &mut Vec<Place>, task: &Task) -> Vec<String> {
    let Some(suite) = task.suite.as_ref().filter(|_| task.spread) else { return Vec::new() };
    let idle = places.split_off(suite.tests.min(places.len()));
    let of = u32::try_from(places.len()).unwrap_or(u32::MAX);
    for (place, index) in places.iter_mut().zip(1..) {
        place.part = Some(Shard { index, of });
    }
    idle.into_iter().map(|place| place.chosen.name).collect()
}

/// Makes the tree ready that is tested, once for all hosts.
fn with_source(mut task: Task, view: &View) -> Result<Task, UsageError> {
    if let Some((source, directory)) = task.suite.as_ref().and_then(|suite| suite.source.as_ref()) {
        let mut told = 0;
        let mut progress = |read: u64| {
            // Small trees are packed before anybody has read that they are.
            if read >= told + (16 << 20) {
                told = read;
                view.show(None, &Shown::Step { text: &format!("packing the source, {} MiB", read >> 20) });
            }
        };
        let supply = Supply::make(source, directory, &mut progress)
            .map_err(|error| UsageError::Other(format!("cannot make the suite's source ready: {error}")))?;
        for note in &supply.notes {
            view.show(None, &Shown::Note { text: note });
        }
        task.source = Some(supply);
    }
    Ok(task)
}

async fn visit_all(
    places: Vec<Place>,
    task: Task,
    fleet: Fleet,
    view: View,
    interrupts: Interrupts,
) -> Vec<HostOutcome> {
    let (task, fleet) = (Rc::new(task), Rc::new(fleet));
    let is_asked = |place: &Place| matches!(place.chosen.target, Target::Host(_));
    if !task.change || task.yes || !places.iter().any(is_asked) {
        // Nobody is waited for but by itself.
        let visits = places.into_iter().map(|place| {
            let (task, fleet) = (Rc::clone(&task), Rc::clone(&fleet));
            let (view, interrupts) = (view.clone(), interrupts.clone());
            async move {
                let visit =
                    look(place, Rc::clone(&task), Rc::clone(&fleet), view.clone(), interrupts.clone()).await;
                act(visit, task, fleet, view, interrupts).await
            }
        });
        return all(visits.collect::<Vec<_>>()).await;
    }
    let looks = places
        .into_iter()
        .map(|place| look(place, Rc::clone(&task), Rc::clone(&fleet), view.clone(), interrupts.clone()));
    let mut visits = all(looks.collect::<Vec<_>>()).await;
    // All plans are shown before the first question, so each has its turn again.
    visits.iter_mut().for_each(|visit| visit.turn = None);
    for visit in visits.iter_mut().filter(|visit| visit.changes && !task.yes) {
        let sandbox = visit.client.as_ref().is_some_and(|(host, _)| host.sandbox);
        if !sandbox && !confirmed(&visit.outcome.host, task.reboot.is_some(), &view, &interrupts) {
            let trouble = "not confirmed; the host is as it was".to_owned().into();
            visit.fail(&view, "apply", &trouble, Status::Operation);
        }
    }
    let acts = visits.into_iter().map(|mut visit| {
        visit.start = Instant::now();
        act(visit, Rc::clone(&task), Rc::clone(&fleet), view.clone(), interrupts.clone())
    });
    all(acts.collect::<Vec<_>>()).await
}

/// Everything that only reads. An interrupt ends it at once: there is nothing to be cleaned up.
async fn look(place: Place, task: Rc<Task>, fleet: Rc<Fleet>, view: View, interrupts: Interrupts) -> Visit {
    let mut visit = Visit::new(&place);
    let seen = async {
        let turn = fleet.turn().await;
        let mut visit = Visit::new(&place);
        let start = visit.start;
        // How long it takes to make a sandbox is not the host's fault.
        match reach::host(&place.chosen, task.make, &view) {
            Ok(host) => {
                let look = look_undisturbed(visit, place, host, task, &fleet, turn, &view);
                (start, timeout(fleet.look(), look).await)
            }
            Err(error) => {
                visit.fail(&view, "reaching the sandbox", &error.into(), Status::Operation);
                (start, Ok(visit))
            }
        }
    };
    tokio::select! {
        biased;
        () = interrupts.first() => {
            visit.fail(&view, "looking", &INTERRUPTED.to_owned().into(), Status::Operation);
            visit
        }
        (start, seen) = seen => match seen {
            Ok(seen) => seen,
            Err(_) => {
                let error = format!("it took longer than {}, and was left as it is", fleet.deadline_words());
                let remedy = Some("a host that is only slow is given more time by --deadline".to_owned());
                visit.start = start;
                visit.outcome.unreachable = true;
                visit.fail(&view, "looking", &Trouble { error, remedy }, Status::Operation);
                visit.outcome.time = start.elapsed();
                visit
            }
        },
    }
}

async fn look_undisturbed(
    mut visit: Visit,
    place: Place,
    host: Host,
    task: Rc<Task>,
    fleet: &Fleet,
    mut turn: Turn,
    view: &View,
) -> Visit {
    let mut client = match fleet.connect(&mut turn, &host, &place.way, view).await {
        Ok(client) => client,
        Err(error) => {
            visit.outcome.unreachable = true;
            visit.fail(view, "connecting", &Trouble::from(&error), error.status());
            return visit;
        }
    };
    if let Err((doing, error)) = inspect(&mut client, &host, &place, &task, view, &mut visit).await {
        // The client is of no use any more: its end would only tell the same again, and later.
        visit.fail(view, doing, &Trouble::from(&error), error.status());
        return visit;
    }
    visit.client = Some((host, client));
    visit.turn = Some(turn);
    visit
}

async fn inspect(
    client: &mut Client,
    host: &Host,
    place: &Place,
    task: &Task,
    view: &View,
    visit: &mut Visit,
) -> Result<(), (&'static str, ClientError)> {
    if task.facts {
        view.show(Some(&host.name), &Shown::Step { text: "asking for facts" });
        let facts = client.facts().await.map_err(|error| ("facts", error))?;
        view.show(Some(&host.name), &Shown::Facts { facts: &facts });
    }
    if task.fingerprint {
        let print = client.fingerprint().await.map_err(|error| ("fingerprint", error))?;
        let differences = task.against.of(&host.name).map(|before| before.differences(&print));
        let id = print.id();
        let shown = Shown::Fingerprint { fingerprint: &print, id: &id, differences: differences.as_deref() };
        view.show(Some(&host.name), &shown);
        if differences.is_some_and(|differences| !differences.is_empty()) {
            visit.outcome.statuses.push(Status::Drift);
        }
    }
    if task.reboot.is_some() {
        reboot::refuse_container(client).await.map_err(|error| ("reboot", error))?;
    }
    if let Some(bundle) = &place.bundle {
        view.show(Some(&host.name), &Shown::Step { text: "comparing with the recipe" });
        // Where hosts are changed, what a recipe does not say is not asked for.
        let depth = if task.strict { Depth::All } else { Depth::Touched };
        let planned = client.plan(bundle.clone(), reach::info(host), (!task.change).then_some(depth)).await;
        let (plan, findings) = planned.map_err(|error| ("plan", error))?;
        view.show(Some(&host.name), &Shown::Plan { plan: &plan });
        if !findings.is_empty() {
            view.show(Some(&host.name), &Shown::Findings { findings: &findings, drift: task.strict });
        }
        visit.outcome.findings = findings.len();
        if task.strict && !findings.is_empty() {
            visit.outcome.statuses.push(Status::Drift);
        }
        let counts = plan.counts();
        visit.outcome.recipe = Some(counts);
        let reboots = task.change && task.reboot.is_some() && plan.reboot.is_some();
        let acts = task.change && plan.may_change() || reboots;
        if let Some(reason) = plan.reboot.as_ref().filter(|_| !acts) {
            reboot::tell_due(view, host, reason);
        }
        if counts.failed > 0 && !acts {
            visit.outcome.statuses.push(Status::Operation);
            return Ok(());
        }
        if acts {
            if plan.may_change()
                && !is_fit(client, host, task, &plan, view).await.map_err(|error| ("preflight", error))?
            {
                visit.outcome.problem = Some("the host cannot do the job; nothing was changed".into());
                visit.outcome.statuses.push(Status::Setup);
                return Ok(());
            }
            visit.changes = true;
            visit.jobs.push(Job::Apply { bundle: bundle.clone(), host: reach::info(host) });
            visit.jobs.extend(task.reboot.map(|deadline| Job::Reboot { deadline }));
        } else if counts.drifted > 0 {
            visit.outcome.statuses.push(Status::Drift);
        }
    }
    if task.suite.is_some() && view.reports() {
        // What they can say of the host makes them better, and nothing else worse.
        if let Ok(facts) = client.facts().await {
            view.note(&host.name, &Shown::Facts { facts: &facts });
        }
    }
    if task.verify {
        let policy = policy(task.accelerator, host);
        let emulation = policy.tcg_allowed && policy.requested != Some(Accelerator::Kvm);
        visit.jobs.push(Job::Verify { emulation, own_kernel: task.own_kernel });
    }
    if let Some(suite) = &task.suite {
        visit.jobs.push(Job::Test(TestJob {
            suite: suite.document.clone(),
            tests: Tests::Suite { text: suite.text.clone(), vars: place.vars.clone() },
            policy: policy(task.accelerator, host),
            filter: task.filter.clone(),
            control: toril_runner::Control {
                shard: place.part.or(task.control.shard),
                ..task.control.clone()
            },
            live: false,
            source: task.source.as_ref().map(|supply| supply.order.clone()),
        }));
    }
    Ok(())
}

/// Asks, before anything is installed, whether the host can do the job at all, and tells what speaks against it.
async fn is_fit(
    client: &mut Client,
    host: &Host,
    task: &Task,
    plan: &Plan,
    view: &View,
) -> Result<bool, ClientError> {
    let downloads = plan.estimate.is_none_or(|estimate| estimate.packages > 0);
    let mut checks = client.preflight(downloads, doctor::clock()).await?;
    // An apply may be for another purpose, and emulated guests do without KVM.
    let needs_kvm = task.suite.as_ref().is_some_and(|suite| suite.needs_kvm)
        && !policy(task.accelerator, host).tcg_allowed;
    if !needs_kvm {
        checks.iter_mut().for_each(doctor::allow_emulation);
    }
    view.show(Some(&host.name), &Shown::Checks { checks: &checks, all: false });
    Ok(checks.iter().all(|check| check.state != CheckState::Bad))
}

pub(super) fn confirmed(host: &str, reboots: bool, view: &View, interrupts: &Interrupts) -> bool {
    view.suspend(|| {
        let mut answer = String::new();
        let mut out = io::stdout().lock();
        let reboot = if reboots { ", and reboot it if that is due" } else { "" };
        let asked = write!(out, "{host}: change it as shown{reboot}? [y/N] ").and_then(|()| out.flush());
        asked.and_then(|()| interrupts.wait_for_line()).is_ok_and(|typed| typed)
            && io::stdin().lock().read_line(&mut answer).is_ok()
            && matches!(answer.trim(), "y" | "Y" | "yes")
    })
}

/// Everything that changes or measures.
async fn act(
    mut visit: Visit,
    task: Rc<Task>,
    fleet: Rc<Fleet>,
    view: View,
    interrupts: Interrupts,
) -> HostOutcome {
    let jobs = std::mem::take(&mut visit.jobs);
    if let Some((host, mut client)) = visit.client.take() {
        let mut lost = false;
        if !jobs.is_empty() {
            let order = Order { who: reach::who(), wait: task.wait, jobs };
            let source = task.source.as_ref().and_then(|supply| supply.parcel.as_ref());
            let parcels = Parcels { source, ..Parcels::default() };
            let mut turn = match visit.turn.take() {
                Some(turn) => turn,
                None => fleet.turn().await,
            };
            let run = async |interrupts: Interrupts| {
                reboot::run(&mut client, &host, order, parcels, &view, &interrupts, &mut turn).await
            };
            let (ended, late) = fleet.within_deadline(visit.start, &interrupts, run).await;
            if let (Some(ran), Some(_)) = (&ended, &task.suite) {
                let into = task.artifacts.as_deref();
                artifacts::fetch(&mut client, ran, into, &view, &mut visit.outcome).await;
            }
            match ended {
                None => {
                    lost = true;
                    let error =
                        format!("it did not end within {}, nor stop when asked to", fleet.deadline_words());
                    let remedy = Some(format!("`toril attach {}` shows what it does", host.name));
                    visit.fail(&view, "the run", &Trouble { error, remedy }, Status::Operation);
                }
                Some(Ok(ended)) => {
                    if late {
                        let text = format!("stopped: it took longer than {}", fleet.deadline_words());
                        visit.outcome.problem = Some(text);
                        visit.outcome.statuses.push(Status::Operation);
                    }
                    if let Some(reason) = &ended.reboot_due {
                        reboot::tell_due(&view, &host, reason);
                    }
                    let is_ready = |required: &Vec<Probe>| {
                        ended.verified.as_ref().is_none_or(|verified| verified.is_ready(required))
                    };
                    if !task.required.as_ref().is_none_or(is_ready) {
                        visit.outcome.statuses.push(Status::Setup);
                    }
                    conclude(&mut visit.outcome, ended);
                }
                Some(Err(error)) => {
                    lost = true;
                    visit.fail(&view, "the run", &Trouble::from(&error), error.status());
                }
            }
        }
        // One that is lost may keep silent for long.
        if !lost && let Err(error) = client.close().await {
            visit.fail(&view, "ending the connection", &Trouble::from(&error), error.status());
        }
    }
    if visit.outcome.time.is_zero() {
        visit.outcome.time = visit.start.elapsed();
    }
    visit.outcome
}

/// What a run's end means for the host.
pub(super) fn conclude(outcome: &mut HostOutcome, ended: Ended) {
    if let Some(counts) = ended.applied {
        outcome.recipe = Some(counts);
    }
    if ended.failed || ended.stopped || ended.converged == Some(false) {
        outcome.statuses.push(Status::Operation);
    }
    if let Some(summary) = &ended.tested {
        outcome.statuses.push(match toril_runner::exit_status(summary) {
            0 => Status::Fine,
            4 => Status::Tests,
            5 => Status::Setup,
            _ => Status::Operation,
        });
    }
    outcome.tests = ended.tested;
}
