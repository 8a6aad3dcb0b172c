//! `up`, `apply`, `check`, `test` and `facts`: the same way to a host, and then more or less of the work.

mod act;
mod look;
mod visit;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use toril_inventory::{Chosen, Host, Reach, Target};
use toril_runner::{Accelerator, AcceleratorPolicy, OwnKernel, Probe, Shard};

use self::act::act;
pub(super) use self::act::{agreed, conclude, confirmed};
use self::look::look;
use self::visit::{Place, Visit};
use super::choices::{Chooser, ChosenRecipe, ChosenSuite, both};
use super::fingerprint::{self, Stored};
use super::fleet::Fleet;
use super::hosts::{all, block_on};
use super::{UsageError, artifacts, finish, reach};
use crate::arguments::{self, Reporting, Running};
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
    against: Stored,
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
    /// Whether the run's folder stays on the hosts.
    keep: bool,
    /// Where artifacts go that are fetched.
    artifacts: Option<PathBuf>,
    /// How long to wait for another run to end.
    wait: Duration,
    /// Whether the run ends when nobody follows it any more.
    attended: bool,
}

/// `toril up`.
pub(super) fn up(arguments: &arguments::Up) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let testing = testing(&chooser, &arguments.suite, &arguments.running);
    let (recipe, testing) = both(chooser.recipe(&arguments.recipe, Some(&arguments.suite)), testing)?;
    let task = Task {
        make: true,
        recipe: Some(recipe),
        change: true,
        yes: arguments.yes,
        reboot: rebooting(arguments.reboot),
        verify: testing.suite.as_ref().is_some_and(|suite| suite.has_guests),
        keep: arguments.keeping.keep,
        ..testing
    };
    let task = Task { artifacts: artifacts::directory(&arguments.fetching)?.map(Path::to_owned), ..task };
    work(&chooser, &arguments.hosts, Some(&arguments.reporting), task)
}

/// `toril apply`.
pub(super) fn apply(arguments: &arguments::Apply) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let task = Task {
        recipe: Some(chooser.recipe(&arguments.recipe, None)?),
        change: !arguments.dry_run,
        yes: arguments.yes,
        reboot: rebooting(arguments.reboot),
        wait: chooser.wait(&arguments.running),
        attended: arguments.running.attended,
        ..Task::default()
    };
    work(&chooser, &arguments.hosts, None, task)
}

/// `toril check`.
pub(super) fn check(arguments: &arguments::Check) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let recipe = chooser.recipe(&arguments.recipe, None)?;
    let task = Task {
        recipe: Some(recipe),
        strict: arguments.strict,
        verify: arguments.prove,
        required: Some(Vec::new()),
        accelerator: chooser.accelerator(arguments::AcceleratorArgument { accel: None }),
        wait: chooser.wait(&arguments.running),
        attended: arguments.running.attended,
        ..Task::default()
    };
    work(&chooser, &arguments.hosts, None, task)
}

/// `toril test`.
pub(super) fn test(arguments: &arguments::Test) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let testing = testing(&chooser, &arguments.suite, &arguments.running)?;
    let task = Task { spread: arguments.spread, keep: arguments.keeping.keep, ..testing };
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
        attended: arguments.running.attended,
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
        attended: running.attended,
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
    let targets = reach::ways(targets, &reach::way(&hosts.way)?)?;
    let places = targets.into_iter().map(|(chosen, way)| Place::new(chosen, way, &task));
    let mut places = UsageError::in_any(places)?;
    let idle = spread(&mut places, &task);
    let names: Vec<String> = places.iter().map(|place| place.chosen.name.clone()).collect();
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
    let fleet = Fleet::new(hosts);
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
        let supply = Supply::make(source, directory, &mut progress);
        view.at_rest(None);
        let supply = supply
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
    let looks = places.into_iter().map(|place| {
        let look = look(place, Rc::clone(&task), Rc::clone(&fleet), view.clone(), interrupts.clone());
        // All plans are shown before the first question: the next host is looked at meanwhile, and each has its turn again.
        async {
            let visit = look.await;
            (visit.start.elapsed(), Visit { turn: None, ..visit })
        }
    });
    let mut visits = all(looks.collect::<Vec<_>>()).await;
    for (_, visit) in visits.iter_mut().filter(|(_, visit)| visit.changes && !task.yes) {
        let sandbox = visit.client.as_ref().is_some_and(|(host, _)| host.sandbox);
        if !sandbox && !confirmed(&visit.outcome.host, task.reboot.is_some(), &view, &interrupts) {
            let trouble = "not confirmed; the host is as it was".to_owned().into();
            visit.fail(&view, "apply", &trouble, Status::Operation);
        }
    }
    let acts = visits.into_iter().map(|(looked, mut visit)| {
        // What was waited for between is not the host's own time.
        let now = Instant::now();
        visit.start = now.checked_sub(looked).unwrap_or(now);
        act(visit, Rc::clone(&task), Rc::clone(&fleet), view.clone(), interrupts.clone())
    });
    all(acts.collect::<Vec<_>>()).await
}
