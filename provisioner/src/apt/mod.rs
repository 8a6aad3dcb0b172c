//! Apt and dpkg as they are on real hosts.

mod estimate;
mod locks;
mod status;
mod transaction;

pub use estimate::Estimate;
pub(crate) use estimate::estimate;
pub(crate) use status::Database;
pub(crate) use transaction::install;
