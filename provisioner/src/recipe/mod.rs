//! Recipes: reading them, their variables and templates, and what may stand in them.

mod bundle;
mod read;
mod release;
mod scope;
mod when;

pub use bundle::{Bundle, HostInfo};
pub use read::{Declared, Recipe};
pub use release::{Release, describe_releases, sample_facts};
