use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use toril_machine::{Facts, Machine};

use super::plan::{check_supported, observe, plan};
use super::{Counts, Event, ItemState, PlanError};
use crate::apt;
use crate::recipe::{Declared, Recipe};
use crate::resource::{Change, Context, ResourceError};

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
        sink,
        failed: BTreeSet::new(),
        installed: BTreeSet::new(),
        counts: Counts::default(),
    };
    let mut stopped = false;
    for index in 0..recipe.resources.len() {
        stopped = stopped || stop.load(Ordering::Relaxed);
        if stopped {
            run.skip(index, "the run was stopped".into());
        } else {
            run.resource(index);
        }
    }
    let Run { mut counts, failed, .. } = run;
    let after = plan(recipe, machine, facts)?;
    if counts.changed > 0 && failed.is_empty() && !stopped {
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
    sink: &'r mut dyn FnMut(Event),
    /// Positions of the resources that failed or were skipped.
    failed: BTreeSet<usize>,
    /// Positions of the packages that went into an earlier one's transaction, whether or not it succeeded.
    installed: BTreeSet<usize>,
    counts: Counts,
}

impl Run<'_> {
    fn resource(&mut self, index: usize) {
        let recipe = self.recipe;
        let declared = &recipe.resources[index];
        if let Some(culprit) = declared.after.iter().find(|before| self.failed.contains(before)) {
            return self.skip(index, format!("it needs `{}`, which failed", recipe.resources[*culprit].name));
        }
        match observe(declared, self.context) {
            ItemState::Satisfied if self.installed.contains(&index) => {}
            ItemState::Satisfied | ItemState::Undecidable { .. } => self.counts.satisfied += 1,
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
            .map(|other| (other, observe(&self.recipe.resources[other], self.context).changes().to_vec()))
            .filter(|(_, changes)| !changes.is_empty())
            .collect();
        match self.carry_out(index, declared, changes, &companions) {
            Err(error) => self.fail(index, error.to_string()),
            Ok(()) => self.confirm(index, changes, start),
        }
        for (other, changes) in companions {
            self.installed.insert(other);
            if !self.failed.contains(&index) {
                self.confirm(other, &changes, start);
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
        let sink = &mut *self.sink;
        let mut log =
            |line: &str| sink(Event::Progress { resource: declared.name.clone(), line: line.to_owned() });
        if declared.resource.as_packages().is_none() {
            return declared.resource.apply(self.context, changes, &mut log);
        }
        let all = std::iter::once(index).chain(companions.iter().map(|(other, _)| *other));
        let packages: Vec<_> = all.filter_map(|at| recipe.resources[at].resource.as_packages()).collect();
        let names: Vec<&str> = packages.iter().flat_map(|p| p.install.iter().map(String::as_str)).collect();
        apt::install(&names, packages.iter().any(|p| p.recommends), &mut log)
    }

    /// A change counts only when the machine itself now shows it.
    fn confirm(&mut self, index: usize, changes: &[Change], start: Instant) {
        let declared = &self.recipe.resources[index];
        match observe(declared, self.context) {
            ItemState::Unreadable { reason } => self.fail(index, reason),
            state if !state.changes().is_empty() => {
                self.fail(index, format!("the change did not take: {}", describe(state.changes())));
            }
            _ => {
                self.counts.changed += 1;
                (self.sink)(Event::Changed {
                    resource: declared.name.clone(),
                    changes: changes.to_vec(),
                    milliseconds: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
                });
            }
        }
    }

    /// Later packages that nothing unfinished stands before: they go into the same transaction.
    fn packages_to_go_with(&self, index: usize) -> Vec<usize> {
        let resources = &self.recipe.resources;
        let ready = |other: &usize| {
            resources[*other]
                .after
                .iter()
                .all(|before| *before < index || resources[*before].resource.as_packages().is_some())
                && !resources[*other].after.iter().any(|before| self.failed.contains(before))
        };
        let later = index + 1..resources.len();
        later.filter(|other| resources[*other].resource.as_packages().is_some()).filter(ready).collect()
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

fn describe(changes: &[Change]) -> String {
    let changes = changes.iter().map(|c| format!("{}: {} → {}", c.what, c.before, c.after));
    changes.collect::<Vec<_>>().join("; ")
}
