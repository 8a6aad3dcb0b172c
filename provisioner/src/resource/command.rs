//! `command`: a command, with what makes it unnecessary.

use std::time::Duration;

use toril_document::Table;
use toril_machine::{CommandError, Probe};

use super::program::Program;
use super::{
    Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, optional_name, optional_path,
};

/// How long the test of whether it is needed may take.
const TEST_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct CommandResource {
    program: Program,
    /// How messages call it.
    shown: String,
    creates: Option<String>,
    unless: Option<Program>,
    /// Whether the recipe says that `unless` changes nothing.
    unless_is_read_only: bool,
}

/// Whether the command is needed.
enum Need {
    No,
    Because(String),
    NotTested,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let words = match (table.has("command"), table.has("shell")) {
        (_, false) => {
            let words = table.required_strings("command");
            drop(table.take("shell"));
            words.map(|words| words.into_iter().map(|word| word.value).collect::<Vec<_>>())
        }
        (false, true) => {
            drop(table.take("command"));
            // A script that goes on after a failure hides it.
            table.string("shell").map(|text| vec!["sh".into(), "-euc".into(), text.value])
        }
        (true, true) => {
            table.note("R032", table.span(), "`command` and `shell` do not go together", None);
            drop((table.take("command"), table.take("shell")));
            None
        }
    };
    let run_as = optional_name(table, "run-as");
    let dir = optional_path(table, "dir");
    let deadline = table.duration("deadline").unwrap_or(Duration::from_secs(600));
    let (has_creates, has_unless) = (table.has("creates"), table.has("unless"));
    let creates = optional_path(table, "creates");
    let unless = match has_unless {
        true => table.required_strings("unless"),
        false => {
            drop(table.take("unless"));
            None
        }
    };
    let read_only = table.boolean("unless-is-read-only");
    if !has_creates && !has_unless {
        let help = "name a file that it `creates`, or a test: `unless = [\"test\", …]`";
        let message = "a command needs what makes it unnecessary, or every run would change something";
        table.note("R032", table.span(), message, Some(help.into()));
    }
    if read_only.is_some() && !has_unless {
        table.note("R032", table.span(), "`unless-is-read-only` says nothing without `unless`", None);
    }
    let unless = unless.map(|words| Program {
        words: words.into_iter().map(|word| word.value).collect(),
        run_as: run_as.clone(),
        dir: dir.clone(),
        deadline: TEST_DEADLINE,
    });
    let program = Program { words: words?, run_as, dir, deadline };
    let shown = match &program.words[..] {
        [shell, flags, script] if shell == "sh" && flags == "-euc" => {
            script.trim().lines().next().unwrap_or_default().to_owned()
        }
        words => words.join(" "),
    };
    let unless_is_read_only = read_only.unwrap_or(false);
    Some(Box::new(CommandResource { program, shown, creates, unless, unless_is_read_only }))
}

impl CommandResource {
    fn look(&self, context: Context<'_>, may_test: bool) -> Result<Need, ResourceError> {
        if let Some(path) = &self.creates {
            match context.machine.exists(path) {
                Probe::Known(()) => {}
                Probe::Absent => return Ok(Need::Because(format!("there is no {path}"))),
                Probe::Unreadable(reason) => return Err(ResourceError(reason)),
            }
        }
        match &self.unless {
            None => Ok(Need::No),
            Some(_) if !may_test => Ok(Need::NotTested),
            Some(unless) => test(unless, context),
        }
    }
}

fn test(unless: &Program, context: Context<'_>) -> Result<Need, ResourceError> {
    let Some(command) = unless.command(context.machine).known().map_err(ResourceError)? else {
        return Ok(Need::Because(no_user(unless)));
    };
    match command.run() {
        Ok(finished) if finished.status.success() => Ok(Need::No),
        Ok(finished) => Ok(Need::Because(format!("`{}` {}", unless.words.join(" "), finished.how()))),
        Err(error @ CommandError::NotFound { .. }) => Ok(Need::Because(error.to_string())),
        Err(error) => Err(ResourceError::new(error)),
    }
}

fn no_user(program: &Program) -> String {
    format!("there is no user `{}` to run it as", program.run_as.as_deref().unwrap_or("root"))
}

impl Kind for CommandResource {
    type State = Need;

    fn observe(&self, context: Context<'_>) -> Result<Need, ResourceError> {
        self.look(context, self.unless_is_read_only)
    }

    fn observe_to_apply(&self, context: Context<'_>) -> Result<Need, ResourceError> {
        self.look(context, true)
    }

    fn compare(&self, _: Context<'_>, need: &Need) -> Judged {
        match need {
            Need::No => Judged::default(),
            Need::Because(reason) => {
                vec![Change::new("command", reason, format!("`{}` has run", self.shown))].into()
            }
            Need::NotTested => Judged {
                undecidable: Some(
                    "its `unless` is not declared to be read-only, so only an apply runs it".into(),
                ),
                ..Judged::default()
            },
        }
    }

    fn apply(
        &self,
        context: Context<'_>,
        _: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let command = self.program.command(context.machine).known().map_err(ResourceError)?;
        let command = command.ok_or_else(|| ResourceError(no_user(&self.program)))?;
        log(&format!("running `{}`", self.shown));
        command.output().map(drop).map_err(ResourceError::new)
    }

    fn provides(&self) -> Vec<Thing> {
        self.creates.clone().map(Thing::Path).into_iter().collect()
    }

    fn follows(&self) -> Vec<Wanted> {
        let above = self.creates.clone().map(Wanted::Above);
        let unless = self.unless.iter().flat_map(Program::follows);
        self.program.follows().into_iter().chain(unless).chain(above).collect()
    }

    fn decided_by_others(&self) -> bool {
        // A test asks for what others make; a file that it makes itself is there or not.
        self.creates.is_none()
    }

    fn may_use_apt(&self) -> bool {
        true
    }

    fn asks_programs(&self) -> bool {
        self.unless.is_some() && self.unless_is_read_only
    }
}

#[cfg(test)]
mod tests {
    use toril_machine::Machine;

    use super::*;
    use crate::resource::testing::{self, Fake};

    /// A command on this machine that makes a file, and the directory that the file is in.
    fn resource(keys: &str) -> (tempfile::TempDir, Box<dyn Resource>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("made").display().to_string();
        let text = format!("command = {{ shell = \"echo x >> {file}\", {} }}", keys.replace("FILE", &file));
        (dir, testing::read(&text).unwrap())
    }

    fn on_this<T>(act: impl FnOnce(Context<'_>) -> T) -> T {
        let (fake, machine) = (Fake::new(), Machine::this());
        act(fake.context_on(&machine))
    }

    #[test]
    fn is_run_until_what_it_creates_is_there() {
        let (dir, resource) = resource("creates = \"FILE\"");
        on_this(|context| {
            let judged = resource.judge(context).unwrap();
            assert!(judged.changes[0].before.starts_with("there is no /"), "{judged:?}");
            assert!(judged.changes[0].after.starts_with("`echo x >> /"), "{judged:?}");
            resource.apply(context, &judged.changes, &mut |_| {}).unwrap();
            assert_eq!(resource.judge(context).unwrap(), Judged::default());
        });
        assert_eq!(std::fs::read_to_string(dir.path().join("made")).unwrap(), "x\n");
    }

    #[test]
    fn a_test_that_may_change_something_is_for_an_apply_only() {
        let (_dir, resource) = resource("unless = [\"test\", \"-e\", \"FILE\"]");
        on_this(|context| {
            let judged = resource.judge(context).unwrap();
            assert!(judged.changes.is_empty() && judged.undecidable.unwrap().contains("read-only"));
            let judged = resource.judge_to_apply(context).unwrap();
            assert!(judged.changes[0].before.contains("exited with status 1"), "{judged:?}");
            resource.apply(context, &judged.changes, &mut |_| {}).unwrap();
            assert_eq!(resource.judge_to_apply(context).unwrap(), Judged::default());
        });
    }

    #[test]
    fn a_test_that_only_reads_is_for_checks_too() {
        let keys = "unless = [\"test\", \"-e\", \"FILE\"], unless-is-read-only = true";
        let (_dir, resource) = resource(keys);
        on_this(|context| {
            let judged = resource.judge(context).unwrap();
            assert_eq!(judged.changes.len(), 1);
            resource.apply(context, &judged.changes, &mut |_| {}).unwrap();
            assert_eq!(resource.judge(context).unwrap(), Judged::default());
        });
    }

    #[test]
    fn a_script_stops_at_the_first_failure_and_says_why() {
        let text = "command = { shell = \"echo why >&2; false; true\", creates = \"/nonexistent/x\" }";
        let resource = testing::read(text).unwrap();
        let error = on_this(|context| resource.apply(context, &[], &mut |_| {}).unwrap_err());
        assert!(error.to_string().ends_with("exited with status 1: why"), "{error}");
    }

    #[test]
    fn wrong_words_are_refused() {
        testing::refuses(&[
            ("command = { command = [\"true\"] }", "needs what makes it unnecessary"),
            ("command = { command = [], creates = \"/x\" }", "must not be empty"),
            ("command = { creates = \"/x\" }", "`command` is missing"),
            ("command = { command = [\"a\"], shell = \"b\", creates = \"/x\" }", "do not go together"),
            ("command = { command = [\"a\"], create = \"/x\" }", "did you mean `creates`?"),
            ("command = { command = [\"a\"], creates = \"/x\", unless-is-read-only = true }", "says nothing"),
            ("command = { command = [\"a\"], creates = \"x\" }", "must be an absolute path"),
            ("command = { command = [\"a\"], creates = \"/x\", deadline = \"5\" }", "is not a duration"),
        ]);
    }
}
