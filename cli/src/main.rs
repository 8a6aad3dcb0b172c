//! The `toril` program: arguments, commands, the agent's entry, and what the user sees.

mod agent;
mod arguments;
mod client;
mod commands;
mod diagnostics;
mod exit;
mod interrupt;
mod settings;
mod source;
mod view;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::exit::Status;

fn main() -> ExitCode {
    hide_secrets();
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Agent => internal(agent::front()),
        Command::AgentWorker { directory } => internal(agent::worker(directory)),
        Command::AgentWatcher { directory } => internal(agent::watcher(directory)),
        Command::TryKvm => internal(try_kvm()),
        Command::Isolate => toril_runner::isolate(),
        Command::SandboxStage { arguments } => {
            internal(toril_sandbox::stage(&arguments).map(|never| match never {}))
        }
        command => commands::run(command).into(),
    }
}

/// What this program starts is not to inherit the user's private key.
#[expect(unsafe_code, reason = "the environment is changed while there is one thread")]
fn hide_secrets() {
    for name in toril_transport::take_secrets() {
        // SAFETY: nothing was started yet that could read the environment at the same time.
        unsafe { std::env::remove_var(name) };
    }
}

/// Prints what came of a trial of KVM, as JSON.
fn try_kvm() -> io::Result<()> {
    let trial = serde_json::to_string(&toril_machine::try_kvm())?;
    writeln!(io::stdout(), "{trial}")
}

/// The end of a hidden command, whose reader is another toril: it shows what is said here to the user.
fn internal<E: std::error::Error>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody left to tell if this fails.
            drop(writeln!(io::stderr(), "{}", client::chain(&error)));
            Status::Operation.into()
        }
    }
}
