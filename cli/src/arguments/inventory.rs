use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Inventory {
    /// Say which hosts there are, how each is reached, and which groups it is in.
    List {
        /// Only those of this group.
        group: Option<String>,
        #[command(flatten)]
        from: InventoryChoice,
    },
    /// Say what holds for a host, and where each value comes from.
    Show {
        /// The host.
        host: String,
        #[command(flatten)]
        from: InventoryChoice,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InventoryChoice {
    /// The inventory to look in.
    #[arg(long, value_name = "FILE")]
    pub(crate) inventory: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
