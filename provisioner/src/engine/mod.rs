//! From a recipe to a plan, and from a plan to a machine that is as the recipe says.

mod apply;
mod beforehand;
mod event;
mod handlers;
mod judge;
mod plan;

pub use apply::{Applied, apply};
pub use event::{Counts, Event};
pub(crate) use handlers::DUE;
pub use plan::{Item, ItemState, Plan, PlanError, plan, plan_and_audit};
