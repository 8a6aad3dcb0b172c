//! The Test Anything Protocol, version 13: a test point for each entry, with a YAML block below those that are not ok.

use std::fmt::Write;

use super::entry::{Entry, Judgement, entries};
use super::text::{clipped, line};
use super::{FINGERPRINT, Report};

/// The longest reason, and the longest of the last lines.
const LONGEST: usize = 4096;

pub(super) fn render(report: &Report) -> String {
    let runs = entries(report);
    let all = runs.iter().flat_map(|(run, entries)| entries.iter().map(move |entry| (run, entry)));
    let mut text = String::from("TAP version 13\n");
    let count: usize = runs.iter().map(|(_, entries)| entries.len()).sum();
    // A plan of none is none that a reader takes for fine.
    let _ = writeln!(text, "1..{count}");
    for (run, _) in &runs {
        if let Some(id) = run.property(FINGERPRINT) {
            let _ = writeln!(text, "# fingerprint of {}: {}", line(&run.host), line(id));
        }
    }
    for (number, (run, entry)) in (1..).zip(all) {
        let ok = if entry.judgement.is_bad() { "not ok" } else { "ok" };
        let name = escaped(&format!("{}: {}", entry.group, entry.name));
        let directive = match entry.judgement {
            Judgement::Skipped => format!(" # SKIP {}", escaped(&clipped(&entry.reason, LONGEST))),
            Judgement::Passed | Judgement::Failure | Judgement::Error => String::new(),
        };
        let _ = writeln!(text, "{ok} {number} - {name}{directive}");
        if entry.judgement.is_bad() {
            block(&mut text, &run.host, entry);
        }
        for warning in entry.warnings {
            let _ = writeln!(text, "# warning: {}", clipped(&line(warning), LONGEST));
        }
    }
    text
}

fn block(text: &mut String, host: &str, entry: &Entry<'_>) {
    let mut put = |key: &str, value: &str| {
        let _ = writeln!(text, "  {key}: {}", quoted(value));
    };
    put("---\n  outcome", entry.word);
    put("host", host);
    put("message", &clipped(&entry.reason, LONGEST));
    if let Some(command) = entry.details.and_then(|result| result.reproduce.as_deref()) {
        match command.contains('\n') {
            false => put("reproduce", command),
            true => {
                text.push_str("  reproduce: |\n");
                for part in command.lines().filter(|part| !part.trim().is_empty()) {
                    let _ = writeln!(text, "    {}", line(part));
                }
            }
        }
    }
    let lines = entry.details.map(|result| result.last_lines.as_slice()).unwrap_or_default();
    if !lines.is_empty() {
        text.push_str("  output: |\n");
    }
    for said in lines {
        // Perl's reader takes an empty line for the block's end, and a colon in a list for a key.
        let _ = writeln!(text, "    | {}", clipped(&line(said), LONGEST));
    }
    text.push_str("  ...\n");
}

/// A `#` begins a directive, and a `\` hides it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('#', "\\#")
}

/// A text in double quotes. It has no control characters; a backslash is one by its number, since Perl's reader takes
/// any that stands before the last quote for an escape of it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", line(text).replace('\\', "\\x5c").replace('"', "\\\""))
}
