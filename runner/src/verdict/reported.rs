//! What is to be said of the cases that were reported, and of those that were not.

use super::words::{after_colon, names};
use super::{Evidence, Outcome, Subject, Verdict, verdict};
use crate::case::{Case, CaseFormat, CaseResult, MOST_BYTES, MOST_CASES};

/// A case failed, or the report contradicts itself.
pub(super) fn failed_cases(evidence: &Evidence<'_>) -> Option<Verdict> {
    let log = evidence.cases;
    let failed: Vec<_> = with_result(evidence, CaseResult::Failed).collect();
    let reason = if let Some(first) = failed.first() {
        let more = if failed.len() > 1 { format!("; {} more", failed.len() - 1) } else { String::new() };
        format!("case {}{}{more}", first.name, after_colon(&first.reason))
    } else if !log.repeated.is_empty() {
        format!("reported more than once: {}", names(&log.repeated))
    } else if log.too_many {
        format!("more than {MOST_CASES} cases were reported")
    } else if log.too_long {
        format!("more than {} MiB of cases were reported", MOST_BYTES >> 20)
    } else if !log.late.is_empty() {
        format!("reported after the end: {}", names(&log.late))
    } else if let Some(fault) = log.faults.first() {
        format!("the report is wrong: {fault}")
    } else {
        return None;
    };
    Some(verdict(Outcome::Failed, reason))
}

/// What should have been reported or printed was not.
pub(super) fn incomplete(evidence: &Evidence<'_>) -> Option<Verdict> {
    let reason = match evidence.rules {
        // Silence is never success, whatever else is asked of a guest.
        None if matches!(evidence.subject, Subject::Guest(_))
            && evidence.printed == 0
            && !evidence.may_be_silent =>
        {
            Some("it ended without printing anything".to_owned())
        }
        None => None,
        Some(_) => incomplete_report(evidence),
    };
    let reason = reason.or_else(|| unprinted(evidence))?;
    Some(verdict(Outcome::Incomplete, reason))
}

fn incomplete_report(evidence: &Evidence<'_>) -> Option<String> {
    let (rules, log) = (evidence.rules?, evidence.cases);
    let count = log.cases.len();
    if let Some(why) = &log.bailed_out {
        return Some(format!("it gave up after {count} cases{}", after_colon(why)));
    }
    if count == 0 && !planned_none(evidence) {
        return Some("it ended without reporting any case".to_owned());
    }
    let missing = rules.expected.iter().filter(|name| log.cases.iter().all(|case| case.name != **name));
    let missing: Vec<String> = missing.cloned().collect();
    if !missing.is_empty() {
        let (missing_count, all) = (missing.len(), rules.expected.len());
        return Some(format!("{missing_count} of {all} cases are missing: {}", names(&missing)));
    }
    if let Some(expected) = rules.count.filter(|expected| count < *expected) {
        return Some(format!("{count} of {expected} cases were reported"));
    }
    match (&rules.format, &log.plan) {
        (CaseFormat::Tap, None) => Some("its report has no plan (1..N)".to_owned()),
        (CaseFormat::Tap, Some((planned, _))) if (count as u64) < *planned => {
            Some(format!("{count} of {planned} planned cases were reported"))
        }
        (CaseFormat::Lines(format), _) if format.header.is_some() && !log.has_header => {
            Some("its report has no header".to_owned())
        }
        _ => None,
    }
}

/// Lines that a good end needs.
fn unprinted(evidence: &Evidence<'_>) -> Option<String> {
    let (exceptions, _) = &evidence.exceptions;
    if let Some(expected) = evidence.expected_exceptions.filter(|expected| exceptions < expected) {
        return Some(format!("{exceptions} of {expected} exceptions were reported"));
    }
    let first = evidence.unprinted.first()?;
    let more = evidence.unprinted.len() - 1;
    let more = if more > 0 { format!("; {more} more") } else { String::new() };
    Some(format!("it did not print what a good end needs: {first:?}{more}"))
}

/// More than was expected.
pub(super) fn too_many(evidence: &Evidence<'_>) -> Option<Verdict> {
    let rules = evidence.rules?;
    let count = evidence.cases.cases.len();
    let unexpected = unexpected(evidence);
    let reason = match (rules.count, &evidence.cases.plan) {
        (Some(expected), _) if count > expected => format!("{count} cases where {expected} are expected"),
        (_, Some((planned, _))) if count as u64 > *planned => {
            format!("{count} cases where {planned} are planned")
        }
        _ if rules.only_expected && !unexpected.is_empty() => format!("not expected: {}", names(&unexpected)),
        _ => return None,
    };
    Some(verdict(Outcome::Failed, reason))
}

/// Nothing was tried, and it says so itself.
pub(super) fn all_skipped(evidence: &Evidence<'_>) -> Option<Verdict> {
    evidence.rules?;
    let cases = &evidence.cases.cases;
    let skipped = with_result(evidence, CaseResult::Skipped).count();
    if skipped < cases.len() || (cases.is_empty() && !planned_none(evidence)) {
        return None;
    }
    let reason = match (cases.first(), &evidence.cases.plan) {
        (Some(first), _) => {
            format!("all of its cases ({skipped}) were skipped{}", after_colon(&first.reason))
        }
        (None, plan) => {
            let why = plan.as_ref().map_or("", |(_, reason)| reason.as_str());
            format!("it planned no case{}", after_colon(why))
        }
    };
    Some(verdict(Outcome::Skipped, reason))
}

/// What is worth saying of cases that are all well.
pub(super) fn remark(evidence: &Evidence<'_>) -> String {
    let skipped: Vec<String> =
        with_result(evidence, CaseResult::Skipped).map(|case| case.name.clone()).collect();
    let remarks = [("not expected: ", unexpected(evidence)), ("skipped: ", skipped)];
    let remarks = remarks.iter().filter(|(_, list)| !list.is_empty());
    remarks.map(|(what, list)| format!("{what}{}", names(list))).collect::<Vec<_>>().join("; ")
}

fn unexpected(evidence: &Evidence<'_>) -> Vec<String> {
    let Some(rules) = evidence.rules.filter(|rules| !rules.expected.is_empty()) else { return Vec::new() };
    let cases = evidence.cases.cases.iter().filter(|case| !rules.expected.contains(&case.name));
    cases.map(|case| case.name.clone()).collect()
}

fn planned_none(evidence: &Evidence<'_>) -> bool {
    matches!(&evidence.cases.plan, Some((0, _)))
}

fn with_result<'e>(evidence: &'e Evidence<'_>, result: CaseResult) -> impl Iterator<Item = &'e Case> {
    evidence.cases.cases.iter().filter(move |case| case.result == result)
}
