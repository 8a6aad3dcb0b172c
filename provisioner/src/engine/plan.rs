use serde::{Deserialize, Serialize};
use toril_machine::{Facts, Machine};

use super::Counts;
use super::beforehand::Ahead;
use super::handlers::{self, Due};
use super::judge::judge_all;
use crate::apt::{self, Caches, Estimate};
use crate::audit::{Depth, Finding, audit};
use crate::recipe::{Declared, Recipe, describe_releases};
use crate::resource::{Change, Context, Judged, NEVER, ResourceError};

/// What a machine lacks of what its recipe says, resource by resource in the order of carrying out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Every resource that is for this machine.
    pub items: Vec<Item>,
    /// What would be fetched, where the host can tell.
    pub estimate: Option<Estimate>,
    /// What it takes to have its packages, step by step, as apt and dpkg stand now; none where nothing of them changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub package_steps: Vec<String>,
    /// Why a reboot is due, or nothing.
    pub reboot: Option<String>,
}

/// One resource of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The resource's name.
    pub resource: String,
    /// How it stands.
    pub state: ItemState,
    /// What is worth knowing of it, and is no drift.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// How a resource stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ItemState {
    /// It is as it should be.
    Satisfied,
    /// This has to change.
    Drift {
        /// The changes.
        changes: Vec<Change>,
    },
    /// This machine can never have it (or not all of it).
    Impossible {
        /// Why.
        reason: String,
        /// Whether the recipe accepts that.
        accepted: bool,
        /// What of it can be had and has to change.
        changes: Vec<Change>,
    },
    /// It cannot be judged before these resources are done: neither drift nor fine.
    Undecidable {
        /// The names of the resources.
        until: Vec<String>,
    },
    /// It cannot be judged by looking only: an apply will.
    Unjudged {
        /// Why.
        reason: String,
    },
    /// It could not be looked at.
    Unreadable {
        /// Why.
        reason: String,
    },
}

impl ItemState {
    /// What has to change.
    pub fn changes(&self) -> &[Change] {
        match self {
            ItemState::Drift { changes } | ItemState::Impossible { changes, .. } => changes,
            ItemState::Satisfied
            | ItemState::Undecidable { .. }
            | ItemState::Unjudged { .. }
            | ItemState::Unreadable { .. } => &[],
        }
    }
}

impl Plan {
    /// How many resources stand how.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for item in &self.items {
            match &item.state {
                ItemState::Satisfied => counts.satisfied += 1,
                ItemState::Drift { .. } => counts.drifted += 1,
                ItemState::Impossible { accepted: false, .. } => counts.failed += 1,
                ItemState::Impossible { changes, .. } if !changes.is_empty() => counts.drifted += 1,
                ItemState::Impossible { .. } => counts.impossible += 1,
                ItemState::Undecidable { .. } | ItemState::Unjudged { .. } => counts.undecidable += 1,
                ItemState::Unreadable { .. } => counts.failed += 1,
            }
        }
        counts
    }

    /// Whether an apply could change something.
    pub fn may_change(&self) -> bool {
        !self.is_empty() || self.items.iter().any(|item| matches!(item.state, ItemState::Unjudged { .. }))
    }

    /// Whether nothing is known to have to change.
    pub fn is_empty(&self) -> bool {
        self.items.iter().all(|item| item.state.changes().is_empty())
    }
}

/// A plan could not be made at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The machine runs something that the recipe is not for.
    #[error("this host runs {found}, and the recipe supports {supported}")]
    Unsupported {
        /// What the machine runs.
        found: String,
        /// What the recipe supports.
        supported: String,
    },
}

/// Looks at every resource of a recipe; reads only.
///
/// # Errors
/// The recipe is not for this machine. What could not be looked at is in the plan, as such.
pub fn plan(recipe: &Recipe, machine: &Machine, facts: &Facts) -> Result<Plan, PlanError> {
    check_supported(recipe, facts)?;
    Ok(plan_beside(recipe, machine, facts, || ()).0)
}

/// As [`plan`] and, where it is said how closely, an audit: the files that this reads are read while programs answer.
///
/// # Errors
/// The recipe is not for this machine.
pub fn plan_and_audit(
    recipe: &Recipe,
    machine: &Machine,
    facts: &Facts,
    depth: Option<Depth>,
) -> Result<(Plan, Vec<Finding>), PlanError> {
    check_supported(recipe, facts)?;
    let audit = || depth.map(|depth| audit(recipe, machine, facts, depth)).unwrap_or_default();
    Ok(plan_beside(recipe, machine, facts, audit))
}

fn plan_beside<T>(
    recipe: &Recipe,
    machine: &Machine,
    facts: &Facts,
    meanwhile: impl FnOnce() -> T,
) -> (Plan, T) {
    let context = Context { machine, facts, stop: &NEVER };
    let (mut items, other) = judge_all(recipe, context, meanwhile);
    items.extend(due_handlers(recipe, machine));
    let (package_steps, estimate) = packages(recipe, context, &items);
    (Plan { estimate, package_steps, items, reboot: facts.reboot_pending.clone() }, other)
}

pub(super) fn check_supported(recipe: &Recipe, facts: &Facts) -> Result<(), PlanError> {
    let x86 = facts.architecture == "x86_64";
    if x86 && recipe.supports.iter().any(|release| release.is_of(facts)) {
        return Ok(());
    }
    let found = format!("{} {} on {}", facts.os, facts.version, facts.architecture);
    Err(PlanError::Unsupported {
        found,
        supported: format!("{} on x86_64", describe_releases(&recipe.supports)),
    })
}

/// What an earlier run remembered and did not come to.
fn due_handlers(recipe: &Recipe, machine: &Machine) -> Vec<Item> {
    match handlers::due(machine) {
        Ok(due) => {
            let own = recipe.handlers.iter().filter(|handler| due.contains(&Due::of(recipe, handler)));
            let item = |name: &str| Item {
                resource: name.to_owned(),
                state: ItemState::Drift { changes: vec![handlers::change()] },
                notices: Vec::new(),
            };
            own.map(|handler| item(&handler.name)).collect()
        }
        Err(error) if !recipe.handlers.is_empty() => {
            vec![Item {
                resource: "handlers".into(),
                state: ItemState::Unreadable { reason: error.to_string() },
                notices: Vec::new(),
            }]
        }
        Err(_) => Vec::new(),
    }
}

/// How a resource stands by itself, in an apply.
pub(super) fn observe_to_apply(declared: &Declared, context: Context<'_>) -> ItemState {
    state(declared, declared.resource.judge_to_apply(context))
}

pub(super) fn state(declared: &Declared, judged: Result<Judged, ResourceError>) -> ItemState {
    match judged {
        Err(error) => ItemState::Unreadable { reason: error.to_string() },
        Ok(Judged { impossible: Some(reason), changes, .. }) => {
            ItemState::Impossible { reason, accepted: !declared.required, changes }
        }
        Ok(Judged { changes, .. }) if !changes.is_empty() => ItemState::Drift { changes },
        Ok(Judged { undecidable: Some(reason), .. }) => ItemState::Unjudged { reason },
        Ok(_) => ItemState::Satisfied,
    }
}

/// What it takes to have the packages that lack, and what would be fetched for them.
fn packages(recipe: &Recipe, context: Context<'_>, items: &[Item]) -> (Vec<String>, Option<Estimate>) {
    let drifted = recipe.resources.iter().zip(items).filter(|(_, item)| !item.state.changes().is_empty());
    let packages: Vec<_> = drifted.filter_map(|(declared, _)| declared.resource.as_packages()).collect();
    if packages.is_empty() {
        return (Vec::new(), None);
    }
    let Ok(database) = apt::Database::read(context.machine) else { return (Vec::new(), None) };
    let wishes = packages.iter().flat_map(|p| p.wishes(context, &database));
    let names: Vec<String> = wishes.map(|wish| wish.argument()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let beforehand = || Ahead::of_plan(recipe, items.iter().map(|item| &item.state));
    let steps = match apt::AptState::observe(context.machine) {
        Ok(state) if state.hindrance().is_none() && beforehand() => {
            let first = "download beforehand, while what comes before them is applied".to_owned();
            std::iter::once(first).chain(state.describe_steps(&names)).collect()
        }
        Ok(state) => state.describe_steps(&names),
        Err(error) => vec![format!("cannot look at apt: {error}")],
    };
    let recommends = packages.iter().any(|p| p.recommends);
    let estimate = context.machine.is_this().then(|| apt::estimate(&names, recommends, Caches::Unused));
    (steps, estimate.flatten())
}
