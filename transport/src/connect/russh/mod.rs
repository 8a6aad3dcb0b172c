//! The ssh client that is built in: no ssh program is needed.

mod algorithms;
mod ask;
mod client;
mod config;
mod guard;
mod keys;
mod known_hosts;
mod login;
mod network;
mod pattern;
mod process;
mod route;

pub(super) use client::Client;
pub use keys::{KEY_VARIABLE, PASSPHRASE_VARIABLE};
pub use route::{Route, route};
