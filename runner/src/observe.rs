use std::time::{Duration, Instant};

use crate::capture::{Capture, Lines, Utf8Stream};
use crate::case::CaseLog;
use crate::event::Event;
use crate::guest::Monitor;
use crate::suite::{Pattern, Test};
use crate::supervise::{Observer, Stream};
use crate::verdict::{Cut, STORM};

/// What QEMU prints when a guest cannot go on, though QEMU itself may well stay alive.
const BROKEN: [&str; 5] =
    ["KVM internal error", "failed to set MSR", "qemu: fatal:", "KVM: entry failed", "kvm run failed"];

/// How long a guest that panicked may go on to say more, or to end by itself.
const AFTER_PANIC: Duration = Duration::from_millis(300);

/// How long QEMU may go on to say more.
const AFTER_BREAKAGE: Duration = Duration::from_millis(100);

/// Everything that one test printed and reported, read as it comes.
pub(crate) struct Transcript<'t> {
    test: &'t Test,
    live: bool,
    is_guest: bool,
    start: Instant,
    sink: &'t mut dyn FnMut(Event),
    lines: Lines,
    error_lines: Lines,
    live_text: Utf8Stream,
    pub stdout: Capture,
    pub stderr: Capture,
    pub found: Found,
    pub monitor: Monitor,
}

/// What was found in the output.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub cases: CaseLog,
    pub panic_line: Option<String>,
    pub exceptions: (u64, String),
    pub broken: Option<String>,
    /// Whether a line had what a good end needs, in the order of [`Test::must_print`].
    printed: Vec<bool>,
    last_line: String,
    last_error_line: String,
    pub last_output: Option<Duration>,
}

impl<'t> Transcript<'t> {
    pub(crate) fn new(
        test: &'t Test,
        is_guest: bool,
        live: bool,
        start: Instant,
        sink: &'t mut dyn FnMut(Event),
    ) -> Transcript<'t> {
        Transcript {
            test,
            live,
            is_guest,
            start,
            sink,
            lines: Lines::default(),
            error_lines: Lines::default(),
            live_text: Utf8Stream::default(),
            stdout: Capture::default(),
            stderr: Capture::default(),
            found: Found { printed: vec![false; test.must_print.len()], ..Found::default() },
            monitor: Monitor::default(),
        }
    }

    /// Takes the lines that the streams' ends left unfinished.
    pub(crate) fn finish(&mut self) {
        let (found, test, sink) = (&mut self.found, self.test, &mut self.sink);
        self.lines.finish(|line| found.line(test, line, *sink));
        self.error_lines.finish(|line| found.error_line(line));
    }

    /// The last lines of all that it printed.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        const SHOWN: usize = 20;
        let mut lines = self.stdout.last_lines(SHOWN);
        let errors = self.stderr.last_lines(SHOWN).into_iter();
        lines.extend(errors.map(|line| if self.is_guest { format!("[qemu] {line}") } else { line }));
        lines
    }
}

impl Found {
    /// The line that says most about why it ended badly, if there is one.
    pub(crate) fn last_words(&self, is_guest: bool) -> &str {
        // A guest's own last line is shown with the others; it explains nothing about QEMU.
        if self.last_error_line.is_empty() && !is_guest { &self.last_line } else { &self.last_error_line }
    }

    /// What a good end needs and no line had.
    pub(crate) fn unprinted<'t>(&self, test: &'t Test) -> Vec<&'t Pattern> {
        let patterns = test.must_print.iter().zip(&self.printed);
        patterns.filter(|(_, printed)| !**printed).map(|(pattern, _)| pattern).collect()
    }

    fn line(&mut self, test: &Test, line: &str, sink: &mut dyn FnMut(Event)) {
        if !line.trim().is_empty() {
            line.trim().clone_into(&mut self.last_line);
        }
        for (pattern, printed) in test.must_print.iter().zip(&mut self.printed) {
            *printed = *printed || pattern.is_found_in(line);
        }
        if let Some(case) = test.cases.as_ref().and_then(|rules| self.cases.take(&rules.format, line)) {
            sink(Event::Case { test: test.name.clone(), case });
            return;
        }
        if is_exception(line) {
            self.exceptions.0 += 1;
            line.clone_into(&mut self.exceptions.1);
        } else if self.panic_line.is_none()
            && test.panic.as_ref().is_some_and(|pattern: &Pattern| pattern.is_found_in(line))
        {
            self.panic_line = Some(line.to_owned());
        }
    }

    fn error_line(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        // QEMU begins every line with its own name.
        let line = line.split_once("qemu-system-x86_64: ").map_or(line, |(_, said)| said).trim();
        if self.broken.is_none() && BROKEN.iter().any(|text| line.contains(text)) {
            self.broken = Some(line.to_owned());
        }
        line.clone_into(&mut self.last_error_line);
    }
}

/// What toril's own guest prints for each, and Toro, which says first when and on which CPU.
fn is_exception(line: &str) -> bool {
    match line.split_once("Exception:") {
        Some(("", _)) => true,
        Some((before, _)) => before.starts_with('[') && before.contains("] CPU"),
        None => false,
    }
}

impl Observer for Transcript<'_> {
    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let (found, test, sink) = (&mut self.found, self.test, &mut self.sink);
        match stream {
            Stream::Stdout => {
                self.stdout.take(bytes);
                found.last_output = Some(self.start.elapsed());
                if self.live {
                    let text = self.live_text.take(bytes);
                    sink(Event::Output { test: test.name.clone(), text });
                }
                self.lines.take(bytes, |line| found.line(test, line, *sink));
            }
            Stream::Stderr => {
                self.stderr.take(bytes);
                if !self.is_guest {
                    found.last_output = Some(self.start.elapsed());
                }
                self.error_lines.take(bytes, |line| found.error_line(line));
            }
            Stream::Monitor => self.monitor.take(bytes),
        }
    }

    fn cut(&self) -> Option<(Cut, Duration)> {
        if self.is_guest && self.found.broken.is_some() {
            return Some((Cut::Broken, AFTER_BREAKAGE));
        }
        if self.found.panic_line.is_some() || self.monitor.panicked {
            return Some((Cut::Panic, AFTER_PANIC));
        }
        if self.found.exceptions.0 >= STORM {
            return Some((Cut::Storm, Duration::ZERO));
        }
        let limit = self.test.output_limit;
        (self.stdout.total.saturating_add(self.stderr.total) > limit)
            .then_some((Cut::Flood(limit), Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_report_an_exception() {
        for (line, expected) in [
            ("Exception: page fault at 0x10", true),
            ("[27/02/1987-04:10:55] CPU#0 Exception: Division by zero", true),
            ("[27/02/1987-04:10:55] CPU0 Thread#0x43FBF70 Exception: Page Fault", true),
            ("no Exception: was raised", false),
            ("[1] Exception: not one of ours", false),
            ("exceptional", false),
        ] {
            assert_eq!(is_exception(line), expected, "{line}");
        }
    }
}
