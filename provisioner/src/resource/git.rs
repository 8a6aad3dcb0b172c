//! Git, as whom a repository belongs to.

use std::path::Path;
use std::time::Duration;

use super::program::Program;
use super::{Context, ResourceError};

/// What git is told at every call: a repository must not have programs of its choice run.
const ALWAYS: [&str; 7] =
    ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.version=2"];

/// How git is called. Another one than the owner could be had by a repository to do things in the owner's stead, and git
/// would refuse it.
#[derive(Debug)]
pub(super) struct Git<'g> {
    /// Root, where nobody is named.
    pub(super) run_as: Option<&'g str>,
    pub(super) directory: &'g Path,
    /// Other names and values for its environment.
    pub(super) env: &'g [(&'g str, &'g Path)],
    pub(super) deadline: Duration,
}

impl Git<'_> {
    /// Runs it to its end, and returns what it prints.
    pub(super) fn run(&self, context: Context<'_>, args: &[&str]) -> Result<String, ResourceError> {
        let words = ALWAYS.iter().chain(args).map(|word| (*word).to_owned()).collect();
        let dir = Some(self.directory.display().to_string());
        let run_as = self.run_as.map(str::to_owned);
        let program = Program { words, run_as, dir, deadline: self.deadline };
        let command = program.command(context.machine).known().map_err(ResourceError)?;
        let command = command.ok_or_else(|| {
            ResourceError(format!("there is no user `{}` to run git as", self.run_as.unwrap_or("root")))
        })?;
        let env = self.env.iter();
        let command = env.fold(command, |command, (name, value)| command.env(name, value));
        command
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
            .output_unless(&|| context.is_stopped())
            .map_err(ResourceError::new)
    }
}
