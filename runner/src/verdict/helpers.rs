//! What the processes beside the one that is tested have to do with its verdict.

use super::{
    Cut, Ending, Evidence, Exit, Outcome, Subject, Verdict, after_colon, seconds, signal_name, size, verdict,
};
use crate::supervise::Part;

/// A process beside the one that is tested.
#[derive(Debug, Clone)]
pub(crate) struct HelperEvidence {
    /// What messages call it.
    pub name: String,
    pub part: Part,
    /// Whether its turn came.
    pub begun: bool,
    /// How it ended before the test was over; nothing where it did not.
    pub ending: Option<Ending>,
    /// The last thing that it printed; empty where nothing.
    pub last_line: String,
}

impl HelperEvidence {
    /// Whether its end explains something.
    pub(crate) fn ended_badly(&self) -> bool {
        !matches!(self.ending, None | Some(Ending::Exited(Exit::Code(0))))
    }

    /// What is to be said of a companion that had its time after the guest's end and did not end.
    pub(crate) fn had_to_be_ended(&self) -> Option<String> {
        let Part::Companion { leaves: Some(wait) } = self.part else { return None };
        let is_left = self.begun && self.ending.is_none() && !wait.is_zero();
        is_left.then(|| {
            let wait = seconds(wait);
            format!("{} had not ended {wait} after the guest, and was ended: it judged nothing", self.name)
        })
    }

    fn how(&self) -> String {
        let said = after_colon(&self.last_line);
        match &self.ending {
            Some(Ending::Exited(Exit::Code(code))) => format!("exited with status {code}{said}"),
            Some(Ending::Exited(Exit::Signal(signal))) => {
                format!("was killed by {}{said}", signal_name(*signal))
            }
            Some(Ending::NotStarted(why)) => format!("could not be run: {why}"),
            Some(Ending::Cut(_)) | None => "did not end".into(),
        }
    }
}

/// Something that the test's start waits for did not come about.
pub(super) fn not_ready(evidence: &Evidence<'_>) -> Option<Verdict> {
    if evidence.begun {
        return None;
    }
    let Ending::Cut(cut) = evidence.ending else { return None };
    let not_ready = match cut {
        // Judged by what became of the daemon, and of the wish to stop.
        Cut::Support | Cut::Stopped => return None,
        Cut::Companion => {
            let is_companion = |helper: &&HelperEvidence| matches!(helper.part, Part::Companion { .. });
            let companion = evidence.helpers.iter().find(is_companion)?;
            let reason = format!("{} {}; the guest was not started", companion.name, companion.how());
            return Some(verdict(Outcome::Error, reason));
        }
        Cut::Deadline(limit) | Cut::CaseDeadline(limit) => format!("not ready within {}", seconds(limit)),
        Cut::Flood(limit) => format!("not ready within {} of output", size(limit)),
        Cut::Storm | Cut::Panic | Cut::Broken => "not ready".to_owned(),
    };
    let is_waited_for = |helper: &&HelperEvidence| matches!(helper.part, Part::Companion { leaves: Some(_) });
    let reason = match (evidence.helpers.iter().find(is_waited_for), evidence.awaited) {
        (Some(companion), Some(line)) => {
            let said = match companion.last_line.as_str() {
                "" => "it printed nothing".into(),
                line => format!("the last line was: {line}"),
            };
            format!("{} was {not_ready}: no line has {line:?}; {said}", companion.name)
        }
        _ => {
            let names: Vec<&str> = evidence.helpers.iter().map(|helper| helper.name.as_str()).collect();
            format!("{not_ready}: {}", names.join(", "))
        }
    };
    Some(verdict(Outcome::Error, reason))
}

/// Something that the guest needs ended before it did. A guest hangs then, and QEMU says nothing.
pub(super) fn support_lost(evidence: &Evidence<'_>) -> Option<Verdict> {
    let Subject::Guest(guest) = &evidence.subject else { return None };
    let supports = evidence.helpers.iter().filter(|helper| helper.part == Part::Support);
    let is_to_blame = |helper: &&HelperEvidence| match helper.ending {
        None => false,
        // Daemons end so when QEMU does, and may be seen to have ended first.
        Some(Ending::Exited(Exit::Code(0))) => !matches!(evidence.ending, Ending::Exited(_)),
        Some(_) => true,
    };
    let lost = supports.into_iter().find(is_to_blame)?;
    let when = if guest.started { "while the guest ran" } else { "before the guest ran" };
    // Only others send these.
    let from_outside = matches!(lost.ending, Some(Ending::Exited(Exit::Signal(1 | 2 | 9 | 15))));
    let how = lost.how();
    let (how, said) =
        how.split_once(": ").map_or((how.as_str(), String::new()), |(how, said)| (how, after_colon(said)));
    // What it said last has nothing to do with it then.
    let said = if from_outside { String::new() } else { said };
    let started = matches!(lost.ending, Some(Ending::Exited(_))) && guest.started;
    let outcome = if started && !from_outside { Outcome::Crashed } else { Outcome::Error };
    Some(verdict(outcome, format!("{} {how} {when}{said}", lost.name)))
}

/// The companion's own end.
pub(super) fn companion_failed(evidence: &Evidence<'_>) -> Option<Verdict> {
    let companion = evidence.helpers.iter().find(|helper| matches!(helper.part, Part::Companion { .. }))?;
    let outcome = match companion.ending {
        Some(Ending::Exited(Exit::Code(0))) => return None,
        Some(Ending::Exited(Exit::Code(_))) => Outcome::Failed,
        Some(Ending::Exited(Exit::Signal(_))) => Outcome::Crashed,
        Some(_) => Outcome::Error,
        None if matches!(companion.part, Part::Companion { leaves: Some(_) }) => return None,
        None if companion.begun => {
            let waited = seconds(evidence.elapsed);
            let reason = format!("the guest ended, and {} did not within {waited}", companion.name);
            return Some(verdict(Outcome::TimedOut, reason));
        }
        None => {
            let line = evidence.awaited.map_or("a line".into(), |pattern| format!("a line with {pattern:?}"));
            let reason =
                format!("the guest ended without printing {line}, so {} was not started", companion.name);
            return Some(verdict(Outcome::Incomplete, reason));
        }
    };
    Some(verdict(outcome, format!("{} {}", companion.name, companion.how())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{GuestEvidence, judge};
    use super::*;
    use crate::case::CaseLog;
    use crate::suite::{ExpectedEnd, Pattern};

    const DEADLINE: Ending = Ending::Cut(Cut::Deadline(Duration::from_secs(20)));
    const BEFORE: Part = Part::Companion { leaves: Some(Duration::from_millis(500)) };
    const AFTER: Part = Part::Companion { leaves: None };

    fn code(code: i32) -> Ending {
        Ending::Exited(Exit::Code(code))
    }

    fn signal(signal: i32) -> Ending {
        Ending::Exited(Exit::Signal(signal))
    }

    fn helper(part: Part, ending: Option<Ending>, last_line: &str) -> HelperEvidence {
        let name = if part == Part::Support { "virtiofsd" } else { "the companion" }.to_owned();
        HelperEvidence { name, part, begun: true, ending, last_line: last_line.into() }
    }

    /// What is made of a guest that printed something and ended so, with one helper.
    fn judged(ending: Ending, started: bool, begun: bool, helper: HelperEvidence) -> (Outcome, String) {
        let guest =
            GuestEvidence { ends: ExpectedEnd::Any, started, shutdown: None, panicked: false, broken: None };
        let evidence = Evidence {
            subject: Subject::Guest(guest),
            ending,
            elapsed: Duration::from_secs(20),
            last_output: Some(Duration::from_secs(2)),
            printed: 100,
            panic_line: None,
            exceptions: (0, String::new()),
            last_error_line: String::new(),
            rules: None,
            cases: &CaseLog::default(),
            expected_exceptions: None,
            unprinted: Vec::new(),
            may_be_silent: false,
            begun,
            helpers: vec![helper],
            awaited: Some(&Pattern::parse("^ready").unwrap()),
        };
        let verdict = judge(&evidence);
        (verdict.outcome, verdict.reason)
    }

    #[test]
    fn a_daemon_that_is_gone_is_the_cause() {
        use Outcome::{Crashed, Error, Passed, TimedOut};
        let lost = Ending::Cut(Cut::Support);
        let gone = || Ending::NotStarted("cannot run `/v`: no such program on the host".into());
        for (ending, started, daemon, said, outcome, reason) in [
            (
                lost.clone(),
                true,
                Some(signal(6)),
                "panicked at x",
                Crashed,
                "virtiofsd was killed by SIGABRT while the guest ran: panicked at x",
            ),
            (
                lost.clone(),
                true,
                Some(code(1)),
                "a: b: c",
                Crashed,
                "virtiofsd exited with status 1 while the guest ran: a: b: c",
            ),
            (
                lost.clone(),
                true,
                Some(code(0)),
                "",
                Crashed,
                "virtiofsd exited with status 0 while the guest ran",
            ),
            (
                lost.clone(),
                true,
                Some(signal(9)),
                "",
                Error,
                "virtiofsd was killed by SIGKILL while the guest ran",
            ),
            (
                lost.clone(),
                false,
                Some(code(1)),
                "no dir",
                Error,
                "virtiofsd exited with status 1 before the guest ran: no dir",
            ),
            (
                lost,
                false,
                Some(gone()),
                "",
                Error,
                "virtiofsd could not be run before the guest ran: cannot run `/v`: no such program on the host",
            ),
            // QEMU could not go on without it either.
            (
                code(1),
                false,
                Some(code(1)),
                "no dir",
                Error,
                "virtiofsd exited with status 1 before the guest ran: no dir",
            ),
            (
                code(33),
                true,
                Some(signal(11)),
                "",
                Crashed,
                "virtiofsd was killed by SIGSEGV while the guest ran",
            ),
            // It ended because QEMU did.
            (code(33), true, Some(code(0)), "bye", Passed, "ended with exit status 33"),
            (signal(6), true, Some(code(1)), "", Crashed, "QEMU was killed by SIGABRT"),
            (code(33), true, None, "", Passed, "ended with exit status 33"),
            (DEADLINE, true, None, "", TimedOut, "no end within 20 s; silent since 2 s after its start"),
        ] {
            let judged = judged(ending.clone(), started, true, helper(Part::Support, daemon.clone(), said));
            assert_eq!(judged, (outcome, reason.to_owned()), "{ending:?} {daemon:?}");
        }
    }

    #[test]
    fn a_companion_that_had_to_be_ended_is_named() {
        let said = helper(BEFORE, None, "").had_to_be_ended().unwrap();
        assert_eq!(
            said,
            "the companion had not ended 500 ms after the guest, and was ended: it judged nothing"
        );
        let serves = Part::Companion { leaves: Some(Duration::ZERO) };
        for other in [helper(BEFORE, Some(code(0)), ""), helper(AFTER, None, ""), helper(serves, None, "")] {
            assert_eq!(other.had_to_be_ended(), None, "{other:?}");
        }
    }

    #[test]
    fn a_companion_counts() {
        use Outcome::{Crashed, Error, Failed, Passed, TimedOut};
        let lost = Ending::Cut(Cut::Companion);
        for (ending, begun, companion, outcome, reason) in [
            (code(33), true, helper(BEFORE, Some(code(0)), ""), Passed, "ended with exit status 33"),
            (code(33), true, helper(BEFORE, None, ""), Passed, "ended with exit status 33"),
            (
                code(33),
                true,
                helper(AFTER, Some(code(3)), "no answer"),
                Failed,
                "the companion exited with status 3: no answer",
            ),
            (
                lost.clone(),
                true,
                helper(BEFORE, Some(code(1)), ""),
                Failed,
                "the companion exited with status 1",
            ),
            (
                lost.clone(),
                true,
                helper(AFTER, Some(signal(11)), ""),
                Crashed,
                "the companion was killed by SIGSEGV",
            ),
            (
                code(33),
                true,
                helper(AFTER, None, ""),
                TimedOut,
                "the guest ended, and the companion did not within 20 s",
            ),
            (
                lost,
                false,
                helper(BEFORE, Some(code(0)), "bye"),
                Error,
                "the companion exited with status 0: bye; the guest was not started",
            ),
            (
                DEADLINE,
                false,
                helper(BEFORE, None, "busy"),
                Error,
                "the companion was not ready within 20 s: no line has /^ready/; the last line was: busy",
            ),
            // Whatever ends a test before its guest has begun.
            (
                Ending::Cut(Cut::CaseDeadline(Duration::from_secs(5))),
                false,
                helper(BEFORE, None, ""),
                Error,
                "the companion was not ready within 5 s: no line has /^ready/; it printed nothing",
            ),
            (
                Ending::Cut(Cut::Flood(16 << 20)),
                false,
                helper(BEFORE, None, "noise"),
                Error,
                "the companion was not ready within 16 MiB of output: no line has /^ready/; the last line was: noise",
            ),
            (
                Ending::Cut(Cut::Flood(16 << 20)),
                false,
                helper(AFTER, None, ""),
                Error,
                "not ready within 16 MiB of output: the companion",
            ),
            (
                Ending::Cut(Cut::Stopped),
                false,
                helper(BEFORE, None, ""),
                Outcome::Skipped,
                "stopped after 20 s",
            ),
            (
                DEADLINE,
                true,
                helper(AFTER, None, ""),
                TimedOut,
                "no end within 20 s; silent since 2 s after its start",
            ),
        ] {
            let judged = judged(ending.clone(), begun, begun, companion.clone());
            assert_eq!(judged, (outcome, reason.to_owned()), "{ending:?} {companion:?}");
        }
        let never = HelperEvidence { begun: false, ..helper(AFTER, None, "") };
        let (outcome, reason) = judged(code(33), true, true, never);
        assert_eq!(outcome, Outcome::Incomplete);
        assert_eq!(
            reason,
            "the guest ended without printing a line with /^ready/, so the companion was not started"
        );
    }
}
