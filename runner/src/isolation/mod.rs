//! Every test's processes live in a process namespace of their own, so that all of them end when the test does.
//!
//! `unshare` makes the namespace; its first process is this program again ([`isolate`]), which starts the test as the
//! unprivileged user, tells how it ended, and ends, upon which the kernel kills whatever is left. It also ends as
//! soon as its control socket closes, which happens when the runner wants it to or dies itself.

mod cell;
mod init;
mod message;
mod set_id;

pub(crate) use cell::Cell;
pub use init::isolate;
pub(crate) use message::{Report, Spec, file_placeholder};
