//! What every end-to-end test stands on: the binary with a deadline, and sandboxes that are gone when their test is.
//!
//! ```ignore
//! let Some(sandbox) = Sandbox::provisioned("drift") else { return };
//! toril(&["check", &sandbox.host()]).exits(0);
//! sandbox.sudo("apt-get remove -y socat");
//! toril(&["check", &sandbox.host()]).exits(3).shows("socat");
//! ```

mod documents;
mod possible;
mod processes;
mod program;
mod sandbox;
mod snapshot;

pub(crate) use documents::{Document, document};
pub(crate) use possible::{by_openssh, is_root, skip};
pub(crate) use processes::{command_line, descendants, parent};
pub(crate) use program::{Finished, Running, TORIL, Toril, toril};
pub(crate) use sandbox::Sandbox;
