//! Apt and dpkg as they are on real hosts.

mod depends;
mod estimate;
mod failure;
mod indexes;
pub(crate) mod keyring;
pub(crate) mod lists;
mod locks;
mod offers;
mod prefetch;
mod refresh;
mod requirement;
mod retry;
mod run;
mod state;
mod status;
mod steps;
mod transaction;

pub use estimate::Estimate;
pub(crate) use estimate::{Caches, estimate};
pub(crate) use lists::mirrors;
pub use locks::wait_for_packages;
pub(crate) use prefetch::{Lists, PLACE, Prefetched, prefetch};
pub(crate) use refresh::update_others;
pub(crate) use requirement::{Requirement, Wish};
pub(crate) use run::LOG;
pub(crate) use state::AptState;
pub use status::unfinished_packages;
pub(crate) use status::{Database, PackageState};
pub(crate) use transaction::{hold_at_once, install, mark};
