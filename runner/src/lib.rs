//! Suites, guests, cases, verdicts: the test runner of the machine it runs on.
//!
//! A [`Suite`] says what tests there are; [`run()`] runs them here and tells what happened as [`Event`]s. A test is a
//! command or a guest under QEMU; each runs as an unprivileged user in a process namespace of its own that ends with
//! the test ([`isolate`] is the process that makes it so), and ends in exactly one [`Outcome`].

mod accelerator;
mod account;
mod artifacts;
mod attempts;
mod build;
mod capture;
mod case;
mod control;
mod event;
mod execute;
mod folder;
mod gate;
mod guest;
mod isolation;
mod kept;
mod observe;
mod plan;
mod pvh;
pub mod report;
mod run;
mod run_directory;
mod schedule;
mod shell;
mod source;
mod step;
mod suite;
mod supervise;
pub mod toolkit;
mod verdict;
mod verify;

pub use accelerator::{Accelerator, AcceleratorPolicy, KvmState, probe_kvm};
pub use artifacts::Kept;
pub use case::{Case, CaseFormat, CaseResult, LineFormat};
pub use control::{Control, Shard, is_wanted};
pub use event::{Attempt, BuildResult, Built, Counts, Event, Summary, TestResult};
pub use folder::remove_tree;
pub use gate::{Gate, Measured, Metric};
pub use isolation::isolate;
pub use kept::{KeptFolder, Purpose, RunFolder, kept_folders, remove_kept_folders};
pub use pvh::{NoKernel, check_pvh_kernel};
pub use run::{Options, STATE, run};
pub use run_directory::sweep;
pub use source::{SourceInfo, Supply};
pub use suite::{
    AcceleratorChoice, Action, Build, BuiltInSuite, CaseRules, CommandTest, Companion, ExpectedEnd, Forward,
    GuestSettings, Kernel, Pattern, SMOKE, Share, Source, Suite, Test, check_reference,
};
pub use verdict::{Outcome, exit_status};
pub use verify::{Background, OwnKernel, Probe, ProbeResult, ProbeState, Verified, verify};
