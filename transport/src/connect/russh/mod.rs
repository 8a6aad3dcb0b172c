//! The ssh client that is built in: no ssh program is needed.

mod algorithms;
mod ask;
mod client;
mod clock;
mod config;
mod guard;
mod keys;
mod known_hosts;
mod locked;
mod login;
mod network;
mod pattern;
mod process;
mod rekey;
mod route;
mod secrets;
mod tokens;

pub(super) use client::Client;
pub use route::{Route, route};
pub(super) use secrets::key;
pub use secrets::{KEY_VARIABLE, PASSPHRASE_VARIABLE, take_secrets};
