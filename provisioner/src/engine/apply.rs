use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use toril_machine::{Facts, Machine};

use super::handlers::Due;
use super::plan::{check_supported, observe_to_apply, plan};
use super::{Counts, Event, ItemState, Plan, PlanError, handlers};
use crate::recipe::{Declared, Recipe};
use crate::resource::{AptPackages, Change, Context, ResourceError};

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

/// Carries a recipe out: each resource is observed, changed and observed again, in order; then the whole recipe is
/// observed once more. `stop` is heeded between resources.
///
/// # Errors
/// The recipe is not for this machine.
pub fn apply(
    recipe: &Recipe,
    machine: &Machine,
    facts: &Facts,
    sink: &mut dyn FnMut(Event),
    stop: &AtomicBool,
) -> Result<Applied, PlanError> {
    check_supported(recipe, facts)?;
    let mut run = Run {
        recipe,
        context: Context { machine, facts },
        stop,
        sink,
        failed: BTreeSet::new(),
        failed_handlers: BTreeSet::new(),
        installed: BTreeSet::new(),
        counts: Counts::default(),
    };
    let mut stopped = false;
    for index in 0..recipe.resources.len() {
        stopped = stopped || stop.load(Ordering::Relaxed);
        if stopped {
            run.skip(index, "the run was stopped".into());
        } else {
            if recipe.resources[index].resource.decided_by_others() {
                run.handlers();
            }
            run.resource(index);
        }
    }
    if !stopped {
        run.handlers();
    }
    let Run { mut counts, failed, failed_handlers, .. } = run;
    // What was installed may want a reboot that was not due before.
    let after = Plan { reboot: machine.reboot_pending(), ..plan(recipe, machine, facts)? };
    if counts.changed > 0 && failed.is_empty() && failed_handlers.is_empty() && !stopped {
        for item in after.items.iter().filter(|item| !item.state.changes().is_empty()) {
            counts.failed += 1;
            let error = format!(
                "not idempotent: after everything was done, this is to change again: {}",
                describe(item.state.changes())
            );
            sink(Event::Failed { resource: item.resource.clone(), error });
        }
    }
    sink(Event::Verified { plan: after });
    Ok(Applied { counts, stopped })
}

struct Run<'r> {
    recipe: &'r Recipe,
    context: Context<'r>,
    stop: &'r AtomicBool,
    sink: &'r mut dyn FnMut(Event),
    /// Positions of the resources that failed or were skipped.
    failed: BTreeSet<usize>,
    /// Positions of the handlers that failed.
    failed_handlers: BTreeSet<usize>,
    /// Positions of the packages that went into an earlier one's transaction, whether or not it succeeded.
    installed: BTreeSet<usize>,
    counts: Counts,
}

impl Run<'_> {
    fn resource(&mut self, index: usize) {
        let recipe = self.recipe;
        let declared = &recipe.resources[index];
        if self.installed.contains(&index) {
            return;
        }
        if let Some(culprit) = declared.after.iter().find(|before| self.failed.contains(before)) {
            return self.skip(index, format!("it needs `{}`, which failed", recipe.resources[*culprit].name));
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
        let start = Instant::now();
        (self.sink)(Event::Started { resource: declared.name.clone() });
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

    fn carry_out(
        &mut self,
        index: usize,
        declared: &Declared,
        changes: &[Change],
        companions: &[(usize, Vec<Change>)],
    ) -> Result<(), ResourceError> {
        let recipe = self.recipe;
        let stop = self.stop;
        let sink = &mut *self.sink;
        let mut log =
            |line: &str| sink(Event::Progress { resource: declared.name.clone(), line: line.to_owned() });
        if declared.resource.as_packages().is_none() {
            return declared.resource.apply(self.context, changes, &mut log);
        }
        let all = std::iter::once(index).chain(companions.iter().map(|(other, _)| *other));
        let packages: Vec<_> = all.filter_map(|at| recipe.resources[at].resource.as_packages()).collect();
        AptPackages::apply_together(&packages, self.context, stop, &mut log)
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
                return (self.sink)(Event::Failed { resource: "handlers".into(), error: error.to_string() });
            }
        };
        for (index, handler) in
            recipe.handlers.iter().enumerate().filter(|(_, handler)| due.contains(&Due::of(recipe, handler)))
        {
            // One that failed has been told of, and is due in the next run.
            if self.failed_handlers.contains(&index) {
                continue;
            }
            let start = Instant::now();
            let resource = handler.name.clone();
            (self.sink)(Event::Started { resource: resource.clone() });
            match handlers::run(self.context.machine, recipe, handler) {
                Ok(()) => {
                    self.counts.changed += 1;
                    (self.sink)(changed(resource, vec![handlers::change()], start));
                }
                Err(error) => {
                    self.counts.failed += 1;
                    self.failed_handlers.insert(index);
                    (self.sink)(Event::Failed { resource, error: error.to_string() });
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
                (self.sink)(changed(declared.name.clone(), changes.to_vec(), start));
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
        (self.sink)(Event::Failed { resource: self.recipe.resources[index].name.clone(), error });
    }

    fn skip(&mut self, index: usize, reason: String) {
        self.failed.insert(index);
        self.counts.skipped += 1;
        (self.sink)(Event::Skipped { resource: self.recipe.resources[index].name.clone(), reason });
    }
}

fn changed(resource: String, changes: Vec<Change>, start: Instant) -> Event {
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Event::Changed { resource, changes, milliseconds }
}

fn describe(changes: &[Change]) -> String {
    let changes = changes.iter().map(|c| format!("{}: {} → {}", c.what, c.before, c.after));
    changes.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Bundle, HostInfo};
    use crate::resource::testing::Fake;

    fn run(fake: &Fake, resources: &str) -> (Applied, Vec<String>) {
        let text = format!("description = \"d\"\nsupports = [\"debian 12\"]\n{resources}");
        let host = HostInfo { name: "h".into(), user: "u".into() };
        let recipe = Recipe::read(&Bundle::of("r", text, Default::default()), &fake.facts, &host).unwrap();
        let mut events = Vec::new();
        let mut sink = |event: Event| {
            events.push(match event {
                Event::Changed { resource, .. } => format!("changed {resource}"),
                Event::Failed { resource, error } => format!("failed {resource}: {error}"),
                Event::Skipped { resource, .. } => format!("skipped {resource}"),
                _ => return,
            });
        };
        let stop = AtomicBool::new(false);
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
}
