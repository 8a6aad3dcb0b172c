//! GitHub annotations: workflow commands on standard output, which the runner shows beside the code.

use std::fmt::Write;

use super::Report;
use super::entry::{Entry, entries};
use super::text::{clean, clipped, line};

/// GitHub shows so many errors of a step and drops the rest in silence.
const SHOWN: usize = 10;
/// What a message may cost: GitHub cuts long ones.
const MESSAGE: usize = 4000;
/// How many of the last lines an annotation has.
const LINES: usize = 5;

/// A `::warning` command for each warning, and an `::error` for each failure; where there are more than GitHub shows, the last one says so.
pub fn annotations(report: &Report) -> String {
    let runs = entries(report);
    let bad: Vec<(&str, &Entry<'_>)> = runs
        .iter()
        .flat_map(|(run, entries)| entries.iter().map(|entry| (run.host.as_str(), entry)))
        .filter(|(_, entry)| entry.judgement.is_bad())
        .collect();
    let own = if bad.len() > SHOWN { SHOWN - 1 } else { bad.len() };
    let mut text = String::new();
    // Warnings have room of their own.
    let warnings = runs.iter().flat_map(|(_, entries)| entries);
    let warnings = warnings.flat_map(|entry| entry.warnings.iter().map(move |warning| (entry, warning)));
    for (entry, warning) in warnings.take(SHOWN) {
        command(&mut text, "warning", report, &entry.group, &clipped(warning, MESSAGE));
    }
    for (host, entry) in &bad[..own] {
        let mut message = format!("{}: {}\non {host}", entry.word, clipped(&entry.reason, MESSAGE));
        if let Some(result) = entry.details {
            let skipped = result.last_lines.len().saturating_sub(LINES);
            for said in &result.last_lines[skipped..] {
                let _ = write!(message, "\n| {}", clipped(&line(said), 300));
            }
            if let Some(command) = &result.reproduce {
                let _ = write!(message, "\nby hand on the host: {}", clean(command));
            }
        }
        command(&mut text, "error", report, &format!("{}: {}", entry.group, entry.name), &message);
    }
    if bad.len() > own {
        let more = bad.len() - own;
        let message = "GitHub shows no more annotations of a step; the step's summary has all failures";
        command(&mut text, "error", report, &format!("{more} further failures"), message);
    }
    text
}

fn command(text: &mut String, level: &str, report: &Report, title: &str, message: &str) {
    let file =
        report.suite_file.as_deref().map(|file| format!("file={},", property(file))).unwrap_or_default();
    let _ = writeln!(text, "::{level} {file}title={}::{}", property(&line(title)), data(message));
}

/// As GitHub wants the text of a command.
fn data(text: &str) -> String {
    clean(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As GitHub wants the value of a command's property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
