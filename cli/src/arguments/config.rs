//! `toril config`.

use clap::{Args, ValueEnum};

#[derive(Debug, Clone, Args)]
pub(crate) struct Config {
    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the JSON Schema of a kind of file, for editors.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) schema: Option<SchemaOf>,
}

/// The kinds of files that users write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    Recipe,
    Suite,
    Inventory,
    Toril,
}
