//! What the user sees where no host is needed, or none may be touched: no root, no sandbox, no network.
//! `INSTA_UPDATE=always cargo test -p toril --test behaviour` writes the snapshots anew; read the difference.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod acceptance;
mod documents;
mod init;
mod inventory;
#[path = "../e2e/harness/program.rs"]
#[expect(dead_code, reason = "the end-to-end tests use all of it")]
mod program;
mod recipe_commands;
mod refusals;
mod reports;
mod seen;
mod settings;
mod usage;
