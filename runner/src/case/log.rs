use std::collections::HashMap;

use super::tap::{self, Point, TapLine};
use super::{Case, CaseFormat};
use crate::capture::{LONGEST_LINE, Line, kept};

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
    /// Whether their names and reasons were longer than is kept.
    pub too_long: bool,
    /// Whether the line came without which the report is none.
    pub has_header: bool,
    /// How many cases the report itself says that it has, and why where it says none; of TAP.
    pub plan: Option<(u64, String)>,
    /// Why the test gave up, where it did; of TAP.
    pub bailed_out: Option<String>,
    /// What is wrong with the report itself.
    pub faults: Vec<String>,
    ended: bool,
    /// Of the names and reasons in `cases`.
    bytes: usize,
    /// Where each case is in `cases`, by what tells it from others, and whether it came again.
    index: HashMap<String, (usize, bool)>,
    /// How many cases came under each name; of TAP, where a number tells cases apart.
    named: HashMap<String, u64>,
    points: u64,
}

/// More cases than this are not kept: a guest gone wild must fill neither the memory nor the report.
pub(crate) const MOST_CASES: usize = 10_000;

/// Nor are more bytes than this kept of their names and reasons, for the same reason.
pub(crate) const MOST_BYTES: usize = 4 << 20;

/// More faults than this are not kept.
const MOST_FAULTS: usize = 16;

impl CaseLog {
    /// Takes a line; the case, if it reports one that is new, or worse than it was.
    pub(crate) fn take(&mut self, format: &CaseFormat, line: Line<'_>) -> Option<Case> {
        let Line { text: line, is_cut } = line;
        if is_cut && format.may_begin(line) {
            let limit = LONGEST_LINE >> 10;
            let what = format!("a line that may report a case is longer than {limit} KiB: `{}`", shown(line));
            self.fault(&what);
        }
        match format {
            CaseFormat::Lines(format) => {
                let is = |pattern: &Option<crate::Pattern>| {
                    pattern.as_ref().is_some_and(|pattern| pattern.is_found_in(line))
                };
                if !self.has_header && is(&format.header) {
                    self.has_header = true;
                    return None;
                }
                if is(&format.end) {
                    self.ended = true;
                    return None;
                }
                let Some(case) = format.read(line).map(Case::shortened) else {
                    if !is_cut && is(&format.like) {
                        self.fault(&format!("`{}` looks like a case, and is none", shown(line)));
                    }
                    return None;
                };
                self.note(case.name.clone(), case)
            }
            CaseFormat::Tap => match tap::read(line)? {
                TapLine::Plan { count, reason } => {
                    self.take_plan(count, reason);
                    None
                }
                TapLine::BailOut(why) => {
                    self.bailed_out.get_or_insert_with(|| kept(&why));
                    None
                }
                TapLine::Point(point) => self.take_point(point),
            },
        }
    }

    fn take_plan(&mut self, count: u64, reason: String) {
        if self.plan.is_some() {
            self.fault("there are two plans");
        }
        // A plan comes first or last.
        self.ended = self.points > 0;
        self.plan.get_or_insert_with(|| (count, kept(&reason)));
    }

    fn take_point(&mut self, point: Point) -> Option<Case> {
        self.points += 1;
        let number = point.number.unwrap_or(self.points);
        if number == 0 {
            self.fault("a case has the number 0");
        }
        let description = match point.description.is_empty() {
            true => number.to_string(),
            false => kept(&point.description),
        };
        let key = number.to_string();
        let known = self.index.get(&key).map(|(index, _)| *index);
        let name = match known.and_then(|index| self.cases.get(index)) {
            Some(case) => case.name.clone(),
            None if self.is_full() => description,
            None => {
                let count = self.named.entry(description.clone()).or_insert(0);
                *count += 1;
                // Of TAP the number tells, and descriptions may well be the same.
                if *count > 1 { format!("{description} ({number})") } else { description }
            }
        };
        self.note(key, Case { name, result: point.result, reason: point.reason }.shortened())
    }

    fn note(&mut self, key: String, case: Case) -> Option<Case> {
        if self.ended && self.late.len() < MOST_CASES {
            self.late.push(case.name.clone());
        }
        if let Some((index, again)) = self.index.get_mut(&key) {
            if !std::mem::replace(again, true) {
                self.repeated.push(case.name.clone());
            }
            let known = self.cases.get_mut(*index)?;
            return case.result.is_worse_than(known.result).then(|| {
                let bytes = self.bytes - known.reason.len() + case.reason.len();
                let mut case = case;
                if bytes > MOST_BYTES {
                    // That it is worse counts all the same.
                    self.too_long = true;
                    case.reason = std::mem::take(&mut known.reason);
                } else {
                    self.bytes = bytes;
                }
                known.clone_from(&case);
                case
            });
        }
        if self.cases.len() == MOST_CASES {
            self.too_many = true;
        }
        let bytes = self.bytes + case.name.len() + case.reason.len();
        if bytes > MOST_BYTES {
            self.too_long = true;
        }
        if self.is_full() {
            return None;
        }
        self.bytes = bytes;
        self.index.insert(key, (self.cases.len(), false));
        self.cases.push(case.clone());
        Some(case)
    }

    /// Whether no more cases are kept. One that did not fit is the last that is looked at: a shorter one after it is not
    /// kept either.
    fn is_full(&self) -> bool {
        self.too_long || self.cases.len() == MOST_CASES
    }

    fn fault(&mut self, what: &str) {
        if self.faults.len() < MOST_FAULTS && self.faults.iter().all(|known| known != what) {
            self.faults.push(what.to_owned());
        }
    }
}

/// As much of a line as tells which it is.
fn shown(line: &str) -> String {
    const SHOWN: usize = 100;
    let mut shown: String = line.trim_end().chars().take(SHOWN).collect();
    if shown.len() < line.trim_end().len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::CaseResult;
    use super::*;

    fn log(format: &CaseFormat, lines: &[&str]) -> CaseLog {
        let mut log = CaseLog::default();
        for line in lines {
            log.take(format, Line::whole(line));
        }
        log
    }

    fn names(log: &CaseLog) -> Vec<&str> {
        log.cases.iter().map(|case| case.name.as_str()).collect()
    }

    #[test]
    fn repeated_and_late_cases_are_seen() {
        let lines =
            ["case a: FAILED", "case a: PASSED", "case b: PASSED", "toril-guest: end", "case c: PASSED"];
        let log = log(&CaseFormat::toril(), &lines);
        assert_eq!(log.cases.len(), 3);
        assert_eq!(log.cases[0].result, CaseResult::Failed);
        assert_eq!((log.repeated, log.late), (vec!["a".to_owned()], vec!["c".to_owned()]));
    }

    #[test]
    fn a_header_is_seen() {
        let line = |what| format!("[27/02/1987-04:10:55] CPU0 Thread#0x43FBF70 {what}");
        let case = line("TestA: PASSED");
        assert!(!log(&CaseFormat::toro(), &[&case]).has_header);
        let header = line("Initialization of debugging console");
        let log = log(&CaseFormat::toro(), &[&header, &case]);
        assert!(log.has_header && names(&log) == ["TestA"]);
    }

    #[test]
    fn numbers_tell_the_cases_of_tap_apart() {
        let lines = [
            "TAP version 14",
            "ok 1 - add",
            "ok 2 - add",
            "    ok 1 - sub",
            "    1..1",
            "ok 3 - sub",
            "ok",
            "1..4",
        ];
        let log = log(&CaseFormat::Tap, &lines);
        assert_eq!(names(&log), ["add", "add (2)", "sub", "4"]);
        assert_eq!(log.plan, Some((4, String::new())));
        assert!(log.repeated.is_empty() && log.late.is_empty() && log.faults.is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_report_in_tap() {
        let again = log(&CaseFormat::Tap, &["1..2", "ok 1 - a", "not ok 1 - a", "ok 2 - b"]);
        assert_eq!((again.repeated, again.cases[0].result), (vec!["a".to_owned()], CaseResult::Failed));
        let after = log(&CaseFormat::Tap, &["ok 1 - a", "1..1", "ok 2 - b"]);
        assert_eq!(after.late, ["b"]);
        let twice = log(&CaseFormat::Tap, &["1..1", "1..2", "ok 0"]);
        assert_eq!(twice.faults, ["there are two plans", "a case has the number 0"]);
        let given_up = log(&CaseFormat::Tap, &["1..9", "ok 1", "Bail out! no disk", "Bail out!"]);
        assert_eq!(given_up.bailed_out.as_deref(), Some("no disk"));
    }

    #[test]
    fn what_is_meant_as_a_case_is_not_passed_over() {
        let toril = CaseFormat::toril();
        for (line, is_wrong) in [
            ("case a: FAILED x", true),
            ("case b c: FAILED (x)", true),
            ("case a: PASSED (why)", false),
            ("case a: passed", true),
            ("case a:FAILED", true),
            ("case a: FAILED (x", true),
            ("case a: SKIPPED", true),
            ("case a: FAIL", true),
            ("in case a: FAILED x", false),
            ("case 7 begins", false),
            ("case closed: all is well", false),
        ] {
            let log = log(&toril, &[line]);
            let fault = format!("`{line}` looks like a case, and is none");
            assert_eq!(log.faults, if is_wrong { vec![fault] } else { Vec::new() }, "{line}");
        }
        let long = format!("case a: FAILED ({}", "x".repeat(200));
        assert!(log(&toril, &[&long]).faults[0].contains("xxx…` looks like"), "it is told in short");
    }

    #[test]
    fn a_line_that_is_cut_may_have_been_a_case() {
        let own = CaseFormat::Lines(Box::new(crate::LineFormat {
            pattern: crate::Pattern::parse(r"(?<name>\S+) \.\.\. (?<result>\w+)$").unwrap(),
            header: None,
            end: None,
            like: None,
            passed: Vec::new(),
            failed: Vec::new(),
            skipped: Vec::new(),
        }));
        let (toril, toro) = (CaseFormat::toril(), CaseFormat::toro());
        for (format, line, is_wrong) in [
            (&toril, "case a: FAILED (x", true),
            (&toril, "case ", true),
            (&toril, "dump: 00 11 22", false),
            (&toro, "[27/02/1987-04:10:55] CPU0 Thread#1 TestA", true),
            (&toro, "dump: 00 11 22", false),
            (&CaseFormat::Tap, "ok 1 - a", true),
            (&CaseFormat::Tap, "# a comment", false),
            // Anything may come after the cut.
            (&own, "dump: 00 11 22", true),
        ] {
            let mut log = CaseLog::default();
            log.take(format, Line { text: line, is_cut: true });
            let fault = format!("a line that may report a case is longer than 64 KiB: `{}`", line.trim_end());
            assert_eq!(log.faults, if is_wrong { vec![fault] } else { Vec::new() }, "{line}");
        }
        let mut log = CaseLog::default();
        let cut = log.take(&CaseFormat::Tap, Line { text: "not ok 1 - a", is_cut: true });
        assert_eq!(cut.unwrap().result, CaseResult::Failed, "what can be read of it counts");
    }

    #[test]
    fn memory_is_bounded_by_what_cases_say_too() {
        let bytes = |log: &CaseLog| -> usize {
            log.cases.iter().map(|case| case.name.len() + case.reason.len()).sum()
        };
        let long = "x".repeat(1500);
        let mut log = CaseLog::default();
        for number in 0..MOST_CASES {
            log.take(&CaseFormat::toril(), Line::whole(&format!("case {number}-{long}: PASSED (why)")));
        }
        assert!(log.too_long && !log.too_many);
        let kept = log.cases.len();
        assert!(kept > 2500 && bytes(&log) <= MOST_BYTES && bytes(&log) == log.bytes, "{kept}");
        log.take(&CaseFormat::toril(), Line::whole("case short: PASSED"));
        assert_eq!(log.cases.len(), kept, "what came after one that did not fit");
        // What is worse than it was counts, with whatever reason there is room for.
        for number in 0..kept {
            let worse = format!("case {number}-{long}: FAILED ({long})");
            assert!(log.take(&CaseFormat::toril(), Line::whole(&worse)).is_some());
        }
        assert!(log.cases.iter().all(|case| case.result == CaseResult::Failed) && bytes(&log) <= MOST_BYTES);
        let mut log = CaseLog::default();
        for number in 0..MOST_CASES {
            log.take(&CaseFormat::Tap, Line::whole(&format!("ok - {number}{long}")));
        }
        assert!(log.too_long && log.named.len() <= log.cases.len() + 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut log = CaseLog::default();
        for number in 0..3 * MOST_CASES {
            log.take(&CaseFormat::Tap, Line::whole(&format!("ok {} - case {number}", number + 1)));
            log.take(&CaseFormat::Tap, Line::whole("ok 0"));
        }
        assert!(log.too_many);
        assert!(
            log.cases.len() == MOST_CASES && log.index.len() <= MOST_CASES && log.named.len() <= MOST_CASES
        );
        assert!(log.repeated.len() <= 1 && log.faults.len() == 1);
    }
}
