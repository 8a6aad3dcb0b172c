//! The terminal, or where output goes instead: lines, and a moving line for each host.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Lines on standard output, and moving ones on standard error where that is a terminal.
pub(super) struct Screen {
    bars: MultiProgress,
    moving: HashMap<String, ProgressBar>,
    /// Whether a guest has the terminal: what it prints comes in pieces of lines, which no progress may be drawn between.
    given: bool,
    /// Whether the last line of what a guest has printed is unfinished.
    unfinished: bool,
    /// Whether lines go to standard error, because a report is printed on standard output.
    aside: bool,
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
            moving: HashMap::new(),
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
        let bar = self.moving.entry(name.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(text.to_owned());
    }

    /// Ends the moving line of a host.
    pub(super) fn clear(&mut self, host: Option<&str>) {
        if let Some(bar) = self.moving.remove(host.unwrap_or("this machine")) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    pub(super) fn clear_all(&mut self) {
        for (_, bar) in self.moving.drain() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
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

    fn write(&self, text: &str) {
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
    fn no_progress_is_drawn_while_a_guest_has_the_terminal() {
        let mut screen = Screen::new(true, false);
        screen.step(Some("host"), "boot");
        assert_eq!(screen.moving.len(), 1);
        screen.give();
        screen.step(Some("host"), "boot: case sse");
        assert!(screen.moving.is_empty());
    }
}
