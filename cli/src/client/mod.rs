//! The client's side: a host that was reached and whose agent answers.

mod error;
mod host;

pub(crate) use error::{ClientError, Trouble, chain};
pub(crate) use host::{Client, Way};
