//! The whole program on real hosts: sandboxes with a real sshd, apt and QEMU. Only the binary is called.
//! What cannot run here says `SKIPPED` and why.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod acceptance;
mod apt;
mod builds;
mod ci;
mod control;
mod drift;
mod earlier;
mod errors;
mod examples;
mod fingerprint;
mod guests;
mod harness;
mod kills;
mod kinds;
mod main_job;
mod many;
mod modes;
mod push;
mod questions;
mod read_only;
mod releases;
mod reports;
mod runs;
mod secrets;
mod sources;
mod standing;
mod static_binary;
mod toro;
mod uninstall;
mod verify;
mod vm;
mod without_ssh;
