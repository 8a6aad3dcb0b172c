//! Recipes, resources and plans: what a machine must be like, what it is like, and how it gets from the one to the
//! other. Works on the machine it runs on and knows nothing of how it came there.

mod apt;
mod audit;
mod engine;
mod lock;
mod made;
mod preflight;
mod recipe;
mod resource;
mod survey;
mod unfinished;

pub use apt::{Estimate, unfinished_packages, wait_for_packages};
pub use audit::{Depth, Finding, LAST_RUN};
pub use engine::{Applied, Counts, Event, Item, ItemState, Plan, PlanError, apply, plan, plan_and_audit};
pub use lock::{Lock, LockedHost, LockedProgram};
pub use made::{Made, OWN, made};
pub use preflight::{Check, CheckState, KVM, check_kvm, preflight};
pub use recipe::{
    Bundle, Described, DescribedHandler, HostInfo, LockFile, OpenSource, Recipe, RecipeFile, Release,
    TemplateFile, describe_releases, sample_facts,
};
pub use recipe::{kind_shapes, recipe_schema};
pub use resource::{Change, KINDS};
pub use survey::{
    Candidate, DpkgState, Keyring, LayOutError, Module, Place, Policy, ReleaseFile, SigningKey, Survey,
    Traces, survey,
};
pub use unfinished::{RECORD as UNFINISHED, sweep_unfinished, unfinished};
