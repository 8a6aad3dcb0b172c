//! The client's side: a host that was reached and whose agent answers.

mod artifacts;
mod error;
mod follow;
mod host;
mod parcels;
mod reboot;
mod uninstall;

pub(crate) use error::{ClientError, Trouble, chain};
pub(crate) use follow::{Told, Typed};
pub(crate) use host::{Client, LoggedIn, Way};
pub(crate) use parcels::Parcels;
pub(crate) use uninstall::Uninstalled;
