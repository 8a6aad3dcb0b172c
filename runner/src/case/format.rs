use super::{Case, CaseLog, CaseResult, tap};
use crate::capture::Line;
use crate::suite::Pattern;
use crate::toolkit;

/// How cases stand in a test's output.
#[derive(Debug, Clone, PartialEq)]
pub enum CaseFormat {
    /// Each in a line that a pattern finds.
    Lines(Box<LineFormat>),
    /// The Test Anything Protocol, versions 12 to 14: <https://testanything.org/tap-version-14-specification.html>.
    Tap,
}

/// Cases that stand in a line each.
#[derive(Debug, Clone, PartialEq)]
pub struct LineFormat {
    /// A line that reports a case: the groups `name` and `result`, and `reason` where it gives one.
    pub pattern: Pattern,
    /// A line without which the report is none; nothing where there is none.
    pub header: Option<Pattern>,
    /// The line after which no case may come; nothing where there is none.
    pub end: Option<Pattern>,
    /// A line that is meant to report a case: where `pattern` finds none in it, the report is wrong. Nothing where that
    /// cannot be told.
    pub like: Option<Pattern>,
    /// The results that mean passed.
    pub passed: Vec<String>,
    /// The results that mean failed.
    pub failed: Vec<String>,
    /// The results that mean skipped.
    pub skipped: Vec<String>,
}

/// What is meant as a case of toril's own format, in whatever spelling.
const TORIL_LIKE: &str = r"^case .*:\s*(?:PASS|FAIL|SKIP|ERROR|[Pp]ass|[Ff]ail|[Ss]kip|[Ee]rror)";

/// What Toro's debugging console says of a case, after the time, the CPU and the thread.
const TORO_CASE: &str =
    r"^\[[^\]]*\] CPU\d+ Thread#\S+ (?<name>\S+): (?<result>PASSED|FAILED|SKIPPED|NOT IMPLEMENTED)\s*$";

/// What it says first of all.
const TORO_HEADER: &str = "Initialization of debugging console";

impl CaseFormat {
    /// The names of the formats that are built in.
    pub const BUILT_IN: [&'static str; 3] = ["toril", "tap", "toro"];

    /// A format that is built in.
    pub fn built_in(name: &str) -> Option<CaseFormat> {
        match name {
            "toril" => Some(CaseFormat::toril()),
            "tap" => Some(CaseFormat::Tap),
            "toro" => Some(CaseFormat::toro()),
            _ => None,
        }
    }

    /// The cases of a whole text, as a test's output would be read.
    pub fn read_all(&self, text: &str) -> Vec<Case> {
        let mut log = CaseLog::default();
        for line in text.lines() {
            log.take(self, Line::whole(line));
        }
        log.cases
    }

    /// Whether a line that begins so may report a case, or more than one can see of it.
    pub(crate) fn may_begin(&self, beginning: &str) -> bool {
        match self {
            CaseFormat::Lines(format) => format.pattern.may_begin(beginning),
            CaseFormat::Tap => tap::read(beginning).is_some(),
        }
    }

    /// toril's own: `case NAME: PASSED` or `case NAME: FAILED (REASON)`.
    pub fn toril() -> CaseFormat {
        CaseFormat::Lines(Box::new(LineFormat {
            pattern: constant(toolkit::CASE_PATTERN),
            header: None,
            end: Some(constant(&format!(r"^{}\s*$", toolkit::contract::END))),
            like: Some(constant(TORIL_LIKE)),
            passed: vec!["PASSED".into()],
            failed: vec!["FAILED".into()],
            skipped: Vec::new(),
        }))
    }

    /// The Toro unikernel's, of its debugging console.
    pub fn toro() -> CaseFormat {
        CaseFormat::Lines(Box::new(LineFormat {
            pattern: constant(TORO_CASE),
            header: Some(constant(TORO_HEADER)),
            end: None,
            like: None,
            passed: vec!["PASSED".into()],
            failed: vec!["FAILED".into()],
            skipped: vec!["SKIPPED".into(), "NOT IMPLEMENTED".into()],
        }))
    }
}

#[expect(clippy::expect_used, reason = "only for constants, and the tests of this file read each of them")]
fn constant(text: &str) -> Pattern {
    Pattern::parse(text).expect("a regular expression")
}

impl LineFormat {
    /// The case that a line reports, if it reports one.
    pub fn read(&self, line: &str) -> Option<Case> {
        let groups = self.pattern.captures(line)?;
        let name = groups.name("name")?.as_str().to_owned();
        let word = groups.name("result")?.as_str();
        let said = groups.name("reason").map_or("", |reason| reason.as_str());
        let is = |words: &[String]| words.iter().any(|known| known == word);
        let (result, reason) = if is(&self.passed) {
            (CaseResult::Passed, said.to_owned())
        } else if is(&self.failed) {
            (CaseResult::Failed, said.to_owned())
        } else if is(&self.skipped) {
            (CaseResult::Skipped, if said.is_empty() { word.to_lowercase() } else { said.to_owned() })
        } else {
            (CaseResult::Failed, format!("its result is `{word}`"))
        };
        Some(Case { name, result, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &CaseFormat, line: &str) -> Option<(String, CaseResult, String)> {
        let CaseFormat::Lines(format) = format else { panic!("no lines") };
        format.read(line).map(|case| (case.name, case.result, case.reason))
    }

    #[test]
    fn own_format() {
        let read = |line| read(&CaseFormat::toril(), line);
        assert_eq!(read("case sse: PASSED"), Some(("sse".into(), CaseResult::Passed, String::new())));
        assert_eq!(read("case a: FAILED (1 (2))"), Some(("a".into(), CaseResult::Failed, "1 (2)".into())));
        assert_eq!(read("case a: FAILED"), Some(("a".into(), CaseResult::Failed, String::new())));
        assert_eq!(read("case a: passed"), None);
        assert_eq!(read("showcase a: PASSED"), None);
    }

    #[test]
    fn toros_format() {
        let read = |line: &str| read(&CaseFormat::toro(), line);
        let line = |what: &str| format!("[27/02/1987-04:10:55] CPU0 Thread#0x43FBF70 {what}");
        assert_eq!(
            read(&line("TestBeginThread-0: PASSED")),
            Some(("TestBeginThread-0".into(), CaseResult::Passed, String::new()))
        );
        assert_eq!(read(&line("TestA: FAILED")), Some(("TestA".into(), CaseResult::Failed, String::new())));
        assert_eq!(
            read(&line("TestCreate-3: NOT IMPLEMENTED")),
            Some(("TestCreate-3".into(), CaseResult::Skipped, "not implemented".into()))
        );
        for other in ["Initialization of debugging console", "TestA: PASSED, said somebody", "a b: PASSED"] {
            assert_eq!(read(&line(other)), None, "{other}");
        }
        assert_eq!(read("TestA: PASSED"), None);
    }

    #[test]
    fn every_built_in_format_is_there() {
        for name in CaseFormat::BUILT_IN {
            assert!(CaseFormat::built_in(name).is_some(), "{name}");
        }
        assert_eq!(CaseFormat::built_in("torl"), None);
    }

    #[test]
    fn a_format_as_data() {
        let format = CaseFormat::Lines(Box::new(LineFormat {
            pattern: Pattern::parse(r"^(?<name>\S+) \.\.\. (?<result>\w+)( because (?<reason>.*))?$")
                .unwrap(),
            header: None,
            end: None,
            like: None,
            passed: vec!["ok".into()],
            failed: vec!["no".into()],
            skipped: vec!["left".into()],
        }));
        let read = |line| read(&format, line).unwrap();
        assert_eq!(read("a ... ok"), ("a".into(), CaseResult::Passed, String::new()));
        assert_eq!(read("a ... no because x"), ("a".into(), CaseResult::Failed, "x".into()));
        assert_eq!(read("a ... left because x"), ("a".into(), CaseResult::Skipped, "x".into()));
        assert_eq!(read("a ... left"), ("a".into(), CaseResult::Skipped, "left".into()));
        assert_eq!(read("a ... maybe"), ("a".into(), CaseResult::Failed, "its result is `maybe`".into()));
    }
}
