//! `toril run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::choices::{AcceleratorArgument, Fetching, Keeping, Reporting, Running, Way};
use super::values::{duration, size};

#[derive(Debug, Clone, Args)]
pub(crate) struct Run {
    /// The kernel: an ELF file that QEMU can boot by PVH.
    pub(crate) kernel: PathBuf,
    /// The host to boot it on.
    #[arg(long, value_name = "HOST", default_value = "local")]
    pub(crate) on: String,
    /// The kernel's command line.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) append: String,
    /// The guest's memory.
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = size)]
    pub(crate) memory: u64,
    /// The guest's CPUs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) cpus: u32,
    /// How long it may run. 60s, with --console or --gdb 24h.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,
    /// A directory of this machine, of which the guest gets a copy by virtio-fs.
    #[arg(long, value_name = "DIR")]
    pub(crate) share: Option<PathBuf>,
    /// The tag that the guest knows the directory by.
    #[arg(long, value_name = "TAG", default_value = "share", requires = "share")]
    pub(crate) tag: String,
    /// Give the guest a vsock.
    #[arg(long)]
    pub(crate) vsock: bool,
    /// Let a TCP port of the host's 127.0.0.1 lead to a port of the guest's vsock, such as `4000:80`.
    #[arg(long, value_name = "HOST:GUEST")]
    pub(crate) forward: Vec<toril_runner::Forward>,
    /// Send what is typed here to the guest's serial port. Ctrl-] ends the guest.
    #[arg(long, conflicts_with = "json")]
    pub(crate) console: bool,
    /// Have the guest wait for gdb, and say how to connect it.
    #[arg(long)]
    pub(crate) gdb: bool,
    #[command(flatten)]
    pub(crate) accelerator: AcceleratorArgument,
    #[command(flatten)]
    pub(crate) way: Way,
    #[command(flatten)]
    pub(crate) running: Running,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
}
