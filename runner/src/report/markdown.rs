//! A summary in Markdown, as GitHub shows it below a job: a table of runs, then each failure.

use std::fmt::Write;

use super::entry::{Entry, Judgement, entries};
use super::text::{clean, clipped, line};
use super::{FINGERPRINT, HostRun, Report};

/// GitHub takes no more than 1 MiB from a step.
const MOST: usize = 900 * 1024;
/// What one failure's last lines may cost.
const LAST_LINES: usize = 16 * 1024;

pub(super) fn render(report: &Report) -> String {
    let runs = entries(report);
    let bad = |entries: &[Entry<'_>]| entries.iter().filter(|entry| entry.judgement.is_bad()).count();
    let failures: usize = runs.iter().map(|(_, entries)| bad(entries)).sum();
    let mut text = match failures {
        0 => "### toril: nothing failed\n\n".to_owned(),
        1 => "### toril: 1 failure\n\n".to_owned(),
        count => format!("### toril: {count} failures\n\n"),
    };
    text.push_str("| host | suite | guests under | passed | failed | errors | skipped | time |\n");
    text.push_str("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |\n");
    for (run, entries) in &runs {
        row(&mut text, run, entries);
    }
    for (run, _) in &runs {
        if let Some(id) = run.property(FINGERPRINT) {
            let _ = writeln!(text, "\nFingerprint of {}: {}", escaped(&run.host), escaped(id));
        }
    }
    let mut left_out = 0;
    for (run, entries) in &runs {
        for entry in entries.iter().filter(|entry| entry.judgement.is_bad()) {
            let block = failure(run, entry);
            if text.len() + block.len() <= MOST {
                text.push_str(&block);
            } else {
                left_out += 1;
            }
        }
    }
    warnings(&mut text, &runs);
    if left_out > 0 {
        let _ =
            writeln!(text, "\n{left_out} further failures are left out, for GitHub takes no longer summary.");
    }
    text
}

fn row(text: &mut String, run: &HostRun, entries: &[Entry<'_>]) {
    let count = |wanted| entries.iter().filter(|entry| entry.judgement == wanted).count();
    let known = run.property("accelerator");
    let time: u64 = run.results.iter().map(|result| result.duration_ms).sum();
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {} | {}.{} s |",
        escaped(&run.host),
        escaped(run.suite_words().unwrap_or("–")),
        escaped(known.unwrap_or("–")),
        count(Judgement::Passed),
        count(Judgement::Failure),
        count(Judgement::Error),
        count(Judgement::Skipped),
        time / 1000,
        time % 1000 / 100,
    );
}

fn failure(run: &HostRun, entry: &Entry<'_>) -> String {
    let mut text = format!("\n**{}: {}** {}", escaped(&entry.group), escaped(&entry.name), entry.word);
    if !entry.reason.is_empty() {
        let _ = write!(text, ": {}", escaped(&clipped(&entry.reason, 4096)));
    }
    text.push('\n');
    let Some(result) = entry.details else { return text };
    if !result.last_lines.is_empty() {
        let said = clipped(&clean(&result.last_lines.join("\n")), LAST_LINES);
        let _ =
            writeln!(text, "\n<details><summary>the last lines</summary>\n\n{}\n</details>", fenced(&said));
    }
    if let Some(command) = &result.reproduce {
        let _ = writeln!(text, "\nBy hand on {}:\n\n{}", escaped(&run.host), fenced(&clean(command)));
    }
    text
}

fn warnings(text: &mut String, runs: &[(&HostRun, Vec<Entry<'_>>)]) {
    for entry in runs.iter().flat_map(|(_, entries)| entries) {
        for warning in entry.warnings {
            let told =
                format!("\n**{}** warning: {}\n", escaped(&entry.group), escaped(&clipped(warning, 4096)));
            if text.len() + told.len() <= MOST {
                text.push_str(&told);
            }
        }
    }
}

/// A block of code: its fence is longer than any in the text.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{text}\n{fence}\n")
}

/// Text that is only text: neither Markdown nor HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in line(text).chars() {
        if c.is_ascii_punctuation() && !matches!(c, ',' | ':' | ';' | '.' | '/' | '-' | '%' | '=') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
