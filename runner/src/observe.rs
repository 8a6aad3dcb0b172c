//! What a test prints and reports, read as it comes.

mod asked;
mod cut;

use std::time::{Duration, Instant};

use crate::capture::{Capture, Line, Lines, Utf8Stream, kept};
use crate::case::CaseLog;
use crate::event::Event;
use crate::gate::{Gate, Metric};
use crate::guest::Monitor;
use crate::suite::{Pattern, SERIAL, Test};
use crate::supervise::{Observer, Sign, Stream};
use crate::verdict::Cut;

pub(crate) use asked::{Asked, Symptoms};

/// What QEMU prints when a guest cannot go on, though QEMU itself may well stay alive.
const BROKEN: [&str; 5] =
    ["KVM internal error", "failed to set MSR", "qemu: fatal:", "KVM: entry failed", "kvm run failed"];

/// Everything that one test printed and reported, read as it comes.
pub(crate) struct Transcript<'t> {
    test: &'t Test,
    live: bool,
    is_guest: bool,
    start: Instant,
    sink: &'t mut dyn FnMut(Event),
    live_text: Utf8Stream,
    pub stdout: Channel,
    pub stderr: Channel,
    /// The guest's named consoles, in their order.
    pub consoles: Vec<Channel>,
    /// What the other processes print, in the order of the members; the first of those is not among them.
    pub helpers: Vec<Channel>,
    /// Patterns that something waits for.
    awaited: Vec<Awaited>,
    pub found: Found,
    pub monitor: Monitor,
    /// How things stood when QEMU was asked, where it was.
    pub asked: Option<Asked>,
}

/// Something that prints.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// What its lines are shown with; empty for what is tested.
    pub name: String,
    pub capture: Capture,
    lines: Lines,
    /// The last line that is not empty.
    pub last_line: String,
    /// Whether cases are reported there.
    carries_cases: bool,
}

impl Channel {
    pub(crate) fn named(name: impl Into<String>) -> Channel {
        Channel { name: name.into(), ..Channel::default() }
    }

    /// The same channel, which reports cases where the test's rules want it to.
    fn for_cases(self, name: &str, test: &Test) -> Channel {
        let from = test.cases.as_ref().map(|rules| rules.from.as_slice()).unwrap_or_default();
        Channel { carries_cases: from.is_empty() || from.iter().any(|wanted| wanted == name), ..self }
    }

    fn last_lines(&self, count: usize) -> impl Iterator<Item = String> {
        let lines = self.capture.last_lines(count).into_iter();
        lines.map(|line| if self.name.is_empty() { line } else { format!("[{}] {line}", self.name) })
    }
}

/// A pattern that something waits for, and where.
#[derive(Debug, Clone)]
pub(crate) struct Awaited {
    pub pattern: Pattern,
    /// The member whose lines are read; the first stands for all that is tested prints.
    pub member: usize,
    pub seen: bool,
}

/// What is read of a test, besides what is tested itself.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub consoles: Vec<Channel>,
    pub helpers: Vec<Channel>,
    pub awaited: Vec<Awaited>,
}

/// What was found in the output.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub cases: CaseLog,
    /// When the last case came that was new, or else what is tested began, counted from the test's start.
    pub last_case: Option<Duration>,
    pub panic_line: Option<String>,
    pub exceptions: (u64, String),
    pub broken: Option<String>,
    /// Whether a line had what a good end needs, in the order of [`Test::must_print`].
    printed: Vec<bool>,
    /// What was read for each gate, in its unit.
    readings: Vec<Option<Result<f64, String>>>,
    last_line: String,
    last_error_line: String,
    pub first_output: Option<Duration>,
    pub last_output: Option<Duration>,
}

impl<'t> Transcript<'t> {
    pub(crate) fn new(
        test: &'t Test,
        is_guest: bool,
        live: bool,
        start: Instant,
        heard: Heard,
        sink: &'t mut dyn FnMut(Event),
    ) -> Transcript<'t> {
        Transcript {
            test,
            live,
            is_guest,
            start,
            sink,
            live_text: Utf8Stream::default(),
            stdout: Channel::default().for_cases(SERIAL, test),
            stderr: if is_guest { Channel::named("qemu") } else { Channel::default() },
            consoles: heard
                .consoles
                .into_iter()
                .map(|console| {
                    let name = console.name.clone();
                    console.for_cases(&name, test)
                })
                .collect(),
            helpers: heard.helpers,
            awaited: heard.awaited,
            found: Found {
                printed: vec![false; test.must_print.len()],
                readings: vec![None; test.gates.len()],
                ..Found::default()
            },
            monitor: Monitor::default(),
            asked: None,
        }
    }

    /// Takes the lines that the streams' ends left unfinished.
    pub(crate) fn finish(&mut self) {
        let (found, test, sink) = (&mut self.found, self.test, &mut self.sink);
        for channel in std::iter::once(&mut self.stdout).chain(&mut self.consoles) {
            channel.lines.finish(|line| {
                note(&mut channel.last_line, line.text);
                found.line(test, line, channel.carries_cases, *sink);
            });
        }
        self.stderr.lines.finish(|line| found.error_line(line.text));
        for helper in &mut self.helpers {
            helper.lines.finish(|line| note_of_helper(&mut helper.last_line, line.text));
        }
    }

    /// What was measured for each gate, in its unit; or why it was not.
    pub(crate) fn readings(&self) -> Vec<Result<f64, String>> {
        let gates = self.test.gates.iter().zip(&self.found.readings);
        let of = |gate: &Gate, read: &Option<Result<f64, String>>| match &gate.metric {
            Metric::BootTime => match (self.monitor.resumed, self.monitor.ended) {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "a fraction holds the microseconds of centuries"
                )]
                (Some(begun), Some(ended)) => Ok(gate.of_microseconds(ended.saturating_sub(begun) as f64)),
                (_, None) => {
                    Err("QEMU told no end of the guest, as it does for a reset or a shutdown".into())
                }
                (None, _) => Err("QEMU did not let the guest run".into()),
            },
            Metric::WallTime(pattern) | Metric::Value(pattern) => match read {
                Some(read) => read.clone(),
                None => Err(format!("no line had {pattern:?}")),
            },
        };
        gates.map(|(gate, read)| of(gate, read)).collect()
    }

    /// The last lines of all that it printed, and of those helpers that `telling` chooses by their number.
    pub(crate) fn last_lines(&self, telling: impl Fn(usize) -> bool) -> Vec<String> {
        const SHOWN: usize = 20;
        let helpers = self.helpers.iter().enumerate();
        let helpers = helpers.filter(|(index, _)| telling(index + 1)).map(|(_, helper)| helper);
        let channels =
            std::iter::once(&self.stdout).chain(&self.consoles).chain([&self.stderr]).chain(helpers);
        channels.flat_map(|channel| channel.last_lines(SHOWN)).collect()
    }

    /// All streams that something came on, or could have, by what they are called.
    pub(crate) fn into_streams(self) -> Vec<(String, Capture)> {
        let (out, err) = if self.is_guest { (SERIAL, "qemu") } else { ("stdout", "stderr") };
        let mut streams = vec![(out.to_owned(), self.stdout.capture), (err.to_owned(), self.stderr.capture)];
        streams.extend(
            self.consoles.into_iter().map(|console| (format!("console-{}", console.name), console.capture)),
        );
        let helpers = self.helpers.into_iter().zip(1..);
        streams.extend(
            helpers.map(|(helper, number)| (format!("beside-{number}-{}", helper.name), helper.capture)),
        );
        streams
    }

    /// Whether something was printed that a start waits for.
    pub(crate) fn has_found(&self, pattern: &Pattern) -> bool {
        self.awaited.iter().any(|awaited| awaited.seen && awaited.pattern == *pattern)
    }

    /// How many bytes the test itself has printed, not counting what QEMU says.
    pub(crate) fn printed(&self) -> u64 {
        let consoles = self.consoles.iter().map(|console| console.capture.total);
        consoles.fold(self.stdout.capture.total, u64::saturating_add)
    }
}

fn note(last: &mut String, line: &str) {
    if !line.trim().is_empty() {
        *last = kept(line.trim());
    }
}

/// As [`note`] does, but keeps an error that only socat's notices follow, such as that it exits now.
fn note_of_helper(last: &mut String, line: &str) {
    let is_notice = |line: &str| line.contains(" socat[") && line.contains("] N ");
    if last.is_empty() || is_notice(last) || !is_notice(line) {
        note(last, line);
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

    /// Takes a line; `carries_cases` is whether the channel that it came from is one that reports cases.
    fn line(&mut self, test: &Test, whole: Line<'_>, carries_cases: bool, sink: &mut dyn FnMut(Event)) {
        let line = whole.text;
        note(&mut self.last_line, line);
        for (gate, reading) in test.gates.iter().zip(&mut self.readings) {
            if reading.is_none() {
                *reading = read(gate, line, self.last_output);
            }
        }
        for (pattern, printed) in test.must_print.iter().zip(&mut self.printed) {
            *printed = *printed || pattern.is_found_in(line);
        }
        let rules = test.cases.as_ref().filter(|_| carries_cases);
        if let Some(case) = rules.and_then(|rules| self.cases.take(&rules.format, whole)) {
            self.last_case = self.last_output;
            sink(Event::Case { test: test.name.clone(), case });
            return;
        }
        if is_exception(line) {
            self.exceptions.0 += 1;
            self.exceptions.1 = kept(line);
        } else if self.panic_line.is_none()
            && test.panic.as_ref().is_some_and(|pattern: &Pattern| pattern.is_found_in(line))
        {
            self.panic_line = Some(kept(line));
        }
    }

    fn error_line(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        // QEMU begins every line with its own name.
        let line = line.split_once("qemu-system-x86_64: ").map_or(line, |(_, said)| said).trim();
        if self.broken.is_none() && BROKEN.iter().any(|text| line.contains(text)) {
            self.broken = Some(kept(line));
        }
        self.last_error_line = kept(line);
    }
}

/// What a line says for a gate, at this time after the start.
fn read(gate: &Gate, line: &str, now: Option<Duration>) -> Option<Result<f64, String>> {
    match &gate.metric {
        Metric::BootTime => None,
        Metric::WallTime(marker) => marker
            .is_found_in(line)
            .then(|| Ok(gate.of_microseconds(now.unwrap_or_default().as_secs_f64() * 1e6))),
        Metric::Value(pattern) => {
            let text = pattern.captures(line)?.name("value")?.as_str();
            let value = text.parse().ok().filter(|value: &f64| value.is_finite());
            Some(value.ok_or_else(|| format!("`{text}` is no number")))
        }
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

fn look_for(awaited: &mut [Awaited], member: usize, line: &str) {
    for awaited in awaited.iter_mut().filter(|awaited| awaited.member == member) {
        awaited.seen = awaited.seen || awaited.pattern.is_found_in(line);
    }
}

impl Observer for Transcript<'_> {
    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let (found, test, sink) = (&mut self.found, self.test, &mut self.sink);
        let awaited = &mut self.awaited;
        match stream {
            Stream::Stdout | Stream::Console(_) => {
                found.last_output = Some(self.start.elapsed());
                found.first_output = found.first_output.or(found.last_output);
                let channel = match stream {
                    Stream::Console(index) => self.consoles.get_mut(index),
                    _ => Some(&mut self.stdout),
                };
                let Some(channel) = channel else { return };
                channel.capture.take(bytes);
                if self.live && stream == Stream::Stdout {
                    let text = self.live_text.take(bytes);
                    sink(Event::Output { test: test.name.clone(), text });
                }
                channel.lines.take(bytes, |line| {
                    note(&mut channel.last_line, line.text);
                    look_for(awaited, 0, line.text);
                    found.line(test, line, channel.carries_cases, *sink);
                });
            }
            Stream::Stderr => {
                self.stderr.capture.take(bytes);
                if !self.is_guest {
                    found.last_output = Some(self.start.elapsed());
                }
                self.stderr.lines.take(bytes, |line| found.error_line(line.text));
            }
            Stream::Helper(index) => {
                let Some(helper) = index.checked_sub(1).and_then(|index| self.helpers.get_mut(index)) else {
                    return;
                };
                helper.capture.take(bytes);
                helper.lines.take(bytes, |line| {
                    note_of_helper(&mut helper.last_line, line.text);
                    look_for(awaited, index, line.text);
                });
            }
            Stream::Monitor => self.monitor.take(bytes),
        }
    }

    fn begun(&mut self) {
        // Until then there was nobody to report a case.
        self.found.last_case = Some(self.start.elapsed());
    }

    fn questions(&mut self, cut: Cut) -> Option<(Vec<u8>, Duration)> {
        self.ask(cut)
    }

    fn has_answers(&self) -> bool {
        self.is_answered()
    }

    fn cut(&self) -> Option<(Cut, Duration)> {
        self.why_to_end()
    }

    fn has_seen(&self, sign: &Sign) -> bool {
        match sign {
            Sign::Pattern(index) => self.awaited.get(*index).is_some_and(|awaited| awaited.seen),
            Sign::Resumed => self.monitor.resumed.is_some(),
            Sign::Socket(_) => false,
        }
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

    #[test]
    fn notices_of_socat_do_not_hide_its_errors() {
        let mut last = String::new();
        for (line, expected) in [
            (
                "2026/01/01 00:00:00 socat[2] N listening on AF=40",
                "2026/01/01 00:00:00 socat[2] N listening on AF=40",
            ),
            ("2026/01/01 00:00:00 socat[2] E read(6): no", "2026/01/01 00:00:00 socat[2] E read(6): no"),
            ("2026/01/01 00:00:00 socat[2] N exit(1)", "2026/01/01 00:00:00 socat[2] E read(6): no"),
            ("", "2026/01/01 00:00:00 socat[2] E read(6): no"),
            ("more", "more"),
        ] {
            note_of_helper(&mut last, line);
            assert_eq!(last, expected, "{line}");
        }
    }
}
