//! Both transports against a real sshd.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "helpers of tests fail like tests, and skips are printed"
)]

mod client;
mod connecting;
mod delivery;
mod questions;
mod russh;
mod support;
