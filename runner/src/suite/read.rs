use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};
use toril_document::{Document, Located, Problems, Table, Value, nearest};

use super::build::{read_builds, read_needs};
use super::cases::{Reporter, read_cases, read_format};
use super::companion::read_companion;
use super::gates::read_gates;
use super::guest::read_guest;
use super::model::{DEADLINE, OUTPUT_LIMIT, PANIC, SERIAL};
use super::source::read_source;
use super::template::Template;
use super::{AcceleratorChoice, Action, CommandTest, Kernel, Pattern, Suite, Test};
use crate::{Accelerator, CaseFormat};

/// What holds for every test unless it says otherwise.
pub(super) struct Defaults {
    pub template: Template,
    pub deadline: Duration,
    pub output_limit: u64,
    pub retries: u32,
    pub case_deadline: Option<Duration>,
    pub formats: Vec<(String, CaseFormat)>,
    pub builds: Vec<String>,
}

impl Suite {
    /// Reads a suite; `name` is its file or `built-in smoke`, `overrides` are variables from the command line. Nothing
    /// of the machine is looked at.
    ///
    /// # Errors
    /// Every mistake, each with its place.
    pub fn parse(
        name: impl Into<String>,
        text: &str,
        overrides: &BTreeMap<String, String>,
    ) -> Result<Suite, Problems> {
        let name = name.into();
        Document::read(name.clone(), text, |table| Some(read_suite(table, name, overrides)))
    }

    /// The JSON Schema of a suite.
    pub fn schema() -> Json {
        let shape = Document::shape(|table| drop(read_suite(table, String::new(), &BTreeMap::new())));
        let mut schema = shape.json_schema();
        // Either may be missing, but not both, and not neither.
        let test = &mut schema["properties"]["test"]["items"];
        test["required"] = json!(["name"]);
        test["oneOf"] = json!([{ "required": ["command"] }, { "required": ["guest"] }]);
        schema
    }
}

fn read_suite(table: &mut Table<'_>, name: String, overrides: &BTreeMap<String, String>) -> Suite {
    let description = table.string("description").map(|text| text.value).unwrap_or_default();
    let vars = read_vars(table, overrides);
    let accelerator = table.parsed("accel", parse_accelerator).unwrap_or(AcceleratorChoice::Auto);
    let run_as = table.string("run-as").map_or_else(|| "toril".into(), |text| text.value);
    let source = read_source(table);
    let template = Template::new(vars.clone(), source.is_some());
    let builds = read_builds(table, &template);
    let formats = table.tables("case-format").into_iter().filter_map(read_format).collect();
    let defaults = Defaults {
        template,
        deadline: table.duration("deadline").unwrap_or(DEADLINE),
        output_limit: table.size("output-limit").unwrap_or(OUTPUT_LIMIT),
        retries: read_retries(table).unwrap_or(0),
        case_deadline: table.duration("case-deadline"),
        formats,
        builds: builds.iter().map(|build| build.name.clone()).collect(),
    };
    let deadline = table.duration("suite-deadline");
    let fail_fast = table.boolean("fail-fast").unwrap_or(false);
    let flaky_fails = table.parsed("flaky", |text| match text {
        "report" => Ok(false),
        "fail" => Ok(true),
        _ => Err(format!("`{text}` is no way to take flaky tests: write report or fail")),
    });
    let flaky_fails = flaky_fails.unwrap_or(false);
    let mut tests: Vec<Test> = Vec::new();
    let whole = table.span();
    let tables = table.tables("test");
    if tables.is_empty() {
        table.note(
            "S007",
            whole.start..whole.start,
            "the suite has no test",
            Some("write a [[test]]".into()),
        );
    }
    for test in tables {
        if let Some((name, test)) = read_test(test, &defaults) {
            if tests.iter().any(|other| other.name == test.name) {
                table.note("S003", name.span, format!("there are two tests named `{}`", test.name), None);
            }
            tests.push(test);
        }
    }
    Suite {
        name,
        description,
        accelerator,
        run_as,
        vars,
        source,
        builds,
        deadline,
        fail_fast,
        flaky_fails,
        tests,
    }
}

fn read_vars(table: &mut Table<'_>, overrides: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    let mut place = 0..0;
    if let Some(mut inner) = table.table("vars") {
        place = inner.span();
        for (name, value) in inner.take_all() {
            match value.value {
                Value::String(text) => drop(vars.insert(name.value, text)),
                other => {
                    let message =
                        format!("the variable `{}` must be a string, not {}", name.value, other.kind());
                    inner.note("D004", value.span, message, None);
                }
            }
        }
    }
    for (name, value) in overrides {
        if let Some(known) = vars.get_mut(name) {
            known.clone_from(value);
        } else {
            let help = match nearest(name, vars.keys().map(String::as_str)) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "declare it with a default under [vars]".into(),
            };
            table.note(
                "S002",
                place.clone(),
                format!("--set {name}: the suite has no such variable"),
                Some(help),
            );
        }
    }
    vars
}

fn parse_accelerator(text: &str) -> Result<AcceleratorChoice, String> {
    match text {
        "auto" => Ok(AcceleratorChoice::Auto),
        "kvm" => Ok(AcceleratorChoice::Only(Accelerator::Kvm)),
        "tcg" => Ok(AcceleratorChoice::Only(Accelerator::Tcg)),
        _ => Err(format!("`{text}` is no accelerator: write auto, kvm or tcg")),
    }
}

fn read_test(mut table: Table<'_>, defaults: &Defaults) -> Option<(Located<String>, Test)> {
    let name = table.required_string("name");
    if let Some(name) = &name {
        table.rename(format!("the test `{}`", name.value));
        if name.value.trim().is_empty() || name.value.chars().any(char::is_control) {
            table.note("S009", name.span.clone(), "a test's name must be a line of text", None);
        }
    }
    let deadline = table.duration("deadline").unwrap_or(defaults.deadline);
    let output_limit = table.size("output-limit").unwrap_or(defaults.output_limit);
    let retries = read_retries(&mut table).unwrap_or(defaults.retries);
    let needs_build = read_needs(&mut table, &defaults.builds);
    let alone = table.boolean("alone").unwrap_or(false);
    let action = read_action(&mut table, defaults);
    let reporter = match &action {
        Some(Action::Guest(guest)) if guest.kernel == Kernel::Toolkit => Reporter::Toolkit,
        Some(Action::Guest(_)) => Reporter::Guest,
        Some(Action::Command(_)) | None => Reporter::Command,
    };
    let is_guest = reporter != Reporter::Command;
    let companion = read_companion(&mut table, &defaults.template, action.as_ref());
    let gates = read_gates(&mut table, is_guest);
    let reporter =
        if reporter == Reporter::Guest && !gates.is_empty() { Reporter::Measured } else { reporter };
    let channels: Vec<&str> = match &action {
        Some(Action::Guest(guest)) => {
            std::iter::once(SERIAL).chain(guest.consoles.iter().map(String::as_str)).collect()
        }
        Some(Action::Command(_)) | None => Vec::new(),
    };
    let cases = read_cases(&mut table, defaults, reporter, &channels);
    let (own_limit, place) = (table.duration("case-deadline"), table.span());
    if own_limit.is_some() && cases.is_none() && !table.is_imagined() {
        table.note("S007", place, "`case-deadline` of a test that reports no cases", None);
    }
    let case_deadline = own_limit.or(defaults.case_deadline).filter(|_| cases.is_some());
    let inject_nmi = read_on_timeout(&mut table, is_guest);
    let panic = match table.string("panic-pattern") {
        Some(text) if text.value.is_empty() => None,
        Some(text) => note_pattern(&table, &text),
        None if is_guest => Pattern::parse(PANIC).ok(),
        None => None,
    };
    let exceptions = table.integer("exceptions", 0..=999).and_then(|count| u64::try_from(count).ok());
    let must_print = table.strings("must-print").unwrap_or_default();
    let must_print = must_print.into_iter().filter_map(|text| {
        let span = text.span.clone();
        let value = defaults.template.render(&table, text);
        note_pattern(&table, &Located { value, span })
    });
    let must_print = must_print.collect();
    table.finish();
    let name = name?;
    let test = Test {
        deadline,
        output_limit,
        retries,
        alone,
        cases,
        panic,
        exceptions,
        must_print,
        companion,
        case_deadline,
        inject_nmi,
        gates,
        needs_build,
        ..Test::new(name.value.clone(), action?)
    };
    Some((name, test))
}

/// Whether `on-timeout` wants an NMI.
fn read_on_timeout(table: &mut Table<'_>, is_guest: bool) -> bool {
    let actions = table.strings("on-timeout").unwrap_or_default();
    for action in &actions {
        if table.is_imagined() {
            continue;
        }
        if action.value != "inject-nmi" {
            let help = Some("write inject-nmi".into());
            let message = format!("`{}` is nothing to be done on a timeout", action.value);
            table.note("S011", action.span.clone(), message, help);
        } else if !is_guest {
            table.note("S011", action.span.clone(), "a command can have no NMI: that is for guests", None);
        }
    }
    !actions.is_empty()
}

fn read_retries(table: &mut Table<'_>) -> Option<u32> {
    table.integer("retries", 0..=10).and_then(|count| u32::try_from(count).ok())
}

pub(super) fn note_pattern(table: &Table<'_>, text: &Located<String>) -> Option<Pattern> {
    Pattern::parse(&text.value).map_err(|message| table.note("S005", text.span.clone(), message, None)).ok()
}

fn read_action(table: &mut Table<'_>, defaults: &Defaults) -> Option<Action> {
    let (command, guest) = (table.has("command"), table.has("guest"));
    let command_test = command.then(|| read_command(table, defaults)).flatten();
    let settings = table.table("guest").and_then(|guest| read_guest(guest, &defaults.template));
    match (command, guest) {
        (true, false) => command_test.map(Action::Command),
        (false, true) => settings.map(Action::Guest),
        (both, _) => {
            let message =
                if both { "a test is a command or a guest, not both" } else { "the test does nothing" };
            // Known here, so that a slip of the pen is put right.
            let _ = (table.take("command"), table.take("env"));
            let help = "write command = [...] or [test.guest]".to_owned();
            table.note("S004", table.span(), message, Some(help));
            None
        }
    }
}

fn read_command(table: &mut Table<'_>, defaults: &Defaults) -> Option<CommandTest> {
    read_program(table, &defaults.template, &[])
}

/// A `command` and its `env`; `late` are the names that templates may have in them besides those of all tests.
pub(super) fn read_program(
    table: &mut Table<'_>,
    template: &Template,
    late: &[&'static str],
) -> Option<CommandTest> {
    let argv = table.required_strings("command");
    let mut env = Vec::new();
    if let Some(mut inner) = table.table("env") {
        for (name, value) in inner.take_all() {
            match value.value {
                Value::String(text) => {
                    let text = Located { value: text, span: value.span };
                    env.push((name.value, template.render_late(&inner, text, late)));
                }
                other => {
                    let message = format!("`{}` must be a string, not {}", name.value, other.kind());
                    inner.note("D004", value.span, message, None);
                }
            }
        }
    }
    let argv = argv?.into_iter().map(|word| template.render_late(table, word, late)).collect();
    Some(CommandTest { argv, env })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExpectedEnd, SMOKE};

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn mistakes(text: &str, overrides: &[(&str, &str)]) -> Vec<String> {
        let problems = Suite::parse("s.toml", text, &set(overrides)).expect_err("mistakes");
        problems.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_built_in_suite() {
        let suite = Suite::parse("built-in smoke", SMOKE, &set(&[("mode", "hang")])).unwrap();
        let Action::Guest(guest) = &suite.tests[0].action else { panic!("no guest") };
        assert_eq!(guest.append, "mode=hang");
        assert_eq!(guest.ends, ExpectedEnd::ExitStatus(33));
        assert!(!suite.tests[0].cases.as_ref().unwrap().expected.is_empty());
    }

    #[test]
    fn every_mistake_in_one_go() {
        let text = r#"
accel = "xen"
[vars]
mode = "pass"
[[case-format]]
name = "bad"
pattern = "(?<name>x"
[[case-format]]
name = "half"
pattern = "(?<name>x)"
[[test]]
name = "a"
command = ["echo", "{{ vars.mdoe }}"]
[[test]]
name = "a"
comand = ["true"]
[[test]]
name = "b"
cases = "torl"
[test.guest]
kernel = "/k.elf"
memory = "64 M"
[[test]]
name = "a"
command = ["true"]
"#;
        let lines = mistakes(text, &[("nope", "1")]);
        for expected in [
            "s.toml:2:9: `xen` is no accelerator",
            "--set nope: the suite has no such variable",
            "s.toml:7:11: `(?<name>x` is not a regular expression",
            "the pattern has no group `result`",
            "s.toml:13:20: unknown variable `vars.mdoe` [S001] (did you mean `vars.mode`?)",
            "the test does nothing",
            "unknown key `comand` in the test `a` [D003] (did you mean `command`?)",
            "there is no case format `torl` [S006] (did you mean `toril`?)",
            "`64 M` is not a size",
            "it is not said how the guest ends",
            "there are two tests named `a`",
        ] {
            assert!(lines.iter().any(|line| line.contains(expected)), "{expected}\n{lines:#?}");
        }
        assert_eq!(lines.len(), 11, "{lines:#?}");
    }

    #[test]
    fn a_suite_without_tests_is_a_mistake() {
        assert!(mistakes("description = \"x\"", &[])[0].contains("the suite has no test"));
    }

    #[test]
    fn values_are_not_escaped() {
        let text = "[vars]\na = \"<&>\"\n[[test]]\nname = \"t\"\ncommand = [\"echo\", \"{{ vars.a }}\"]\n";
        let suite = Suite::parse("s.toml", text, &BTreeMap::new()).unwrap();
        let Action::Command(command) = &suite.tests[0].action else { panic!("no command") };
        assert_eq!(command.argv[1], "<&>");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(start in 0..SMOKE.len(), length in 0..40_usize, text in "[ -~\\n]{0,30}") {
            let end = (start + length).min(SMOKE.len());
            let changed = format!("{}{text}{}", &SMOKE[..start], &SMOKE[end..]);
            if let Err(problems) = Suite::parse("p.toml", &changed, &BTreeMap::new()) {
                proptest::prop_assert!(!problems.0.is_empty());
            }
        }
    }
}
