//! A guest under QEMU's microvm: its command line, its monitor.

mod command_line;
mod monitor;

pub(crate) use command_line::{Channels, QemuCommand, Sandbox};
pub(crate) use monitor::{GO, Monitor};
