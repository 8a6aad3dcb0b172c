//! What is learnt of a guest that does not end, and how things stood before it was tried.

use std::time::Duration;

use super::Transcript;
use crate::guest::Inquiry;
use crate::verdict::Cut;

/// How long QEMU may take to tell what it knows of a guest that does not end.
const ANSWER: Duration = Duration::from_secs(1);

/// How long such a guest may go on after an NMI, to say how far it got and to end.
const AFTER_NMI: Duration = Duration::from_secs(3);

/// How things stood before QEMU was asked of a test that did not end.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// When, counted from the test's start.
    pub at: Duration,
    pub last_output: Option<Duration>,
    printed: u64,
    cases: usize,
    symptoms: Symptoms,
}

/// What speaks of a guest that is not well.
#[derive(Debug, Clone, Default)]
pub(crate) struct Symptoms {
    pub panic_line: Option<String>,
    pub exceptions: (u64, String),
    /// As QEMU told of them.
    pub broken: Option<String>,
    pub shutdown: Option<String>,
    pub panicked: bool,
}

impl Transcript<'_> {
    /// What QEMU is to be asked before such an end, and how long the answers may take; notes how things stand.
    pub(super) fn ask(&mut self, cut: Cut) -> Option<(Vec<u8>, Duration)> {
        let is_late = matches!(cut, Cut::Deadline(_) | Cut::CaseDeadline(_));
        if !is_late || self.monitor.resumed.is_none() {
            return None;
        }
        self.asked = Some(Asked {
            at: self.start.elapsed(),
            last_output: self.found.last_output,
            printed: self.printed(),
            cases: self.found.cases.cases.len(),
            symptoms: self.symptoms_now(),
        });
        let patience = if self.test.inject_nmi { AFTER_NMI } else { ANSWER };
        Some((Inquiry::questions(self.test.inject_nmi), patience))
    }

    /// Whether nothing more is to come of that.
    pub(super) fn is_answered(&self) -> bool {
        // After an NMI the guest is left the time to say how far it got, and to end.
        !self.test.inject_nmi && self.monitor.inquiry.is_answered()
    }

    /// What was learnt of a test that did not end; `ended` is whether it did after an NMI.
    pub(crate) fn diagnosis(&self, ended: bool) -> Vec<String> {
        let Some(asked) = &self.asked else { return Vec::new() };
        let mut lines = self.monitor.inquiry.lines();
        let more = |now: u64, before: u64| now.saturating_sub(before);
        let printed = more(self.printed(), asked.printed);
        let cases = more(self.found.cases.cases.len() as u64, asked.cases as u64);
        match self.monitor.inquiry.nmi() {
            None => {}
            Some(Err(why)) => lines.push(format!("QEMU would not inject an NMI: {why}")),
            Some(Ok(())) if printed == 0 && !ended => {
                lines.push("an NMI was injected, and nothing came of it".into())
            }
            Some(Ok(())) => {
                let end = if ended { ", and it ended" } else { "" };
                lines.push(format!(
                    "after an NMI it printed {printed} more bytes, with {cases} more cases{end}"
                ));
            }
        }
        lines
    }

    /// What speaks of its being unwell, up to when QEMU was asked: what an NMI did to it is not its own doing.
    pub(crate) fn symptoms(&self) -> Symptoms {
        self.asked.as_ref().map_or_else(|| self.symptoms_now(), |asked| asked.symptoms.clone())
    }

    fn symptoms_now(&self) -> Symptoms {
        Symptoms {
            panic_line: self.found.panic_line.clone(),
            exceptions: self.found.exceptions.clone(),
            broken: self.found.broken.clone(),
            shutdown: self.monitor.shutdown.clone(),
            panicked: self.monitor.panicked,
        }
    }
}
