//! `[[build]]`.

use std::path::PathBuf;
use std::time::Duration;

use toril_document::{Located, Table, nearest};

use super::CommandTest;
use super::read::read_program;
use super::template::Template;

/// How long a build may take, unless it says otherwise.
const DEADLINE: Duration = Duration::from_secs(600);

/// How many bytes it may print, unless it says otherwise.
const OUTPUT_LIMIT: u64 = 64 << 20;

/// What is made on the host before the tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Its name, unique in the suite.
    pub name: String,
    /// The program that makes it.
    pub command: CommandTest,
    /// Where that works; a relative path starts at the source, and is of a suite that has one.
    pub dir: PathBuf,
    /// How long it may take.
    pub deadline: Duration,
    /// More output than this many bytes ends it.
    pub output_limit: u64,
    /// The files that it makes, at least one; relative paths start in `dir`.
    pub outputs: Vec<PathBuf>,
}

/// Reads all `[[build]]`, in their order.
pub(super) fn read_builds(table: &mut Table<'_>, template: &Template) -> Vec<Build> {
    let mut builds: Vec<Build> = Vec::new();
    for inner in table.tables("build") {
        if let Some((name, build)) = read_build(inner, template) {
            if builds.iter().any(|other| other.name == build.name) {
                table.note("S032", name.span, format!("there are two builds named `{}`", build.name), None);
            }
            builds.push(build);
        }
    }
    builds
}

fn read_build(mut table: Table<'_>, template: &Template) -> Option<(Located<String>, Build)> {
    let name = table.required_string("name");
    if let Some(name) = &name {
        table.rename(format!("the build `{}`", name.value));
        if name.value.trim().is_empty() || name.value.chars().any(char::is_control) {
            table.note("S032", name.span.clone(), "a build's name must be a line of text", None);
        }
    }
    let command = read_program(&mut table, template, &[]);
    let dir = read_dir(&mut table, template);
    let deadline = table.duration("deadline").unwrap_or(DEADLINE);
    let output_limit = table.size("output-limit").unwrap_or(OUTPUT_LIMIT);
    let outputs = table.required_strings("outputs").map(|outputs| {
        outputs.into_iter().map(|output| PathBuf::from(template.render(&table, output))).collect()
    });
    table.finish();
    let name = name?;
    let build = Build {
        name: name.value.clone(),
        command: command?,
        dir: dir?,
        deadline,
        output_limit,
        outputs: outputs?,
    };
    Some((name, build))
}

fn read_dir(table: &mut Table<'_>, template: &Template) -> Option<PathBuf> {
    let place = table.span();
    let (span, dir) = match table.string("dir") {
        Some(text) => (text.span.clone(), template.render(table, text)),
        None => (place, String::new()),
    };
    if !dir.starts_with('/') && !template.has_source && !table.is_imagined() {
        let message = match dir.is_empty() {
            true => "it is not said where the build works".to_owned(),
            false => format!("`{dir}` is no absolute path: a build works in a directory of the host"),
        };
        let help = "say with [source] where the tree comes from, or write dir = \"/…\"".to_owned();
        table.note("S031", span, message, Some(help));
        return None;
    }
    Some(PathBuf::from(dir))
}

/// The builds that a test needs: all of them, unless it says which.
pub(super) fn read_needs(table: &mut Table<'_>, builds: &[String]) -> Vec<String> {
    let Some(needs) = table.strings("needs-build") else { return builds.to_vec() };
    for need in needs.iter().filter(|need| !builds.contains(&need.value)) {
        if !table.is_imagined() {
            let help = nearest(&need.value, builds.iter().map(String::as_str));
            let help = help.map(|known| format!("did you mean `{known}`?"));
            table.note("S033", need.span.clone(), format!("there is no build `{}`", need.value), help);
        }
    }
    needs.into_iter().map(|need| need.value).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::Suite;

    const BUILD: &str = "[[build]]\nname = \"kernel\"\ncommand = [\"make\", \"{{ vars.target }}\"]\ndir = \"src\"\noutputs = [\"{{ vars.target }}.elf\"]\n[build.env]\nOUT = \"{{ dirs.source }}/out\"\n";

    fn parse(build: &str, needs: &str) -> Result<Suite, Vec<String>> {
        let text = format!(
            "[vars]\ntarget = \"k\"\n[source]\ntree = \".\"\n{build}[[test]]\nname = \"t\"\ncommand = [\"true\"]\n{needs}"
        );
        let suite = Suite::parse("s.toml", &text, &BTreeMap::new());
        suite.map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_test_needs_every_build_unless_it_says_which() {
        let suite = parse(BUILD, "").unwrap();
        assert_eq!(suite.builds[0].command.argv, ["make", "k"]);
        assert_eq!(suite.builds[0].outputs[0].to_str(), Some("k.elf"));
        assert_eq!(suite.tests[0].needs_build, ["kernel"]);
        assert!(parse(BUILD, "needs-build = []").unwrap().tests[0].needs_build.is_empty());
    }

    #[test]
    fn every_mistake_has_its_number() {
        for (right, wrong, expected) in [
            (
                "outputs = [\"{{ vars.target }}.elf\"]",
                "outputs = []",
                "`outputs` of the build `kernel` must not be empty",
            ),
            ("outputs = ", "output = ", "`outputs` is missing"),
            ("\"kernel\"", "\" \"", "a build's name must be a line of text [S032]"),
            ("\"make\", ", "\"make\", \"{{ vars.x }}\", ", "unknown variable `vars.x`"),
        ] {
            let problems = parse(&BUILD.replacen(right, wrong, 1), "").unwrap_err();
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{wrong}: {problems:#?}");
        }
        let twice = parse(&BUILD.repeat(2), "").unwrap_err();
        assert!(twice[0].contains("there are two builds named `kernel` [S032]"), "{twice:?}");
        let unknown = parse(BUILD, "needs-build = [\"kernal\"]").unwrap_err();
        assert!(
            unknown[0].contains("there is no build `kernal` [S033] (did you mean `kernel`?)"),
            "{unknown:?}"
        );
    }

    #[test]
    fn without_a_source_a_build_says_where_it_works() {
        let test = "[[test]]\nname = \"t\"\ncommand = [\"true\"]\n";
        for (dir, expected) in [
            ("", Some("not said where")),
            ("dir = \"a\"\n", Some("no absolute path")),
            ("dir = \"/a\"\n", None),
        ] {
            let text =
                format!("[[build]]\nname = \"b\"\ncommand = [\"true\"]\noutputs = [\"/a/b\"]\n{dir}{test}");
            let found = Suite::parse("s.toml", &text, &BTreeMap::new());
            match expected {
                None => assert!(found.is_ok()),
                Some(why) => assert!(found.unwrap_err().to_string().contains(why), "{dir}"),
            }
        }
    }
}
