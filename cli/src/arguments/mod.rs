//! What the command line may say.

mod acceptance;
mod choices;
mod config;
mod init;
mod inventory;
mod recipe;
mod report;
mod run;
mod sandbox;
mod uninstall;
mod values;
mod work;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use acceptance::Acceptance;
pub(crate) use choices::{
    Accel, AcceleratorArgument, Fetching, Hosts, Output, Reboot, RecipeChoice, Reporting, Running,
    SuiteChoice, Way,
};
pub(crate) use config::{Config, SchemaOf};
pub(crate) use init::{Ci, Init};
pub(crate) use inventory::{Inventory, InventoryChoice};
pub(crate) use recipe::{Recipe, RecipeLock, RecipeTest};
pub(crate) use report::{Compare, Merge, Report};
pub(crate) use run::Run;
pub(crate) use sandbox::{Sandbox, VirtualMachine};
pub(crate) use uninstall::Uninstall;
pub(crate) use work::{Apply, Attach, Cancel, Check, Clean, Disconnect, Doctor, Facts, Test, Up, Verify};

/// Makes Debian hosts fit for microVM tests, keeps them honest, and runs the tests there.
///
/// HOST is `[user@]host[:port]`, a host or a group of inventory.toml, `all`, `local`, `sandbox`, or `sandbox:NAME`.
#[derive(Debug, Parser)]
#[command(name = "toril", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring hosts to the recipe, then run the suite there.
    Up(Up),
    /// Bring hosts to the recipe.
    Apply(Apply),
    /// Say what drifted from the recipe, and change nothing. Exits with 3 if anything did.
    Check(Check),
    /// Boot guests on hosts that show what they can do: acceleration, virtio-fs, vsock, forwarding. Exits with 5 if
    /// anything does not work that counts.
    Verify(Verify),
    /// Run the suite on hosts that are ready for it.
    Test(Test),
    /// Prove on a host of your own what toril promises of it, and write it all to one file.
    Acceptance(Acceptance),
    /// Boot one kernel as a microVM guest and show what it prints.
    Run(Run),
    /// Say what is known of hosts.
    Facts(Facts),
    /// Say what this machine, the way to hosts and the hosts themselves lack for the job. Changes nothing.
    Doctor(Doctor),
    /// Follow a run that was begun earlier, from its beginning to its end.
    Attach(Attach),
    /// End a run on a host, and follow it to its end.
    Cancel(Cancel),
    /// Remove from hosts what runs have left there because it was wanted (`--keep`).
    Clean(Clean),
    /// Take away from a host what is toril's own, and say what stays.
    Uninstall(Uninstall),
    /// End connections that were left open for the next command.
    Disconnect(Disconnect),
    /// Say what holds here where the command line says nothing, and where each value comes from.
    Config(Config),
    /// Write what a project begins with: toril.toml, an inventory, a suite, and a workflow for its CI.
    Init(Init),
    /// Say which hosts and groups the inventory has, and where what it says of a host comes from.
    #[command(subcommand)]
    Inventory(Inventory),
    /// Look at recipes, and try them on throwaway hosts.
    #[command(subcommand)]
    Recipe(Recipe),
    /// Put together the reports of several runs.
    #[command(subcommand)]
    Report(Report),
    /// Throwaway Debian hosts on this machine. Needs root.
    #[command(subcommand)]
    Sandbox(Sandbox),
    /// The host's side.
    #[command(hide = true)]
    Agent,
    /// A run on the host.
    #[command(hide = true)]
    AgentWorker { directory: PathBuf },
    /// Who cleans up after a run that is killed.
    #[command(hide = true)]
    AgentWatcher { directory: PathBuf },
    /// A trial of KVM, in a process that may hang.
    #[command(hide = true)]
    TryKvm,
    /// A test's own process namespace.
    #[command(hide = true)]
    Isolate,
    /// A sandbox's own mount namespace.
    #[command(hide = true)]
    SandboxStage {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}
