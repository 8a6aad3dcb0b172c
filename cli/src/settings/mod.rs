//! What holds where the command line says nothing: the environment, the project's `toril.toml`, the user's, and what
//! is built in, in this order. Each value knows where it came from.

mod file;
mod resolve;

pub(crate) use file::{SettingsFile, schema};
pub(crate) use resolve::{Origin, Setting, Settings, SettingsError, Variable};
