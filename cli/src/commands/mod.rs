//! The commands.

mod acceptance;
mod artifacts;
mod attach;
mod cancel;
mod choices;
mod clean;
mod config;
mod disconnect;
mod doctor;
mod fingerprint;
mod fleet;
mod hosts;
mod init;
mod inventory;
mod kernel;
mod password;
mod privileges;
mod reach;
mod reboot;
mod recipe;
mod report;
pub(crate) mod sandbox;
mod terminal;
mod uninstall;
mod virtual_machine;
mod work;

use std::io::{self, Write};

use crate::arguments::Command;
use crate::client::Trouble;
use crate::diagnostics;
use crate::exit::Status;
use crate::settings::SettingsError;
use crate::view::{HostOutcome, Shown, View};

/// Why a command was not begun: wrong usage, recipe, inventory or suite. No host was touched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("{}", diagnostics::render(.0))]
    Problems(#[from] toril_document::Problems),
    #[error("{0}")]
    Settings(SettingsError),
    #[error("{0}")]
    Other(String),
}

impl From<SettingsError> for UsageError {
    fn from(error: SettingsError) -> UsageError {
        match error {
            // Shown with their places, like those of the other files.
            SettingsError::Problems(problems) => UsageError::Problems(problems),
            other => UsageError::Settings(other),
        }
    }
}

impl UsageError {
    /// With another one. Mistakes in documents come alone: what else is wrong is told once they are mended.
    fn and(self, other: UsageError) -> UsageError {
        match (self, other) {
            (UsageError::Problems(mut problems), UsageError::Problems(more)) => {
                problems.add(more);
                UsageError::Problems(problems)
            }
            (first @ UsageError::Problems(_), _) => first,
            (_, second @ UsageError::Problems(_)) => second,
            (first, second) => UsageError::Other(format!("{first}\nerror: {second}")),
        }
    }

    /// All of several, or what is wrong with any of them.
    fn in_any<T>(results: impl IntoIterator<Item = Result<T, UsageError>>) -> Result<Vec<T>, UsageError> {
        let (mut all, mut wrong) = (Vec::new(), None::<UsageError>);
        for result in results {
            match result {
                Ok(value) => all.push(value),
                Err(error) => {
                    wrong = Some(match wrong {
                        Some(before) => before.and(error),
                        None => error,
                    });
                }
            }
        }
        wrong.map_or(Ok(all), Err)
    }
}

/// Does a command of the user's.
pub(crate) fn run(command: Command) -> Status {
    let result = match command {
        Command::Up(arguments) => work::up(&arguments),
        Command::Apply(arguments) => work::apply(&arguments),
        Command::Check(arguments) => work::check(&arguments),
        Command::Verify(arguments) => work::verify(&arguments),
        Command::Test(arguments) => work::test(&arguments),
        Command::Facts(arguments) => work::facts(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
        Command::Acceptance(arguments) => acceptance::acceptance(&arguments),
        Command::Run(arguments) => kernel::run(&arguments),
        Command::Attach(arguments) => attach::attach(&arguments),
        Command::Cancel(arguments) => cancel::cancel(&arguments),
        Command::Clean(arguments) => clean::clean(&arguments),
        Command::Uninstall(arguments) => uninstall::uninstall(&arguments),
        Command::Config(arguments) => config::config(&arguments),
        Command::Disconnect(arguments) => disconnect::disconnect(&arguments),
        Command::Init(arguments) => init::init(&arguments),
        Command::Inventory(arguments) => inventory::run(&arguments),
        Command::Recipe(arguments) => recipe::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Sandbox(arguments) => sandbox::run(&arguments),
        // main has taken these.
        Command::Agent
        | Command::AgentWorker { .. }
        | Command::AgentWatcher { .. }
        | Command::Isolate
        | Command::TryKvm
        | Command::SandboxStage { .. } => Ok(Status::Usage),
    };
    result.unwrap_or_else(|error| {
        // Mistakes are shown with their places first, and counted at the end.
        let prefix = if matches!(error, UsageError::Problems(_)) { "" } else { "error: " };
        // There is nobody left to tell if this fails.
        drop(writeln!(io::stderr(), "{prefix}{error}"));
        Status::Usage
    })
}

/// Tells that something could not be done.
fn problem(view: &View, host: Option<&str>, doing: &str, trouble: &Trouble) {
    let remedy = trouble.remedy.as_deref();
    view.show(host, &Shown::Problem { doing, error: &trouble.error, remedy });
}

/// Tells that something could not be done on a host, and notes it for the end.
fn fail(view: &View, outcome: &mut HostOutcome, doing: &str, trouble: &Trouble, status: Status) {
    problem(view, Some(&outcome.host), doing, trouble);
    let reason = trouble.error.lines().next().unwrap_or_default();
    outcome.problem = Some(format!("{doing}: {reason}"));
    outcome.unreachable |= trouble.unreachable;
    outcome.statuses.push(status);
}

/// Shows how everything ended and says what to exit with.
fn finish(view: &View, outcomes: &[HostOutcome]) -> Status {
    let status = Status::worst(outcomes.iter().map(HostOutcome::status));
    view.finish(outcomes, status)
}
