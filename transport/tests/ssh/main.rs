//! Both transports against a real sshd.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "helpers of tests fail like tests, and skips are printed"
)]

mod connecting;
mod delivery;
mod russh;
mod support;
