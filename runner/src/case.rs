use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::suite::Pattern;
use crate::toolkit;

/// How cases stand in a test's output.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseFormat {
    /// A line that reports a case: the groups `name` and `result`, and `reason` where it gives one.
    pub pattern: Pattern,
    /// The line after which no case may come; nothing where there is none.
    pub end: Option<String>,
    /// The results that mean passed.
    pub passed: Vec<String>,
    /// The results that mean failed.
    pub failed: Vec<String>,
}

/// A case that a test reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Its name, unique within its test.
    pub name: String,
    /// What was reported of it.
    pub result: CaseResult,
    /// Why, where that was said; empty otherwise.
    pub reason: String,
}

/// What a test reported of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseResult {
    /// It passed.
    Passed,
    /// It failed, or its result is none that the format knows.
    Failed,
}

impl CaseFormat {
    /// toril's own: `case NAME: PASSED` or `case NAME: FAILED (REASON)`.
    pub fn toril() -> CaseFormat {
        #[expect(clippy::expect_used, reason = "a constant, and every test of this file reads it")]
        let pattern = Pattern::parse(toolkit::CASE_PATTERN).expect("a regular expression");
        CaseFormat {
            pattern,
            end: Some(toolkit::contract::END.into()),
            passed: vec!["PASSED".into()],
            failed: vec!["FAILED".into()],
        }
    }

    /// The case that a line reports, if it reports one.
    pub fn read(&self, line: &str) -> Option<Case> {
        let groups = self.pattern.captures(line)?;
        let name = groups.name("name")?.as_str().to_owned();
        let word = groups.name("result")?.as_str();
        let said = groups.name("reason").map_or("", |reason| reason.as_str());
        let (result, reason) = if self.passed.iter().any(|known| known == word) {
            (CaseResult::Passed, said.to_owned())
        } else if self.failed.iter().any(|known| known == word) {
            (CaseResult::Failed, said.to_owned())
        } else {
            (CaseResult::Failed, format!("its result is `{word}`"))
        };
        Some(Case { name, result, reason })
    }
}

/// The cases of one test as they come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CaseLog {
    /// In the order of their coming, each name once.
    pub cases: Vec<Case>,
    /// Names that came more than once.
    pub repeated: Vec<String>,
    /// Names that came after the line that says the end.
    pub late: Vec<String>,
    /// Whether there were more than are kept.
    pub too_many: bool,
    ended: bool,
    /// Where each name is in `cases`, and whether it came again.
    index: HashMap<String, (usize, bool)>,
}

/// More cases than this are not kept: a guest gone wild must fill neither the memory nor the report.
pub(crate) const MOST_CASES: usize = 10_000;

impl CaseLog {
    /// Takes a line; the case, if it reports one that is new, or worse than it was.
    pub(crate) fn take(&mut self, format: &CaseFormat, line: &str) -> Option<Case> {
        if format.end.as_deref() == Some(line.trim_end()) {
            self.ended = true;
            return None;
        }
        let case = format.read(line)?;
        if self.ended && self.late.len() < MOST_CASES {
            self.late.push(case.name.clone());
        }
        if let Some((index, again)) = self.index.get_mut(&case.name) {
            if !std::mem::replace(again, true) {
                self.repeated.push(case.name.clone());
            }
            let known = self.cases.get_mut(*index)?;
            let worse = known.result == CaseResult::Passed && case.result == CaseResult::Failed;
            return worse.then(|| {
                known.clone_from(&case);
                case
            });
        }
        if self.cases.len() == MOST_CASES {
            self.too_many = true;
            return None;
        }
        self.index.insert(case.name.clone(), (self.cases.len(), false));
        self.cases.push(case.clone());
        Some(case)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_format() {
        let format = CaseFormat::toril();
        let read = |line| format.read(line).map(|case| (case.name, case.result, case.reason));
        assert_eq!(read("case sse: PASSED"), Some(("sse".into(), CaseResult::Passed, String::new())));
        assert_eq!(read("case a: FAILED (1 (2))"), Some(("a".into(), CaseResult::Failed, "1 (2)".into())));
        assert_eq!(read("case a: FAILED"), Some(("a".into(), CaseResult::Failed, String::new())));
        assert_eq!(read("case a: passed"), None);
        assert_eq!(read("showcase a: PASSED"), None);
    }

    #[test]
    fn a_format_as_data() {
        let format = CaseFormat {
            pattern: Pattern::parse(r"CPU\d+ Thread#\S+ (?<name>\S+): (?<result>[A-Z ]+)$").unwrap(),
            end: None,
            passed: vec!["PASSED".into()],
            failed: vec!["FAILED".into()],
        };
        let line = "[27/02/1987-04:10:55] CPU0 Thread#0x43FBF70 TestBeginThread-0: NOT IMPLEMENTED";
        let case = format.read(line).unwrap();
        assert_eq!((case.name.as_str(), case.result), ("TestBeginThread-0", CaseResult::Failed));
        assert_eq!(case.reason, "its result is `NOT IMPLEMENTED`");
    }

    #[test]
    fn repeated_and_late_cases_are_seen() {
        let format = CaseFormat::toril();
        let mut log = CaseLog::default();
        for line in
            ["case a: FAILED", "case a: PASSED", "case b: PASSED", "toril-guest: end", "case c: PASSED"]
        {
            log.take(&format, line);
        }
        assert_eq!(log.cases.len(), 3);
        assert_eq!(log.cases[0].result, CaseResult::Failed);
        assert_eq!((log.repeated, log.late), (vec!["a".to_owned()], vec!["c".to_owned()]));
    }
}
