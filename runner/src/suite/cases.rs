use toril_document::{Located, Table, nearest};

use super::read::{Defaults, note_pattern};
use super::{CaseRules, Pattern};
use crate::{CaseFormat, LineFormat};

/// Who reports the cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reporter {
    Command,
    /// The built-in guest, whose format is known.
    Toolkit,
    Guest,
    /// A guest of which something is measured: cases are not all that can be said of it.
    Measured,
}

/// A `[[case-format]]`.
pub(super) fn read_format(mut table: Table<'_>) -> Option<(String, CaseFormat)> {
    let name = table.required_string("name");
    if let Some(name) = name.as_ref().filter(|name| CaseFormat::built_in(&name.value).is_some()) {
        let message = format!("the case format `{}` is built in", name.value);
        table.note("S006", name.span.clone(), message, Some("give yours another name".into()));
    }
    let pattern = table.required_string("pattern").and_then(|text| {
        let pattern = note_pattern(&table, &text)?;
        for group in ["name", "result"] {
            if !pattern.has_group(group) {
                let message = format!("the pattern has no group `{group}`");
                table.note("S005", text.span.clone(), message, Some(format!("write (?<{group}>…)")));
            }
        }
        Some(pattern)
    });
    let header = read_pattern(&mut table, "header");
    let end = read_pattern(&mut table, "end");
    let words = |list: Option<Vec<Located<String>>>| {
        list.map(|list| list.into_iter().map(|item| item.value).collect::<Vec<_>>())
    };
    let passed = words(table.strings("passed")).unwrap_or_else(|| vec!["PASSED".into()]);
    let failed = words(table.strings("failed")).unwrap_or_else(|| vec!["FAILED".into()]);
    let skipped = words(table.strings("skipped")).unwrap_or_else(|| vec!["SKIPPED".into()]);
    table.finish();
    let format = LineFormat { pattern: pattern?, header, end, like: None, passed, failed, skipped };
    Some((name?.value, CaseFormat::Lines(Box::new(format))))
}

fn read_pattern(table: &mut Table<'_>, key: &'static str) -> Option<Pattern> {
    let text = table.string(key)?;
    note_pattern(table, &text)
}

/// What a test says of its cases.
pub(super) fn read_cases(
    table: &mut Table<'_>,
    defaults: &Defaults,
    reporter: Reporter,
    channels: &[&str],
) -> Option<CaseRules> {
    let place = table.span();
    let named = table.string("cases");
    let has_expect = table.has("expect");
    let expected = table.strings("expect").unwrap_or_default();
    let expected: Vec<_> = expected.into_iter().map(|name| defaults.template.render(table, name)).collect();
    let has_count = table.has("expect-count");
    let count = table.integer("expect-count", 1..=1_000_000).and_then(|count| usize::try_from(count).ok());
    let has_unexpected = table.has("unexpected");
    let only_expected = table.parsed("unexpected", |text| match text {
        "report" => Ok(false),
        "fail" => Ok(true),
        _ => Err(format!("`{text}` is no way to take unexpected cases: write report or fail")),
    });
    if has_expect && has_count {
        let message = "cases are expected by name or counted: `expect` or `expect-count`";
        table.note("S007", place.clone(), message, None);
    } else if has_unexpected && !has_expect {
        let help = Some("list the cases with expect = [...]".into());
        table.note("S007", place.clone(), "`unexpected` without `expect`: no case is expected by name", help);
    }
    for (index, name) in expected.iter().enumerate() {
        if expected[..index].contains(name) {
            table.note("S007", place.clone(), format!("the case `{name}` is expected twice"), None);
        }
    }
    let from = read_from(table, channels);
    let format = match &named {
        Some(name) => read_format_name(table, defaults, name)?,
        None if reporter == Reporter::Toolkit => CaseFormat::toril(),
        None if reporter == Reporter::Guest || has_expect || has_count => {
            let help = "write cases = \"toril\", or the name of a [[case-format]]".to_owned();
            table.note("S006", place, "it is not said how the cases are reported", Some(help));
            return None;
        }
        None => return None,
    };
    Some(CaseRules { format, expected, count, from, only_expected: only_expected.unwrap_or(false) })
}

/// The channels that carry cases; `channels` are those that there are.
fn read_from(table: &mut Table<'_>, channels: &[&str]) -> Vec<String> {
    let named = table.strings("cases-from").unwrap_or_default();
    for name in &named {
        if !table.is_imagined() && !channels.contains(&name.value.as_str()) {
            let message = format!("there is no channel `{}`", name.value);
            let help = match channels {
                [] => "only guests have channels".to_owned(),
                channels => format!("there is {}", channels.join(", ")),
            };
            table.note("S007", name.span.clone(), message, Some(help));
        }
    }
    named.into_iter().map(|name| name.value).collect()
}

fn read_format_name(table: &Table<'_>, defaults: &Defaults, name: &Located<String>) -> Option<CaseFormat> {
    let own = defaults.formats.iter().find(|(known, _)| *known == name.value);
    if let Some(format) = CaseFormat::built_in(&name.value).or_else(|| own.map(|(_, format)| format.clone()))
    {
        return Some(format);
    }
    let known = defaults.formats.iter().map(|(known, _)| known.as_str()).chain(CaseFormat::BUILT_IN);
    let help = match nearest(&name.value, known) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("write {}, or the name of a [[case-format]]", CaseFormat::BUILT_IN.join(", ")),
    };
    table.note("S006", name.span.clone(), format!("there is no case format `{}`", name.value), Some(help));
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::{CaseFormat, Suite};

    fn parse(text: &str) -> Result<Suite, Vec<String>> {
        let problems = Suite::parse("s.toml", text, &BTreeMap::new());
        problems.map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn formats_and_expectations() {
        let suite = parse(
            r#"
[vars]
last = "bye"
[[case-format]]
name = "own"
pattern = "^(?<name>\\S+) (?<result>\\S+)$"
header = "^begin"
end = "^end"
skipped = ["left"]
[[test]]
name = "own"
command = ["true"]
cases = "own"
expect = ["a", "b"]
unexpected = "fail"
must-print = ["^begin", "{{ vars.last }}$"]
exceptions = 2
[[test]]
name = "tap"
command = ["true"]
cases = "tap"
"#,
        )
        .unwrap();
        let own = &suite.tests[0];
        let rules = own.cases.as_ref().unwrap();
        let CaseFormat::Lines(format) = &rules.format else { panic!("no lines") };
        assert!(format.header.is_some() && format.end.is_some() && format.skipped == ["left"]);
        assert!(own.must_print[1].is_found_in("good bye") && !own.must_print[1].is_found_in("vars.last"));
        assert!(rules.only_expected && own.must_print.len() == 2 && own.exceptions == Some(2));
        assert_eq!(suite.tests[1].cases.as_ref().unwrap().format, CaseFormat::Tap);
    }

    #[test]
    fn every_mistake_has_its_place() {
        let lines = parse(
            r#"
[[case-format]]
name = "tap"
pattern = "^(?<name>a)(?<result>b)$"
header = "("
[[test]]
name = "a"
command = ["true"]
cases = "toro"
unexpected = "fial"
[[test]]
name = "b"
command = ["true"]
cases = "tro"
expect = ["x", "x"]
must-print = ["["]
exceptions = 1000
cases-from = ["serial"]
on-timeout = ["inject-nmi"]
[[test]]
name = "c"
command = ["true"]
case-deadline = "1s"
[[test]]
name = "d"
cases-from = ["report", "serial"]
on-timeout = ["panic"]
[test.guest]
kernel = "builtin:toolkit"
"#,
        )
        .unwrap_err();
        for expected in [
            "s.toml:3:8: the case format `tap` is built in [S006] (give yours another name)",
            "s.toml:5:10: `(` is not a regular expression",
            "`fial` is no way to take unexpected cases",
            "`unexpected` without `expect`",
            "the case `x` is expected twice",
            "there is no case format `tro` [S006] (did you mean `toro`?)",
            "`[` is not a regular expression",
            "`exceptions` must be from 0 to 999",
            "there is no channel `serial` [S007] (only guests have channels)",
            "a command can have no NMI",
            "`case-deadline` of a test that reports no cases",
            "there is no channel `report` [S007] (there is serial)",
            "`panic` is nothing to be done on a timeout [S011] (write inject-nmi)",
        ] {
            assert!(lines.iter().any(|line| line.contains(expected)), "{expected}\n{lines:#?}");
        }
        assert_eq!(lines.len(), 13, "{lines:#?}");
    }
}
