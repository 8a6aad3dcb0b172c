//! `assert`: a command that must succeed, and what it must print. The recipe's author vouches that it only reads.

use std::time::Duration;

use toril_document::Table;
use toril_machine::{Command, CommandError};

use super::{Change, Context, Judged, Kind, Resource, ResourceError, Wanted, read_name};

#[derive(Debug)]
struct Assertion {
    command: Vec<String>,
    contains: Option<String>,
    run_as: Option<String>,
    deadline: Duration,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let command = table.required_strings("command");
    let contains = table.string("contains").map(|text| text.value);
    let run_as = match table.has("run-as") {
        true => read_name(table, "run-as"),
        false => {
            drop(table.take("run-as"));
            None
        }
    };
    let deadline = table.duration("deadline").unwrap_or(Duration::from_secs(20));
    let command = command?.into_iter().map(|text| text.value).collect();
    Some(Box::new(Assertion { command, contains, run_as, deadline }))
}

impl Assertion {
    fn command(&self) -> Command {
        let command = self.command.iter().map(String::as_str);
        // setpriv reads the groups from the database: a login keeps those it began with.
        let identity = self.run_as.as_ref().map(|user| {
            [format!("--reuid={user}"), format!("--regid={user}"), "--init-groups".into(), "--".into()]
        });
        match &identity {
            None => Command::new(&self.command[0], command.skip(1)),
            Some(identity) => Command::new("setpriv", identity.iter().map(String::as_str).chain(command)),
        }
        .deadline(self.deadline)
    }

    fn expectation(&self) -> String {
        match &self.contains {
            Some(text) => format!("succeeds and prints `{text}`"),
            None => "succeeds".into(),
        }
    }
}

impl Kind for Assertion {
    /// What is wrong, if anything.
    type State = Option<String>;

    fn observe(&self, context: Context<'_>) -> Result<Option<String>, ResourceError> {
        if !context.machine.is_this() {
            return Err(ResourceError("commands cannot be run for a machine that is not this one".into()));
        }
        let command = self.command();
        let finished = match command.run() {
            Ok(finished) => finished,
            Err(error @ (CommandError::NotFound { .. } | CommandError::TimedOut { .. })) => {
                return Ok(Some(error.to_string()));
            }
            Err(error) => return Err(ResourceError::new(error)),
        };
        if !finished.status.success() {
            return Ok(Some(command.failed(&finished).to_string()));
        }
        let printed = |bytes: &[u8], text: &str| String::from_utf8_lossy(bytes).contains(text);
        Ok(match &self.contains {
            // Some programs print their help on standard error.
            Some(text) if !printed(&finished.stdout, text) && !printed(&finished.stderr, text) => {
                Some(format!("`{command}` prints nothing with `{text}`"))
            }
            _ => None,
        })
    }

    fn compare(&self, _: Context<'_>, state: &Option<String>) -> Judged {
        let change = state.as_ref().map(|wrong| Change::new("assertion", wrong, self.expectation()));
        Judged { changes: change.into_iter().collect(), impossible: None }
    }

    fn apply(
        &self,
        _: Context<'_>,
        changes: &[Change],
        _: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        // Nothing can be done about it here: what would mend it are the resources it stands on.
        let wrong = changes.iter().map(|change| change.before.as_str()).collect::<Vec<_>>().join("; ");
        Err(ResourceError(format!("the assertion does not hold: {wrong}")))
    }

    fn follows(&self) -> Vec<Wanted> {
        let user = self.run_as.iter().map(|user| Wanted::User(user.clone()));
        let paths = self
            .command
            .iter()
            .filter(|word| word.starts_with('/'))
            .map(|word| Wanted::Above(format!("{word}/")));
        user.chain(paths).chain([Wanted::Packages]).collect()
    }

    fn decided_by_others(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use toril_machine::Machine;

    use super::*;
    use crate::resource::testing::Fake;

    fn wrong(command: &[&str], contains: Option<&str>) -> Option<String> {
        let fake = Fake::new();
        let machine = Machine::this();
        let assertion = Assertion {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            contains: contains.map(str::to_owned),
            run_as: None,
            deadline: Duration::from_secs(5),
        };
        Kind::observe(&assertion, Context { machine: &machine, facts: &fake.facts }).unwrap()
    }

    #[test]
    fn status_and_output_count() {
        assert_eq!(wrong(&["echo", "microvm"], Some("microvm")), None);
        assert_eq!(wrong(&["sh", "-c", "echo microvm >&2"], Some("microvm")), None);
        assert_eq!(
            wrong(&["echo", "q35"], Some("microvm")).unwrap(),
            "`echo q35` prints nothing with `microvm`"
        );
        assert_eq!(wrong(&["false"], None).unwrap(), "`false` exited with status 1");
        assert!(wrong(&["toril-no-such"], None).unwrap().contains("no such program"));
    }
}
