//! Throwaway Debian hosts on this machine, reached by ssh like any other host.
//!
//! A sandbox is a container (`crun`) over an overlay of a cached base (`mmdebstrap`), with a real sshd as its first
//! process. What keeps the machine safe is a user namespace: root in a sandbox is an ordinary user id of the machine,
//! so modules, clock, reboot, sysctls, devices and the network's set-up are out of its reach whatever it does inside.
//! What keeps the machine clean is an outer PID and mount namespace: every process and every mount of a sandbox is in
//! it, and the kernel takes both away when its first process ends, however that happens.
//!
//! ```text
//! unshare (supervisor) ── stage ⇒ crun (init of the outer namespace) ── sshd (PID 1 inside) ── …
//! ```
//!
//! A sandbox may also be a virtual machine ([`Machine`]): QEMU over a layer of a cached disk image, with Debian's own
//! kernel, systemd and udev. It ends in the same way:
//!
//! ```text
//! unshare (supervisor) ── stage (init of the outer namespace) ── qemu
//! ```

mod base;
mod bootstrap;
mod dirs;
mod error;
mod files;
mod fixture;
mod host_dir;
mod launch;
mod name;
mod oci;
mod options;
mod plan;
mod ports;
mod process;
mod release;
mod sandboxes;
mod seed;
mod shift;
mod snapshots;
mod sources;
mod stage;
mod tools;
mod vm;

pub use base::Base;
pub use dirs::Dirs;
pub use error::Error;
pub use fixture::LIMITS as FIXTURE_LIMITS;
pub use options::{Options, Progress};
pub use release::Release;
pub use sandboxes::{Sandbox, Sandboxes, State};
pub use snapshots::Snapshot;
pub use stage::stage;
pub use tools::missing_tools;
pub use vm::{Accelerator, Kind, Machine};
