//! `toril sandbox`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::choices::Accel;
use super::values::size;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Sandbox {
    /// Make a sandbox, or do nothing if it is there.
    Up {
        /// Its name.
        #[arg(default_value = "sandbox")]
        name: String,
        /// The Debian release: 11, 12 or 13. Without it, the snapshot's, else 12.
        #[arg(long, value_name = "RELEASE", value_parser = release)]
        release: Option<toril_sandbox::Release>,
        /// A file of apt sources (deb822) to make it from, instead of those of this machine's apt.
        #[arg(long, value_name = "FILE", conflicts_with = "from")]
        sources: Option<PathBuf>,
        /// Build it on a snapshot.
        #[arg(long, value_name = "SNAPSHOT")]
        from: Option<String>,
        /// The size of its disk, which is then held in memory.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        disk: Option<u64>,
        #[command(flatten)]
        machine: VirtualMachine,
    },
    /// Remove sandboxes and all that is in them.
    Down {
        /// Their names.
        #[arg(default_value = "sandbox")]
        names: Vec<String>,
        /// All of them.
        #[arg(long, conflicts_with = "names")]
        all: bool,
    },
    /// Say which sandboxes and snapshots there are.
    List,
    /// Remove snapshots.
    Forget {
        /// Their names.
        #[arg(required = true)]
        snapshots: Vec<String>,
    },
    /// Keep a sandbox's disk under a name, for `sandbox up --from`. Stops the sandbox.
    Snapshot {
        /// The sandbox.
        name: String,
        /// The snapshot's name.
        snapshot: String,
    },
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct VirtualMachine {
    /// Make it a virtual machine, with its own kernel, systemd and udev.
    #[arg(long, conflicts_with = "disk")]
    pub(crate) vm: bool,
    /// What the virtual machine runs under. Without it, KVM where guests run under it, else TCG (emulation).
    #[arg(long, value_name = "ACCEL", requires = "vm")]
    pub(crate) accel: Option<Accel>,
    /// The virtual machine's memory.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "2G", requires = "vm")]
    pub(crate) memory: u64,
    /// How many processors the virtual machine has. Without it, 2 under KVM, 1 under TCG, where they take turns.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64), requires = "vm")]
    pub(crate) cpus: Option<u32>,
}

fn release(text: &str) -> Result<toril_sandbox::Release, String> {
    toril_sandbox::Release::parse(text).map_err(|error| error.to_string())
}
