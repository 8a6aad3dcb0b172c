//! The terminal, or where output goes instead: lines, and a moving line for each host.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long a log may stay silent: there are CIs that end a job which prints nothing for ten minutes.
const SILENCE: Duration = Duration::from_secs(60);

/// Of how many hosts it is told then what they are at.
const NAMED: usize = 3;

/// Lines on standard output, and moving ones on standard error where that is a terminal.
pub(super) struct Screen {
    bars: MultiProgress,
    moving: BTreeMap<String, Moving>,
    /// When something was printed last.
    printed: Instant,
    /// Whether a guest has the terminal: what it prints comes in pieces of lines, which no progress may be drawn between.
    given: bool,
    /// Whether the last line of what a guest has printed is unfinished.
    unfinished: bool,
    /// Whether lines go to standard error, because a report is printed on standard output.
    aside: bool,
}

/// What a host is at.
struct Moving {
    bar: ProgressBar,
    text: String,
    since: Instant,
}

impl Screen {
    /// One without moving lines, where nothing is to `move`.
    pub(super) fn new(moves: bool, aside: bool) -> Screen {
        let target = match moves && io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        Screen {
            bars: MultiProgress::with_draw_target(target),
            moving: BTreeMap::new(),
            printed: Instant::now(),
            given: false,
            unfinished: false,
            aside,
        }
    }

    /// Takes moving lines off the terminal while something else uses it.
    pub(super) fn suspend<T>(&self, other: impl FnOnce() -> T) -> T {
        self.bars.suspend(other)
    }

    /// Leaves the terminal to a guest.
    pub(super) fn give(&mut self) {
        self.given = true;
        self.clear_all();
    }

    /// The guest has ended.
    pub(super) fn take_back(&mut self) {
        self.given = false;
    }

    /// What a host is at, as its moving line.
    pub(super) fn step(&mut self, host: Option<&str>, text: &str) {
        if self.given {
            return;
        }
        let name = host.unwrap_or("this machine");
        let bars = &self.bars;
        let moving = self.moving.entry(name.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            Moving { bar, text: String::new(), since: Instant::now() }
        });
        if moving.text != text {
            moving.bar.set_message(text.to_owned());
            moving.text = text.to_owned();
            moving.since = Instant::now();
        }
    }

    /// Says what the hosts are at where nothing has been printed for long: in a log, nothing else tells that work goes on.
    pub(super) fn break_silence(&mut self, now: Instant) {
        if now.saturating_duration_since(self.printed) < SILENCE || self.moving.is_empty() {
            return;
        }
        for line in self.at_work(now) {
            self.print(&line);
        }
        // By the clock of the caller, so that it is a minute until the next.
        self.printed = now;
    }

    fn at_work(&self, now: Instant) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for (host, moving) in self.moving.iter().take(NAMED) {
            let minutes = now.saturating_duration_since(moving.since).as_secs() / 60;
            let time = if minutes > 0 { format!(", for {minutes} min now") } else { String::new() };
            lines.push(format!("{}: at work: {}{time}", style(host).cyan(), moving.text));
        }
        let others = self.moving.len() - lines.len();
        if others > 0 {
            lines.push(format!("and {others} more at work"));
        }
        lines
    }

    /// Ends the moving line of a host.
    pub(super) fn clear(&mut self, host: Option<&str>) {
        if let Some(moving) = self.moving.remove(host.unwrap_or("this machine")) {
            moving.bar.finish_and_clear();
            self.bars.remove(&moving.bar);
        }
    }

    pub(super) fn clear_all(&mut self) {
        while let Some((_, moving)) = self.moving.pop_first() {
            moving.bar.finish_and_clear();
            self.bars.remove(&moving.bar);
        }
    }

    /// A line about a host.
    pub(super) fn line(&mut self, host: Option<&str>, text: &str) {
        match host {
            Some(host) => self.print(&format!("{}: {text}", style(host).cyan())),
            None => self.print(text),
        }
    }

    /// A line as it is.
    pub(super) fn print(&mut self, line: &str) {
        let start = if self.unfinished { "\n" } else { "" };
        self.unfinished = false;
        self.write(&format!("{start}{line}\n"));
    }

    /// What a guest prints: as it is, but without what would steer the terminal.
    pub(super) fn raw(&mut self, text: &str) {
        let text: String = text.chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect();
        if !text.is_empty() {
            self.give();
            self.unfinished = !text.ends_with('\n');
            self.write(&text);
        }
    }

    fn write(&mut self, text: &str) {
        self.printed = Instant::now();
        let write = || {
            let mut out: Box<dyn Write> =
                if self.aside { Box::new(io::stderr()) } else { Box::new(io::stdout().lock()) };
            // A reader that went away does not end the run: its exit status still counts.
            drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
        };
        // Where there is no progress, nothing is wiped from the line that the cursor is in.
        match self.moving.is_empty() {
            true => write(),
            false => self.bars.suspend(write),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_told_each_minute_what_hosts_are_at() {
        let mut screen = Screen::new(false, true);
        let told = |screen: &Screen, seconds| screen.at_work(Instant::now() + Duration::from_secs(seconds));
        assert_eq!(told(&screen, 600), [""; 0]);
        screen.step(Some("a"), "building qemu");
        assert_eq!(told(&screen, 59), ["a: at work: building qemu"]);
        assert_eq!(told(&screen, 130), ["a: at work: building qemu, for 2 min now"]);
        for host in ["e", "d", "c", "b"] {
            screen.step(Some(host), "connecting");
        }
        assert_eq!(
            told(&screen, 0),
            [
                "a: at work: building qemu",
                "b: at work: connecting",
                "c: at work: connecting",
                "and 2 more at work"
            ]
        );
    }

    #[test]
    fn silence_is_broken_after_a_minute_and_begins_anew() {
        let mut screen = Screen::new(false, true);
        screen.step(Some("a"), "boot");
        let begun = screen.printed;
        screen.break_silence(begun + SILENCE / 2);
        assert_eq!(screen.printed, begun);
        screen.break_silence(begun + SILENCE);
        assert_eq!(screen.printed, begun + SILENCE);
        screen.clear_all();
        screen.break_silence(begun + 2 * SILENCE);
        assert_eq!(screen.printed, begun + SILENCE, "where nothing is at work, nothing is told");
    }

    #[test]
    fn no_progress_is_drawn_while_a_guest_has_the_terminal() {
        let mut screen = Screen::new(true, false);
        screen.step(Some("host"), "boot");
        assert_eq!(screen.moving.len(), 1);
        screen.give();
        screen.step(Some("host"), "boot: case sse");
        assert!(screen.moving.is_empty());
    }
}
