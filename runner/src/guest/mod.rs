//! A guest under QEMU's microvm: its command line, its monitor, and what it needs besides.

mod by_hand;
mod command_line;
mod devices;
mod forward;
mod inquiry;
mod kernel;
mod monitor;
mod patience;
mod plan;
mod share;
mod tools;
mod tree;
mod virtiofsd;
mod vsock;

pub(crate) use command_line::{Channels, QemuCommand, Sandbox};
pub(crate) use devices::Devices;
pub(crate) use inquiry::Inquiry;
pub(crate) use monitor::{GO, GREET, Monitor};
pub(crate) use patience::Patience;
pub(crate) use plan::{Setting, plan};
pub(crate) use share::ShareFolder;
pub(crate) use tools::Tools;
pub(crate) use vsock::Cid;
