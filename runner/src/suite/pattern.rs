use std::fmt;

use regex_lite::Regex;

use super::required::Required;

/// A regular expression that a suite gave.
#[derive(Clone)]
pub struct Pattern {
    regex: Regex,
    required: Option<Required>,
}

impl Pattern {
    /// Reads a regular expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        Regex::new(text)
            .map(|regex| Pattern { required: Required::of(text), regex })
            .map_err(|error| format!("`{text}` is not a regular expression: {error}"))
    }

    /// Whether it is found in a line.
    pub fn is_found_in(&self, line: &str) -> bool {
        self.may_be_in(line) && self.regex.is_match(line)
    }

    /// Whether it has a group of this name.
    pub fn has_group(&self, name: &str) -> bool {
        self.regex.capture_names().flatten().any(|group| group == name)
    }

    /// Whether it may be found in a line of which only the beginning is known.
    pub(crate) fn may_begin(&self, beginning: &str) -> bool {
        super::required::beginning(self.as_str()).is_none_or(|text| beginning.starts_with(&text))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.regex.as_str()
    }

    pub(crate) fn captures<'l>(&self, line: &'l str) -> Option<regex_lite::Captures<'l>> {
        if self.may_be_in(line) { self.regex.captures(line) } else { None }
    }

    fn may_be_in(&self, line: &str) -> bool {
        self.required.as_ref().is_none_or(|required| required.may_be_in(line))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.as_str() == other.as_str()
    }
}
