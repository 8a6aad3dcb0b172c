//! The commands.

mod attach;
mod choices;
mod hosts;
mod kernel;
mod reach;
pub(crate) mod sandbox;
mod work;

use std::io::{self, Write};

use crate::arguments::Command;
use crate::diagnostics;
use crate::exit::Status;
use crate::view::{HostOutcome, View};

/// Why a command was not begun: wrong usage, recipe, inventory or suite. No host was touched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("{}", diagnostics::render(.0))]
    Problems(#[from] toril_document::Problems),
    #[error("{0}")]
    Other(String),
}

/// Does a command of the user's.
pub(crate) fn run(command: Command) -> Status {
    let result = match command {
        Command::Up(arguments) => work::up(&arguments),
        Command::Apply(arguments) => work::apply(&arguments),
        Command::Check(arguments) => work::check(&arguments),
        Command::Test(arguments) => work::test(&arguments),
        Command::Facts(arguments) => work::facts(&arguments),
        Command::Run(arguments) => kernel::run(&arguments),
        Command::Attach(arguments) => attach::attach(&arguments),
        Command::Sandbox(arguments) => sandbox::run(&arguments),
        // main has taken these.
        Command::Agent | Command::AgentWorker { .. } | Command::Isolate | Command::SandboxStage { .. } => {
            Ok(Status::Usage)
        }
    };
    result.unwrap_or_else(|error| {
        // There is nobody left to tell if this fails.
        drop(writeln!(io::stderr(), "error: {error}"));
        Status::Usage
    })
}

/// Shows how everything ended and says what to exit with.
fn finish(view: &View, outcomes: &[HostOutcome]) -> Status {
    let status = Status::worst(outcomes.iter().map(HostOutcome::status));
    view.finish(outcomes, status);
    status
}
