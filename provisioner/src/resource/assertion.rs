//! `assert`: a command that must succeed, and what it must print. The recipe's author vouches that it only reads.

use std::time::Duration;

use toril_document::Table;
use toril_machine::CommandError;

use super::program::Program;
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Wanted, optional_name};

#[derive(Debug)]
struct Assertion {
    program: Program,
    contains: Option<String>,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let words = table.required_strings("command");
    let contains = table.string("contains").map(|text| text.value);
    let run_as = optional_name(table, "run-as");
    let deadline = table.duration("deadline").unwrap_or(Duration::from_secs(20));
    let words = words?.into_iter().map(|text| text.value).collect();
    let program = Program { words, run_as, dir: None, deadline };
    Some(Box::new(Assertion { program, contains }))
}

impl Assertion {
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
        let Some(command) = self.program.command(context.machine).known().map_err(ResourceError)? else {
            let user = self.program.run_as.as_deref().unwrap_or("root");
            return Ok(Some(format!("there is no user `{user}` to run it as")));
        };
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
        change.into_iter().collect::<Vec<_>>().into()
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
        self.program.follows()
    }

    fn decided_by_others(&self) -> bool {
        true
    }

    fn may_use_apt(&self) -> bool {
        true
    }

    fn asks_programs(&self) -> bool {
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
        let program = Program {
            words: command.iter().map(|word| (*word).to_owned()).collect(),
            run_as: None,
            dir: None,
            deadline: Duration::from_secs(5),
        };
        let assertion = Assertion { program, contains: contains.map(str::to_owned) };
        Kind::observe(&assertion, fake.context_on(&machine)).unwrap()
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
