//! The one verdict of a test: what it rests on, the rules in their order, and how they put it.

mod evidence;
mod helpers;
mod outcome;
mod reported;
mod words;

use std::time::Duration;

use crate::case::CaseResult;
use crate::suite::ExpectedEnd;

pub(crate) use evidence::{Cut, Ending, Evidence, Exit, GuestEvidence, STORM, Subject};
pub(crate) use helpers::HelperEvidence;
pub use outcome::{Outcome, exit_status};
use words::{after_colon, size};
pub(crate) use words::{seconds, signal_name};

/// An outcome and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub outcome: Outcome,
    pub reason: String,
}

fn verdict(outcome: Outcome, reason: impl Into<String>) -> Verdict {
    Verdict { outcome, reason: reason.into() }
}

/// The one verdict that evidence gives: the most telling cause first, and success only where nothing else is left.
pub(crate) fn judge(evidence: &Evidence<'_>) -> Verdict {
    if let Ending::NotStarted(why) = &evidence.ending {
        return verdict(Outcome::Error, why.clone());
    }
    if evidence.ending == Ending::Cut(Cut::Stopped) {
        return verdict(Outcome::Skipped, format!("stopped after {}", seconds(evidence.elapsed)));
    }
    helpers::not_ready(evidence)
        .or_else(|| killed_vmm(evidence))
        .or_else(|| helpers::support_lost(evidence))
        .or_else(|| broken_vmm(evidence))
        .or_else(|| crashed(evidence))
        .or_else(|| timed_out(evidence))
        .or_else(|| not_runnable(evidence))
        .or_else(|| reported::failed_cases(evidence))
        .or_else(|| helpers::companion_failed(evidence))
        .or_else(|| failed_command(evidence))
        .or_else(|| reported::incomplete(evidence))
        .or_else(|| reported::too_many(evidence))
        .or_else(|| wrong_end(evidence))
        .or_else(|| reported::all_skipped(evidence))
        .unwrap_or_else(|| passed(evidence))
}

fn killed_vmm(evidence: &Evidence<'_>) -> Option<Verdict> {
    let Subject::Guest(guest) = &evidence.subject else {
        return match evidence.ending {
            Ending::Exited(Exit::Signal(signal)) => {
                let said = after_colon(&evidence.last_error_line);
                Some(verdict(Outcome::Crashed, format!("killed by {}{said}", signal_name(signal))))
            }
            _ => None,
        };
    };
    if let Ending::Exited(Exit::Signal(signal)) = evidence.ending {
        let said = after_colon(guest.broken.as_deref().unwrap_or(&evidence.last_error_line));
        let name = signal_name(signal);
        // A QEMU that says what it does not get from KVM breaks on its first steps with the guest.
        return Some(match guest.started || guest.broken.is_some() {
            true => verdict(Outcome::Crashed, format!("QEMU was killed by {name}{said}")),
            false => verdict(Outcome::Error, format!("QEMU was killed by {name} before the guest ran{said}")),
        });
    }
    None
}

fn broken_vmm(evidence: &Evidence<'_>) -> Option<Verdict> {
    let Subject::Guest(guest) = &evidence.subject else { return None };
    if let Some(line) = &guest.broken {
        return Some(verdict(Outcome::Crashed, format!("QEMU said: {line}")));
    }
    match evidence.ending {
        Ending::Exited(Exit::Code(code)) if !guest.started => {
            let said = after_colon(&evidence.last_error_line);
            let reason = format!("QEMU exited with status {code} before the guest ran{said}");
            Some(verdict(Outcome::Error, reason))
        }
        _ => None,
    }
}

fn crashed(evidence: &Evidence<'_>) -> Option<Verdict> {
    if let Some(line) = &evidence.panic_line {
        return Some(verdict(Outcome::Crashed, format!("panic: {}", line.trim_start_matches("panic: "))));
    }
    if matches!(&evidence.subject, Subject::Guest(guest) if guest.panicked) {
        return Some(verdict(Outcome::Crashed, "the guest told QEMU that it panicked"));
    }
    let (exceptions, last) = &evidence.exceptions;
    if *exceptions >= STORM {
        let reason = format!("exception storm: {exceptions} of them, the last: {last}");
        return Some(verdict(Outcome::Crashed, reason));
    }
    if let Some(expected) = evidence.expected_exceptions.filter(|expected| exceptions > expected) {
        let reason = format!("{exceptions} exceptions where {expected} are expected, the last: {last}");
        return Some(verdict(Outcome::Crashed, reason));
    }
    if let Ending::Cut(Cut::Flood(limit)) = evidence.ending {
        let reason = format!("flood: more than {} of output", size(limit));
        return Some(verdict(Outcome::Crashed, reason));
    }
    match &evidence.subject {
        Subject::Guest(GuestEvidence { ends, shutdown: Some(reason), .. })
            if reason == "guest-reset" && !matches!(ends, ExpectedEnd::Reset | ExpectedEnd::Any) =>
        {
            Some(verdict(Outcome::Crashed, "the guest reset: a triple fault, unless it meant to"))
        }
        _ => None,
    }
}

fn timed_out(evidence: &Evidence<'_>) -> Option<Verdict> {
    let limit = match evidence.ending {
        Ending::Cut(Cut::Deadline(limit)) => limit,
        Ending::Cut(Cut::CaseDeadline(limit)) => {
            let last = evidence.cases.cases.last().map(|case| format!(" after {}", case.name));
            let last = last.unwrap_or_default();
            return Some(verdict(
                Outcome::TimedOut,
                format!("no new case within {}{last}; {}", seconds(limit), silence(evidence)),
            ));
        }
        // Judged by what became of the other process.
        Ending::Cut(Cut::Support | Cut::Companion) => return None,
        // Both are judged above when there is a line to show; a cut without one is no end either.
        Ending::Cut(_) => evidence.elapsed,
        Ending::Exited(_) | Ending::NotStarted(_) => return None,
    };
    let mut reason = format!("no end within {}; {}", seconds(limit), silence(evidence));
    let failed = evidence.cases.cases.iter().filter(|case| case.result == CaseResult::Failed).count();
    if failed > 0 {
        reason.push_str(&format!("; {failed} of its cases had failed"));
    }
    Some(verdict(Outcome::TimedOut, reason))
}

/// Whether it still printed when it was ended, and since when it did not.
fn silence(evidence: &Evidence<'_>) -> String {
    match evidence.last_output {
        None => "silent from the start".into(),
        Some(last) if evidence.elapsed.saturating_sub(last) < Duration::from_millis(500) => {
            format!("still printing, {} so far", size(evidence.printed))
        }
        Some(last) => format!("silent since {} after its start", seconds(last)),
    }
}

fn not_runnable(evidence: &Evidence<'_>) -> Option<Verdict> {
    match (&evidence.subject, &evidence.ending) {
        // What a shell makes of a program that is missing or cannot be executed.
        (Subject::Command, Ending::Exited(Exit::Code(code @ (126 | 127)))) => {
            let said = after_colon(&evidence.last_error_line);
            Some(verdict(Outcome::Error, format!("exit status {code}: a program could not be run{said}")))
        }
        _ => None,
    }
}

fn failed_command(evidence: &Evidence<'_>) -> Option<Verdict> {
    match (&evidence.subject, &evidence.ending) {
        (Subject::Command, Ending::Exited(Exit::Code(code @ 1..))) => {
            let said = after_colon(&evidence.last_error_line);
            Some(verdict(Outcome::Failed, format!("exit status {code}{said}")))
        }
        _ => None,
    }
}

fn wrong_end(evidence: &Evidence<'_>) -> Option<Verdict> {
    let (Subject::Guest(guest), Ending::Exited(Exit::Code(code))) = (&evidence.subject, &evidence.ending)
    else {
        return None;
    };
    let shutdown = guest.shutdown.as_deref();
    let (right, expected) = match guest.ends {
        ExpectedEnd::ExitStatus(status) => (*code == status, format!("exit status {status}")),
        ExpectedEnd::Reset => (*code == 0 && shutdown == Some("guest-reset"), "a reset".into()),
        ExpectedEnd::Shutdown => (*code == 0 && shutdown == Some("guest-shutdown"), "a shutdown".into()),
        ExpectedEnd::Any => return None,
    };
    let said = after_colon(&evidence.last_error_line);
    (!right).then(|| {
        verdict(
            Outcome::Failed,
            format!("it ended with {}, not with {expected}{said}", end_of(*code, shutdown)),
        )
    })
}

fn passed(evidence: &Evidence<'_>) -> Verdict {
    let reason = match (&evidence.subject, &evidence.ending, evidence.rules) {
        (_, _, Some(_)) => reported::remark(evidence),
        (Subject::Guest(guest), Ending::Exited(Exit::Code(code)), None) => {
            format!("ended with {}", end_of(*code, guest.shutdown.as_deref()))
        }
        _ => String::new(),
    };
    verdict(Outcome::Passed, reason)
}

fn end_of(code: i32, shutdown: Option<&str>) -> String {
    match shutdown {
        Some(reason) => format!("exit status {code} ({reason})"),
        None => format!("exit status {code}"),
    }
}

#[cfg(test)]
mod tests;
