use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::Instant;

use toril_machine::{Facts, Machine};

use super::beforehand::{Ahead, Beforehand};
use super::handlers::Due;
use super::plan::{check_supported, observe_to_apply, plan};
use super::{Counts, Event, ItemState, Plan, PlanError, handlers};
use crate::recipe::{Declared, Recipe};
use crate::resource::{AptPackages, Change, Context, ResourceError};
use crate::unfinished::sweep_unfinished;

/// How carrying a recipe out ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// How many resources ended how.
    pub counts: Counts,
    /// Whether the run was stopped before its end.
    pub stopped: bool,
}

impl Applied {
    /// Whether the machine is as the recipe says.
    pub fn converged(&self) -> bool {
        let Counts { failed, skipped, drifted, undecidable, .. } = self.counts;
        !self.stopped && failed + skipped + drifted + undecidable == 0
    }
}

/// Where events go: to one place, from more than one thread.
pub(super) type Tell<'t> = &'t (dyn Fn(Event) + Sync);

/// Carries a recipe out: each resource is observed, changed and observed again, in order; then the whole recipe is
/// observed once more. Packages are fetched while what comes before them is applied. `stop` is heeded between resources.
///
/// # Errors
/// The recipe is not for this machine.
pub fn apply(
    recipe: &Recipe,
    machine: &Machine,
    facts: &Facts,
    sink: &mut (dyn FnMut(Event) + Send),
    stop: &AtomicBool,
) -> Result<Applied, PlanError> {
    check_supported(recipe, facts)?;
    let sink = Mutex::new(sink);
    let tell = |event: Event| (sink.lock().unwrap_or_else(PoisonError::into_inner))(event);
    // It takes room and is in nobody's way: what cannot be removed is no reason to end here.
    let _ = sweep_unfinished(machine);
    let (mut counts, clean, stopped) = thread::scope(|scope| {
        let mut run = Run {
            recipe,
            context: Context { machine, facts, stop },
            tell: &tell,
            scope,
            fetching: Fetching::Undecided,
            failed: BTreeSet::new(),
            failed_handlers: BTreeSet::new(),
            installed: BTreeSet::new(),
            counts: Counts::default(),
        };
        let stopped = run.all();
        (run.counts, run.failed.is_empty() && run.failed_handlers.is_empty(), stopped)
    });
    // What was installed may want a reboot that was not due before.
    let after = Plan { reboot: machine.reboot_pending(), ..plan(recipe, machine, facts)? };
    if counts.changed > 0 && clean && !stopped {
        for item in after.items.iter().filter(|item| !item.state.changes().is_empty()) {
            counts.failed += 1;
            let error = format!(
                "not idempotent: after everything was done, this is to change again: {}",
                describe(item.state.changes())
            );
            tell(Event::Failed { resource: item.resource.clone(), error });
        }
    }
    tell(Event::Verified { plan: after });
    Ok(Applied { counts, stopped })
}

struct Run<'s, 'e> {
    recipe: &'e Recipe,
    context: Context<'e>,
    tell: Tell<'e>,
    /// What is fetched beforehand is fetched in a thread of this.
    scope: &'s Scope<'s, 'e>,
    fetching: Fetching<'s>,
    /// Positions of the resources that failed or were skipped.
    failed: BTreeSet<usize>,
    /// Positions of the handlers that failed.
    failed_handlers: BTreeSet<usize>,
    /// Positions of the packages that went into an earlier one's transaction, whether or not it succeeded.
    installed: BTreeSet<usize>,
    counts: Counts,
}

/// How far fetching packages beforehand has come.
enum Fetching<'s> {
    /// Nothing had to change yet.
    Undecided,
    /// It begins in a later resource's turn.
    Later(Ahead),
    Underway(Beforehand<'s>),
    /// It has ended, or there is nothing to be fetched.
    Over,
}

impl<'s> Run<'s, '_> {
    /// Carries all resources out; whether that was stopped.
    fn all(&mut self) -> bool {
        let recipe = self.recipe;
        let mut stopped = false;
        for (index, declared) in recipe.resources.iter().enumerate() {
            stopped = stopped || self.context.is_stopped();
            // It has been told how that ended.
            if self.installed.contains(&index) {
                continue;
            }
            if stopped {
                self.skip(index, "the run was stopped".into());
            } else {
                if declared.resource.decided_by_others() {
                    self.handlers();
                }
                self.resource(index);
            }
        }
        if !stopped {
            self.handlers();
        }
        if let Some(beforehand) = self.take_beforehand() {
            beforehand.end();
        }
        stopped
    }

    fn resource(&mut self, index: usize) {
        let recipe = self.recipe;
        let declared = &recipe.resources[index];
        if let Some(culprit) = declared.after.iter().find(|before| self.failed.contains(before)) {
            return self.skip(index, format!("it needs `{}`, which failed", recipe.resources[*culprit].name));
        }
        if declared.resource.may_use_apt() {
            self.wait_for_lists(&declared.name);
        }
        match observe_to_apply(declared, self.context) {
            ItemState::Satisfied | ItemState::Undecidable { .. } => self.counts.satisfied += 1,
            ItemState::Unjudged { reason } => self.fail(index, reason),
            ItemState::Unreadable { reason } => self.fail(index, reason),
            ItemState::Impossible { reason, accepted: false, .. } => {
                self.fail(index, format!("not possible here: {reason}"));
            }
            ItemState::Impossible { changes, .. } if changes.is_empty() => self.counts.impossible += 1,
            ItemState::Impossible { changes, .. } | ItemState::Drift { changes } => {
                self.change(index, declared, &changes)
            }
        }
    }

    fn change(&mut self, index: usize, declared: &Declared, changes: &[Change]) {
        self.fetch_beforehand(index);
        let start = Instant::now();
        (self.tell)(Event::Started { resource: declared.name.clone() });
        let together = match declared.resource.as_packages() {
            Some(_) => self.packages_to_go_with(index),
            None => Vec::new(),
        };
        let companions: Vec<(usize, Vec<Change>)> = together
            .into_iter()
            .map(|other| {
                (other, observe_to_apply(&self.recipe.resources[other], self.context).changes().to_vec())
            })
            .filter(|(_, changes)| !changes.is_empty())
            .collect();
        let done = self.remember_handlers(index, &companions);
        match done.and_then(|()| self.carry_out(index, declared, changes, &companions)) {
            Err(error) => self.fail(index, error.to_string()),
            Ok(()) => self.confirm(index, changes, start),
        }
        let failed = self.failed.contains(&index);
        for (other, changes) in companions {
            self.installed.insert(other);
            match failed {
                true => self.skip(
                    other,
                    format!("it was to be installed together with `{}`, which failed", declared.name),
                ),
                false => self.confirm(other, &changes, start),
            }
        }
    }

    /// Begins to fetch what later packages will need, as soon as nothing before them changes where they come from.
    fn fetch_beforehand(&mut self, index: usize) {
        let (recipe, context) = (self.recipe, self.context);
        let has_to_change =
            |at: usize| !observe_to_apply(&recipe.resources[at], context).changes().is_empty();
        if matches!(self.fetching, Fetching::Undecided) {
            self.fetching = Ahead::of(recipe, index, has_to_change).map_or(Fetching::Over, Fetching::Later);
        }
        let Fetching::Later(ahead) = self.fetching else { return };
        if !context.machine.is_this() || !(ahead.from..ahead.packages).contains(&index) {
            return;
        }
        let all = std::iter::once(ahead.packages).chain(self.packages_to_go_with(ahead.packages));
        let packages = all.filter_map(|at| recipe.resources[at].resource.as_packages()).collect();
        let name = &recipe.resources[ahead.packages].name;
        self.fetching = Fetching::Underway(Beforehand::begin(self.scope, name, packages, context, self.tell));
    }

    /// What is being fetched, for whoever waits for it or ends it.
    fn take_beforehand(&mut self) -> Option<Beforehand<'s>> {
        match std::mem::replace(&mut self.fetching, Fetching::Over) {
            Fetching::Underway(beforehand) => Some(beforehand),
            Fetching::Undecided | Fetching::Later(_) | Fetching::Over => None,
        }
    }

    fn wait_for_lists(&self, resource: &str) {
        let told = |line: &str| {
            (self.tell)(Event::Progress { resource: resource.to_owned(), line: line.to_owned() });
        };
        if let Fetching::Underway(beforehand) = &self.fetching {
            beforehand.wait_for_lists(&told);
        }
    }

    fn carry_out(
        &mut self,
        index: usize,
        declared: &Declared,
        changes: &[Change],
        companions: &[(usize, Vec<Change>)],
    ) -> Result<(), ResourceError> {
        let recipe = self.recipe;
        let tell = self.tell;
        let mut log =
            |line: &str| tell(Event::Progress { resource: declared.name.clone(), line: line.to_owned() });
        if declared.resource.as_packages().is_none() {
            return declared.resource.apply(self.context, changes, &mut log);
        }
        let all = std::iter::once(index).chain(companions.iter().map(|(other, _)| *other));
        let packages: Vec<_> = all.filter_map(|at| recipe.resources[at].resource.as_packages()).collect();
        let lists = self.take_beforehand().and_then(Beforehand::join);
        AptPackages::apply_together(&packages, self.context, lists.as_ref(), &mut log)
    }

    fn remember_handlers(
        &self,
        index: usize,
        companions: &[(usize, Vec<Change>)],
    ) -> Result<(), ResourceError> {
        let recipe = self.recipe;
        let changing = std::iter::once(index).chain(companions.iter().map(|(other, _)| *other));
        let due = changing
            .flat_map(|at| &recipe.resources[at].on_change)
            .map(|at| Due::of(recipe, &recipe.handlers[*at]));
        handlers::remember(self.context.machine, due)
    }

    /// Does what the changes so far, or those of an interrupted run, have made due.
    fn handlers(&mut self) {
        let recipe = self.recipe;
        if recipe.handlers.is_empty() {
            return;
        }
        let due = match handlers::due(self.context.machine) {
            Ok(due) => due,
            Err(error) => {
                self.counts.failed += 1;
                return (self.tell)(Event::Failed { resource: "handlers".into(), error: error.to_string() });
            }
        };
        for (index, handler) in
            recipe.handlers.iter().enumerate().filter(|(_, handler)| due.contains(&Due::of(recipe, handler)))
        {
            // One that failed has been told of, and is due in the next run.
            if self.failed_handlers.contains(&index) {
                continue;
            }
            // What it runs may use apt.
            self.wait_for_lists(&handler.name);
            let start = Instant::now();
            let resource = handler.name.clone();
            (self.tell)(Event::Started { resource: resource.clone() });
            match handlers::run(self.context.machine, recipe, handler) {
                Ok(()) => {
                    self.counts.changed += 1;
                    (self.tell)(changed(resource, vec![handlers::change()], start));
                }
                Err(error) => {
                    self.counts.failed += 1;
                    self.failed_handlers.insert(index);
                    (self.tell)(Event::Failed { resource, error: error.to_string() });
                }
            }
        }
    }

    /// A change counts only when the machine itself now shows it.
    fn confirm(&mut self, index: usize, changes: &[Change], start: Instant) {
        let declared = &self.recipe.resources[index];
        match observe_to_apply(declared, self.context) {
            ItemState::Unreadable { reason } => self.fail(index, reason),
            state if !state.changes().is_empty() => {
                self.fail(index, format!("the change did not take: {}", describe(state.changes())));
            }
            _ => {
                self.counts.changed += 1;
                (self.tell)(changed(declared.name.clone(), changes.to_vec(), start));
            }
        }
    }

    /// Later packages of the same sort that nothing unfinished stands before: they go into the same transaction.
    fn packages_to_go_with(&self, index: usize) -> Vec<usize> {
        let resources = &self.recipe.resources;
        let sort = |at: usize| resources[at].resource.as_packages().map(|packages| packages.recommends);
        let mut chosen = vec![index];
        for (other, declared) in resources.iter().enumerate().skip(index + 1) {
            let ready = |before: &usize| {
                (*before < index && !self.failed.contains(before)) || chosen.contains(before)
            };
            if sort(other).is_some() && sort(other) == sort(index) && declared.after.iter().all(ready) {
                chosen.push(other);
            }
        }
        chosen.split_off(1)
    }

    fn fail(&mut self, index: usize, error: String) {
        self.failed.insert(index);
        self.counts.failed += 1;
        (self.tell)(Event::Failed { resource: self.recipe.resources[index].name.clone(), error });
    }

    fn skip(&mut self, index: usize, reason: String) {
        self.failed.insert(index);
        self.counts.skipped += 1;
        (self.tell)(Event::Skipped { resource: self.recipe.resources[index].name.clone(), reason });
    }
}

fn changed(resource: String, changes: Vec<Change>, start: Instant) -> Event {
    Event::Changed { resource, changes, milliseconds: milliseconds(start) }
}

pub(super) fn milliseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn describe(changes: &[Change]) -> String {
    let changes = changes.iter().map(|c| format!("{}: {} → {}", c.what, c.before, c.after));
    changes.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::recipe::{Bundle, HostInfo};
    use crate::resource::testing::Fake;

    fn run(fake: &Fake, resources: &str) -> (Applied, Vec<String>) {
        run_with(fake, resources, |_, _| {})
    }

    /// The same, with what happens when a resource's turn begins.
    fn run_with(
        fake: &Fake,
        resources: &str,
        at_start: impl Fn(&str, &AtomicBool) + Sync,
    ) -> (Applied, Vec<String>) {
        let text = format!("description = \"d\"\nsupports = [\"debian 12\"]\n{resources}");
        let host = HostInfo { name: "h".into(), user: "u".into() };
        let recipe = Recipe::read(&Bundle::of("r", text, Default::default()), &fake.facts, &host).unwrap();
        let mut events = Vec::new();
        let stop = AtomicBool::new(false);
        let mut sink = |event: Event| {
            events.push(match event {
                Event::Changed { resource, .. } => format!("changed {resource}"),
                Event::Failed { resource, error } => format!("failed {resource}: {error}"),
                Event::Skipped { resource, .. } => format!("skipped {resource}"),
                Event::Started { resource } => return at_start(&resource, &stop),
                _ => return,
            });
        };
        let applied = apply(&recipe, fake.context().machine, &fake.facts, &mut sink, &stop).unwrap();
        (applied, events)
    }

    const FILES: &str = "
        [[resource]]\nname = \"file\"\nfile = { path = \"/etc/d/f\", content = \"x\" }\non-change = [\"reload\"]
        [[resource]]\nname = \"directory\"\ndirectory = { path = \"/etc/d\" }
        [[handler]]\nname = \"reload\"\ncommand = [\"true\"]\n";

    #[test]
    fn a_second_apply_changes_nothing() {
        let fake = Fake::new();
        let (applied, events) = run(&fake, FILES);
        assert!(applied.converged());
        assert_eq!(events, ["changed directory", "changed file", "changed reload"]);
        let (applied, events) = run(&fake, FILES);
        assert!(applied.converged() && events.is_empty(), "{events:?}");
    }

    #[test]
    fn a_handler_that_failed_is_due_in_the_next_run() {
        let fake = Fake::new();
        let (applied, _) = run(&fake, &FILES.replace("\"true\"", "\"false\""));
        assert!(!applied.converged());
        let (applied, events) = run(&fake, FILES);
        assert!(applied.converged());
        assert_eq!(events, ["changed reload"]);
    }

    #[test]
    fn what_stands_on_a_failure_is_skipped_and_the_rest_is_done() {
        let fake = Fake::new();
        std::fs::write(fake.path("etc/d"), "in the way").unwrap();
        let other = "[[resource]]\nname = \"other\"\nfile = { path = \"/etc/o\", content = \"x\" }\n";
        let (applied, events) = run(&fake, &format!("{FILES}{other}"));
        assert!(!applied.converged());
        assert!(events[0].starts_with("failed directory: "), "{events:?}");
        assert_eq!(events[1..], ["skipped file", "changed other"]);
    }

    #[test]
    fn what_was_told_of_with_others_is_not_told_again_when_the_run_is_stopped() {
        let fake = Fake::new();
        let status = fake.path("var/lib/dpkg/status");
        std::fs::create_dir_all(status.parent().unwrap()).unwrap();
        std::fs::write(&status, "").unwrap();
        let packages = ["one", "two", "three"].map(|name| {
            format!("[[resource]]\nname = \"{name}\"\napt-packages = {{ install = [\"p-{name}\"] }}\n")
        });
        let resources = packages.concat()
            + "[[resource]]\nname = \"other\"\nfile = { path = \"/etc/o\", content = \"x\" }\n";
        let (applied, events) = run_with(&fake, &resources, |_, stop| {
            // No package is installed on this machine.
            std::fs::remove_file(&status).unwrap();
            stop.store(true, Ordering::Relaxed);
        });
        assert!(applied.stopped && events[0].starts_with("failed one: "), "{events:?}");
        assert_eq!(events[1..], ["skipped two", "skipped three", "skipped other"]);
        let Counts { failed, skipped, .. } = applied.counts;
        assert_eq!((failed, skipped), (1, 3));
    }
}
