//! The client's side: a host that was reached and whose agent answers.

mod error;
mod follow;
mod host;
mod reboot;

pub(crate) use error::{ClientError, Trouble, chain};
pub(crate) use follow::Told;
pub(crate) use host::{Client, Way};
