use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::case::{CaseLog, CaseResult, MOST_CASES};
use crate::event::Summary;
use crate::suite::{CaseRules, ExpectedEnd};

/// What came of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every expected case was reported and passed, and it ended as it should.
    Passed,
    /// A case reported failure, or it ended in an orderly way but not as it should.
    Failed,
    /// The guest panicked or triple-faulted, printed without end, or QEMU died.
    Crashed,
    /// No end within the deadline.
    TimedOut,
    /// It ended, but reported no case, or fewer than expected.
    Incomplete,
    /// It never started: the host or the set-up is to blame.
    Error,
    /// The host cannot run it, or the run was stopped.
    Skipped,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 7] = [
        Outcome::Passed,
        Outcome::Failed,
        Outcome::Crashed,
        Outcome::TimedOut,
        Outcome::Incomplete,
        Outcome::Error,
        Outcome::Skipped,
    ];

    /// In words, such as `timed out`.
    pub fn words(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Crashed => "crashed",
            Outcome::TimedOut => "timed out",
            Outcome::Incomplete => "incomplete",
            Outcome::Error => "error",
            Outcome::Skipped => "skipped",
        }
    }

    /// Whether it speaks against the code that was tested.
    pub fn blames_the_code(self) -> bool {
        matches!(self, Outcome::Failed | Outcome::Crashed | Outcome::TimedOut | Outcome::Incomplete)
    }
}

/// A run's exit status: 1 where it was stopped; 5 where a test is an error, none ran, or the machine can run none of
/// the guests; 4 where the code is to blame; else 0.
pub fn exit_status(summary: &Summary) -> u8 {
    let has = |wanted: fn(Outcome) -> bool| summary.results.iter().any(|result| wanted(result.outcome));
    if summary.stopped {
        1
    } else if summary.no_guests
        || has(|outcome| outcome == Outcome::Error)
        || !has(|outcome| outcome != Outcome::Skipped)
    {
        5
    } else if has(Outcome::blames_the_code) {
        4
    } else {
        0
    }
}

/// Lines of this many exceptions in one test are a storm; a few are part of some tests.
pub(crate) const STORM: u64 = 1000;

/// Everything about a test that its verdict rests on.
#[derive(Debug, Clone)]
pub(crate) struct Evidence<'t> {
    pub subject: Subject,
    pub ending: Ending,
    /// From its start to its end.
    pub elapsed: Duration,
    /// When it last printed, counted from its start; nothing where it never did.
    pub last_output: Option<Duration>,
    /// Bytes that it printed.
    pub printed: u64,
    /// The first line that says panic.
    pub panic_line: Option<String>,
    /// How many lines report an exception, and the last of them.
    pub exceptions: (u64, String),
    /// The last thing that it, or QEMU, said on standard error; empty where nothing.
    pub last_error_line: String,
    pub rules: Option<&'t CaseRules>,
    pub cases: &'t CaseLog,
}

/// What was tested.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    Command,
    Guest(GuestEvidence),
}

/// What QEMU told of a guest.
#[derive(Debug, Clone)]
pub(crate) struct GuestEvidence {
    pub ends: ExpectedEnd,
    /// QEMU let the guest run.
    pub started: bool,
    /// The reason of QMP's SHUTDOWN event, such as `guest-reset`.
    pub shutdown: Option<String>,
    /// QMP's GUEST_PANICKED.
    pub panicked: bool,
    /// A line of QEMU's that says the guest cannot go on, though QEMU may.
    pub broken: Option<String>,
}

/// How it came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It could not be started, or its end could not be learnt; why.
    NotStarted(String),
    /// By itself.
    Exited(Exit),
    /// toril ended it.
    Cut(Cut),
}

/// A process's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

/// Why toril ended a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Deadline(Duration),
    /// More output than this many bytes.
    Flood(u64),
    /// Exception after exception.
    Storm,
    /// It said that it panicked and did not end.
    Panic,
    /// QEMU said that the guest cannot go on.
    Broken,
    /// Whoever started the run stopped it.
    Stopped,
}

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
    broken_vmm(evidence)
        .or_else(|| crashed(evidence))
        .or_else(|| timed_out(evidence))
        .or_else(|| not_runnable(evidence))
        .or_else(|| failed_cases(evidence))
        .or_else(|| failed_command(evidence))
        .or_else(|| incomplete(evidence))
        .or_else(|| wrong_end(evidence))
        .unwrap_or_else(|| passed(evidence))
}

fn broken_vmm(evidence: &Evidence<'_>) -> Option<Verdict> {
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
        let reason = format!("QEMU was killed by {}{said}", signal_name(signal));
        return Some(verdict(Outcome::Crashed, reason));
    }
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
        // Both are judged above when there is a line to show; a cut without one is no end either.
        Ending::Cut(_) => evidence.elapsed,
        Ending::Exited(_) | Ending::NotStarted(_) => return None,
    };
    let silence = match evidence.last_output {
        None => "silent from the start".into(),
        Some(last) if evidence.elapsed.saturating_sub(last) < Duration::from_millis(500) => {
            format!("still printing, {} so far", size(evidence.printed))
        }
        Some(last) => format!("silent since {} after its start", seconds(last)),
    };
    let mut reason = format!("no end within {}; {silence}", seconds(limit));
    let failed = evidence.cases.cases.iter().filter(|case| case.result == CaseResult::Failed).count();
    if failed > 0 {
        reason.push_str(&format!("; {failed} of its cases had failed"));
    }
    Some(verdict(Outcome::TimedOut, reason))
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

fn failed_cases(evidence: &Evidence<'_>) -> Option<Verdict> {
    let failed: Vec<_> =
        evidence.cases.cases.iter().filter(|case| case.result == CaseResult::Failed).collect();
    if let Some(first) = failed.first() {
        let mut reason = format!("case {}{}", first.name, after_colon(&first.reason));
        if failed.len() > 1 {
            reason.push_str(&format!("; {} more", failed.len() - 1));
        }
        return Some(verdict(Outcome::Failed, reason));
    }
    if !evidence.cases.repeated.is_empty() {
        let reason = format!("reported more than once: {}", names(&evidence.cases.repeated));
        return Some(verdict(Outcome::Failed, reason));
    }
    if evidence.cases.too_many {
        return Some(verdict(Outcome::Failed, format!("more than {MOST_CASES} cases were reported")));
    }
    if !evidence.cases.late.is_empty() {
        let reason = format!("reported after the end: {}", names(&evidence.cases.late));
        return Some(verdict(Outcome::Failed, reason));
    }
    None
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

fn incomplete(evidence: &Evidence<'_>) -> Option<Verdict> {
    let Some(rules) = evidence.rules else {
        // Silence is never success, whatever else is asked of a guest.
        let silent = matches!(evidence.subject, Subject::Guest(_)) && evidence.printed == 0;
        return silent.then(|| verdict(Outcome::Incomplete, "it ended without printing anything"));
    };
    let cases = &evidence.cases.cases;
    let missing = rules.expected.iter().filter(|name| cases.iter().all(|case| case.name != **name));
    let missing: Vec<String> = missing.cloned().collect();
    let reason = match rules.count {
        _ if cases.is_empty() => "it ended without reporting any case".to_owned(),
        _ if !missing.is_empty() => {
            format!("{} of {} cases are missing: {}", missing.len(), rules.expected.len(), names(&missing))
        }
        Some(count) if cases.len() < count => format!("{} of {count} cases were reported", cases.len()),
        _ => return None,
    };
    Some(verdict(Outcome::Incomplete, reason))
}

fn wrong_end(evidence: &Evidence<'_>) -> Option<Verdict> {
    let count = evidence.cases.cases.len();
    if let Some(expected) = evidence.rules.and_then(|rules| rules.count).filter(|expected| count > *expected)
    {
        return Some(verdict(Outcome::Failed, format!("{count} cases where {expected} are expected")));
    }
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
        (_, _, Some(rules)) if !rules.expected.is_empty() => {
            let unexpected = evidence.cases.cases.iter().filter(|case| !rules.expected.contains(&case.name));
            let unexpected: Vec<String> = unexpected.map(|case| case.name.clone()).collect();
            if unexpected.is_empty() {
                String::new()
            } else {
                format!("not expected: {}", names(&unexpected))
            }
        }
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

fn names(list: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = list.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if list.len() > SHOWN {
        text.push_str(&format!(" and {} more", list.len() - SHOWN));
    }
    text
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{} ms", duration.as_millis());
    }
    format!("{} s", (duration.as_secs_f64() * 10.0).round() / 10.0)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    name.into()
}

#[cfg(test)]
mod tests;
