//! The Test Anything Protocol, line by line. Subtests are indented, as are the blocks of YAML that explain a failure:
//! only what begins at a line's beginning counts, for a subtest's result is reported there once more.

use super::CaseResult;

/// A line that means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TapLine {
    /// `1..N`: so many cases are meant to come.
    Plan {
        count: u64,
        /// Why there are none, where there are none.
        reason: String,
    },
    /// `ok` or `not ok`.
    Point(Point),
    /// The test gave up; why.
    BailOut(String),
}

/// The report of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    pub number: Option<u64>,
    /// May be empty.
    pub description: String,
    pub result: CaseResult,
    pub reason: String,
}

/// What a line says, if it says something to a reader of TAP.
pub(super) fn read(line: &str) -> Option<TapLine> {
    let line = line.trim_end();
    // A subtest that bails out takes the whole test with it.
    if let Some(why) = line.trim_start().strip_prefix("Bail out!") {
        return Some(TapLine::BailOut(why.trim().to_owned()));
    }
    if let Some(rest) = line.strip_prefix("1..") {
        return plan(rest);
    }
    let (ok, rest) = match line.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok")?),
    };
    // `okay` is no result.
    if !rest.is_empty() && !rest.starts_with([' ', '\t', '#']) {
        return None;
    }
    Some(TapLine::Point(point(ok, rest)))
}

fn plan(rest: &str) -> Option<TapLine> {
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let count = rest[..digits].parse().ok()?;
    let rest = rest[digits..].trim();
    let comment = match rest.strip_prefix('#') {
        Some(comment) => comment.trim(),
        None if rest.is_empty() => "",
        None => return None,
    };
    let reason = directive(comment).map_or(comment, |(_, reason)| reason);
    Some(TapLine::Plan { count, reason: reason.to_owned() })
}

fn point(ok: bool, rest: &str) -> Point {
    let rest = rest.trim_start();
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let after = &rest[digits..];
    // `3rd try` is a description, `3` and `3 - try` begin with a number.
    let is_number = digits > 0 && (after.is_empty() || after.starts_with([' ', '\t', '#']));
    let (number, rest) = if is_number { (rest[..digits].parse().ok(), after) } else { (None, rest) };
    let (text, comment) = split_comment(rest);
    let text = text.trim();
    let description =
        unescaped(text.strip_prefix("- ").unwrap_or(text.strip_prefix('-').unwrap_or(text)).trim());
    let (result, reason) = match (comment.and_then(directive), ok) {
        (Some((Directive::Skip, reason)), true) => (CaseResult::Skipped, reason.to_owned()),
        (Some((Directive::Todo, reason)), false) => {
            (CaseResult::Skipped, if reason.is_empty() { "to do".into() } else { format!("to do: {reason}") })
        }
        (Some((Directive::Todo, _)), true) => (CaseResult::Passed, "it was still to do".to_owned()),
        (_, true) => (CaseResult::Passed, String::new()),
        (_, false) => (CaseResult::Failed, String::new()),
    };
    Point { number, description, result, reason }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directive {
    Skip,
    Todo,
}

/// `SKIP why` or `TODO why`, in letters of any case.
fn directive(comment: &str) -> Option<(Directive, &str)> {
    let comment = comment.trim();
    let word = comment.get(..4)?;
    let directive = match word.to_ascii_lowercase().as_str() {
        "skip" => Directive::Skip,
        "todo" => Directive::Todo,
        _ => return None,
    };
    // `SKIPPED` too, as producers of version 12 write it; not `todolist`.
    let rest = comment[4..].strip_prefix("PED").or_else(|| comment[4..].strip_prefix("ped"));
    let rest = rest.unwrap_or(&comment[4..]);
    if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    Some((directive, rest.trim_start_matches(':').trim()))
}

/// The text up to a `#` that is not escaped and follows a space or nothing, and what comes after it.
fn split_comment(text: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    let mut before = ' ';
    for (index, character) in text.char_indices() {
        if character == '#' && !escaped && before.is_whitespace() {
            return (&text[..index], Some(&text[index + 1..]));
        }
        escaped = character == '\\' && !escaped;
        before = character;
    }
    (text, None)
}

/// `\#` and `\\` stand for what they escape.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(&next @ ('#' | '\\'))) => {
                plain.push(next);
                characters.next();
            }
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(line: &str) -> String {
        match read(line) {
            None => "nothing".into(),
            Some(TapLine::Plan { count, reason }) => format!("plan {count} ({reason})"),
            Some(TapLine::BailOut(why)) => format!("bail out ({why})"),
            Some(TapLine::Point(Point { number, description, result, reason })) => {
                let number = number.map_or("–".into(), |number| number.to_string());
                format!("{} {number} [{description}] ({reason})", result.word())
            }
        }
    }

    #[test]
    fn every_line() {
        for (line, expected) in [
            ("1..4", "plan 4 ()"),
            ("1..0 # SKIP no network", "plan 0 (no network)"),
            ("1..0 # Skipped: WWW::Mechanize not installed", "plan 0 (WWW::Mechanize not installed)"),
            ("1..0", "plan 0 ()"),
            ("1..x", "nothing"),
            ("1..4 x", "nothing"),
            ("ok", "passed – [] ()"),
            ("ok 1", "passed 1 [] ()"),
            ("ok 1 - it adds", "passed 1 [it adds] ()"),
            ("ok - it adds", "passed – [it adds] ()"),
            ("ok 2 it adds", "passed 2 [it adds] ()"),
            ("ok 3rd try", "passed – [3rd try] ()"),
            ("not ok 2 - it divides", "failed 2 [it divides] ()"),
            ("not ok", "failed – [] ()"),
            ("ok 3 - x # SKIP no disk", "skipped 3 [x] (no disk)"),
            ("ok 3 # skip", "skipped 3 [] ()"),
            ("ok 3 - x # skipped: why", "skipped 3 [x] (why)"),
            ("not ok 3 - x # SKIP no disk", "failed 3 [x] ()"),
            ("not ok 4 - x # TODO later", "skipped 4 [x] (to do: later)"),
            ("not ok 4 # TODO", "skipped 4 [] (to do)"),
            ("ok 4 - x # TODO later", "passed 4 [x] (it was still to do)"),
            ("not ok 4 - x # todolist", "failed 4 [x] ()"),
            (r"ok 5 - C\# and \\ # time=3ms", r"passed 5 [C# and \] ()"),
            ("ok 5 - a#b", "passed 5 [a#b] ()"),
            ("Bail out! no database", "bail out (no database)"),
            ("    Bail out!", "bail out ()"),
            ("    ok 1 - a subtest's", "nothing"),
            ("    1..2", "nothing"),
            ("  not ok: in YAML", "nothing"),
            ("# a comment", "nothing"),
            ("TAP version 14", "nothing"),
            ("pragma +strict", "nothing"),
            ("okay", "nothing"),
            ("not okay", "nothing"),
            ("", "nothing"),
            ("ok 99999999999999999999999 - x", "passed – [x] ()"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in r"(not ok|ok|1\.\.|Bail out!| |#|\\|SKIP|TODO|-|[0-9]|é|x){0,12}") {
            match read(&line) {
                Some(TapLine::Point(point)) => {
                    let not_ok = line.starts_with("not ok");
                    prop_assert!(!not_ok || point.result != CaseResult::Passed);
                    prop_assert!(not_ok || point.result != CaseResult::Failed);
                }
                Some(TapLine::Plan { .. }) => prop_assert!(line.starts_with("1..")),
                Some(TapLine::BailOut(_)) => prop_assert!(line.contains("Bail out!")),
                None => {}
            }
        }
    }
}
