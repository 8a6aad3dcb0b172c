//! What a line must contain for a regular expression to be found in it: looking for that costs a tenth of trying it, and of a
//! flood hardly a line has it.

use memchr::memmem::Finder;

/// Shorter texts are in too many lines.
const SHORTEST: usize = 2;

/// Texts of which a line has at least one, if the expression is found in it.
#[derive(Debug, Clone)]
pub(super) struct Required(Vec<Finder<'static>>);

impl Required {
    /// For an expression that is one. Nothing where no such texts can be told.
    pub(super) fn of(expression: &str) -> Option<Required> {
        let texts = texts(expression)?;
        Some(Required(texts.iter().map(|text| Finder::new(text).into_owned()).collect()))
    }

    pub(super) fn may_be_in(&self, line: &str) -> bool {
        self.0.iter().any(|text| text.find(line.as_bytes()).is_some())
    }
}

/// The longest text of each alternative. What is in groups and classes is passed over, and where anything might mean
/// something else than it seems, there is no answer.
fn texts(expression: &str) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    let mut alternative = Alternative::default();
    let mut rest = expression.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => match rest.next()? {
                // Several letters long, or what it stands for is told elsewhere.
                'x' | 'u' | 'U' | 'p' | 'P' | '0'..='9' => return None,
                class if class.is_ascii_alphabetic() || "<>".contains(class) => alternative.breaks(),
                plain => alternative.run.push(plain),
            },
            '[' => {
                pass_class(&mut rest)?;
                alternative.breaks();
            }
            '(' => {
                pass_group(&mut rest)?;
                alternative.breaks();
            }
            '|' => texts.push(std::mem::take(&mut alternative).longest()?),
            '.' | '^' | '$' | '+' => alternative.breaks(),
            '?' | '*' => alternative.may_lack_its_last(),
            '{' => {
                rest.find(|c| *c == '}')?;
                alternative.may_lack_its_last();
            }
            plain => alternative.run.push(plain),
        }
    }
    texts.push(alternative.longest()?);
    Some(texts)
}

/// What a line must begin with, if the expression is found in it. Nothing where that cannot be told.
pub(super) fn beginning(expression: &str) -> Option<String> {
    let mut rest = expression.strip_prefix('^')?.chars();
    let (mut text, mut is_open) = (String::new(), true);
    // All of it is looked at: it may go on with another alternative.
    while let Some(character) = rest.next() {
        let plain = match character {
            '|' => return None,
            '\\' => Some(rest.next()?)
                .filter(|escaped| escaped.is_ascii_punctuation() && !"<>".contains(*escaped)),
            '[' => pass_class(&mut rest).map(|()| None)?,
            '(' => pass_group(&mut rest).map(|()| None)?,
            '?' | '*' | '{' => {
                if is_open {
                    text.pop();
                }
                None
            }
            '.' | '^' | '$' | '+' => None,
            plain => Some(plain),
        };
        is_open = is_open && plain.is_some();
        text.extend(plain.filter(|_| is_open));
    }
    Some(text)
}

/// One of several ways in which an expression can be found.
#[derive(Default)]
struct Alternative {
    longest: String,
    /// Characters that follow each other.
    run: String,
}

impl Alternative {
    fn breaks(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run.len() > self.longest.len() {
            self.longest = run;
        }
    }

    fn may_lack_its_last(&mut self) {
        self.run.pop();
        self.breaks();
    }

    fn longest(mut self) -> Option<String> {
        self.breaks();
        (self.longest.len() >= SHORTEST).then_some(self.longest)
    }
}

/// Passes over the rest of a class of characters.
fn pass_class(rest: &mut std::str::Chars<'_>) -> Option<()> {
    let mut first = true;
    loop {
        match rest.next()? {
            '^' if first => continue,
            // At the beginning it is one of the characters.
            ']' if !first => return Some(()),
            '[' => return None,
            '\\' => drop(rest.next()?),
            _ => {}
        }
        first = false;
    }
}

/// Passes over the rest of a group.
fn pass_group(rest: &mut std::str::Chars<'_>) -> Option<()> {
    if let Some(kind) = rest.as_str().strip_prefix('?') {
        // Flags change what the rest means.
        let is_plain = [":", "<", "P<"].iter().any(|start| kind.starts_with(start));
        is_plain.then_some(())?;
    }
    loop {
        match rest.next()? {
            ')' => return Some(()),
            '(' => pass_group(rest)?,
            '[' => pass_class(rest)?,
            '\\' => drop(rest.next()?),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_lite::Regex;

    use super::*;

    #[test]
    fn the_longest_text_of_each_alternative() {
        for (expression, expected) in [
            (r"^panic: |Kernel panic|panicked at ", Some(&["panic: ", "Kernel panic", "panicked at "][..])),
            (r"^case (?P<name>\S+): (?P<result>PASSED|FAILED)(?: \((?P<reason>.*)\))?\s*$", Some(&["case "])),
            (r"^\[[^\]]*\] CPU\d+ Thread#\S+ x", Some(&[" Thread#"])),
            (r"abc?d", Some(&["ab"])),
            (r"ab+cde", Some(&["cde"])),
            (r"ab{0,3}cd", Some(&["cd"])),
            (r"a\.b\|c", Some(&["a.b|c"])),
            (r"[]x]yz", Some(&["yz"])),
            (r"ok \b{start}it", Some(&["ok "])),
            (r"abc|.", None),
            (r"(?i)abc", None),
            (r"a\x41bc", None),
            (r"(abc)", None),
            (r"a*b*", None),
            ("", None),
        ] {
            let found = texts(expression);
            assert_eq!(
                found.as_deref().map(|texts| texts.iter().map(String::as_str).collect()),
                expected.map(<[&str]>::to_vec),
                "{expression}"
            );
        }
    }

    #[test]
    fn what_a_line_begins_with() {
        for (expression, expected) in [
            (r"^case (?P<name>\S+): (?P<result>PASSED|FAILED)", Some("case ")),
            (r"^\[[^\]]*\] CPU\d+", Some("[")),
            (r"^ab?c", Some("a")),
            (r"^ab+c", Some("ab")),
            (r"^ab{0,2}c", Some("a")),
            (r"^\x41b", Some("")),
            (r"^a|b", None),
            (r"^(?i)a", None),
            (r"a", None),
        ] {
            assert_eq!(beginning(expression).as_deref(), expected, "{expression}");
        }
    }

    proptest! {
        /// Nothing is missed of what the expression alone would find.
        #[test]
        fn no_line_is_missed(
            expression in r"(a|b|ab|abc|\\.|\\\||\\d|\\b|\.|\||\?|\*|\+|\{2\}|\{0,2\}|\^|\$|\[ab\]|\[\^\]c\]|\(ab\|c\)|\(\?:ba\|\[\)\]c\)|\(\?i\)|\(\?<n>c\)|é){0,8}",
            line in r"[abcABC.|\])1é ]{0,12}",
        ) {
            if let (Ok(regex), Some(required)) = (Regex::new(&expression), Required::of(&expression)) {
                prop_assert!(!regex.is_match(&line) || required.may_be_in(&line), "{expression} in {line}");
            }
        }
    }
}
