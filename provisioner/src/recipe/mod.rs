//! Recipes: reading them, their variables and templates, and what may stand in them.

mod arrange;
mod bundle;
mod described;
mod head;
mod hold;
mod open;
mod read;
mod release;
mod resources;
mod schema;
mod scope;
mod when;

pub use bundle::{Bundle, HostInfo, LockFile, RecipeFile, TemplateFile};
pub use described::{Described, DescribedHandler};
pub use open::OpenSource;
pub use read::Recipe;
pub(crate) use read::{Declared, Handler};
pub use release::{Release, describe_releases, sample_facts};
pub use schema::{kind_shapes, recipe_schema};
