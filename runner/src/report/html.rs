//! One page of HTML that needs nothing else: no scripts, no fonts, no network. What failed comes first.

use std::fmt::Write;

use super::entry::{Entry, Judgement, entries};
use super::text::{clean, clipped, cost, line};
use super::{HostRun, Report};

/// What the last lines of all failures may cost, in bytes of the file, and what those of one.
const SAID: usize = 12_000_000;
const LAST_LINES: usize = 64 * 1024;
/// What a reason may cost.
const REASON: usize = 600;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
    <title>toril</title>\n<style>\n\
    :root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }\n\
    body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem }\n\
    table { border-collapse: collapse; margin: .5rem 0 }\n\
    th, td { padding: .15rem .9rem .15rem 0; text-align: left; vertical-align: top }\n\
    td.n { text-align: right }\n\
    pre { overflow-x: auto; padding: .6rem; background: #8882; font: 13px/1.35 ui-monospace, monospace }\n\
    .passed { color: #18794e } .failure, .error { color: #cd2b31; font-weight: 600 } .skipped { color: #946800 }\n\
    @media (prefers-color-scheme: dark) { .passed { color: #4cc38a } .failure, .error { color: #ff6369 }\n\
    .skipped { color: #f1a10d } }\n</style>\n";

pub(super) fn render(report: &Report) -> String {
    let runs = entries(report);
    let bad = runs.iter().flat_map(|(_, entries)| entries).filter(|entry| entry.judgement.is_bad()).count();
    let mut page = HEAD.to_owned();
    let title = match bad {
        0 => "nothing failed".to_owned(),
        1 => "1 failure".to_owned(),
        count => format!("{count} failures"),
    };
    let _ = writeln!(page, "<h1>{title}</h1>");
    table_of_runs(&mut page, &runs);
    let mut room = SAID;
    for (run, entries) in &runs {
        for entry in entries.iter().filter(|entry| entry.judgement.is_bad()) {
            failure(&mut page, run, entry, &mut room);
        }
    }
    for (run, entries) in &runs {
        all(&mut page, run, entries);
    }
    known(&mut page, report);
    page.push_str("</html>\n");
    page
}

fn table_of_runs(page: &mut String, runs: &[(&HostRun, Vec<Entry<'_>>)]) {
    page.push_str(
        "<table>\n<tr><th>host<th>suite<th>guests under<th>passed<th>failed<th>errors<th>skipped<th>time\n",
    );
    for (run, entries) in runs {
        let count = |wanted| entries.iter().filter(|entry| entry.judgement == wanted).count();
        let under = run.property("accelerator");
        let time: u64 = run.results.iter().map(|result| result.duration_ms).sum();
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}",
            escaped(&run.host),
            escaped(run.suite_words().unwrap_or("–")),
            escaped(under.unwrap_or("–")),
        );
        for judgement in [Judgement::Passed, Judgement::Failure, Judgement::Error, Judgement::Skipped] {
            let _ = match count(judgement) {
                0 => write!(page, "<td class=n>0"),
                number => write!(page, "<td class=\"n {}\">{number}", class(judgement)),
            };
        }
        let _ = writeln!(page, "<td class=n>{}.{} s", time / 1000, time % 1000 / 100);
    }
    page.push_str("</table>\n");
}

fn failure(page: &mut String, run: &HostRun, entry: &Entry<'_>, room: &mut usize) {
    let _ = writeln!(
        page,
        "<h2>{}: {} <span class={}>{}</span></h2>",
        escaped(&entry.group),
        escaped(&entry.name),
        class(entry.judgement),
        entry.word
    );
    if !entry.reason.is_empty() {
        let _ = writeln!(page, "<p>{}</p>", escaped(&clipped(&entry.reason, REASON)));
    }
    let Some(result) = entry.details else { return };
    if !result.last_lines.is_empty() {
        let said = clipped(&clean(&result.last_lines.join("\n")), LAST_LINES);
        match room.checked_sub(cost(&said)) {
            Some(left) => {
                *room = left;
                let _ = writeln!(page, "<pre>{}</pre>", escaped_text(&said));
            }
            None => {
                page.push_str("<p>The last lines are left out, for the page would become too large.</p>\n")
            }
        }
    }
    if let Some(command) = &result.reproduce {
        let command = escaped_text(&clipped(&clean(command), LAST_LINES));
        let _ = writeln!(page, "<p>By hand on {}:</p>\n<pre>{command}</pre>", escaped(&run.host));
    }
}

fn all(page: &mut String, run: &HostRun, entries: &[Entry<'_>]) {
    let _ = writeln!(page, "<details><summary>All of {}</summary>\n<table>", escaped(&run.host));
    for entry in entries {
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td class={}>{}<td>{}",
            escaped(&entry.group),
            escaped(&entry.name),
            class(entry.judgement),
            entry.word,
            escaped(&clipped(&entry.reason, REASON)),
        );
        for warning in entry.warnings {
            let _ = writeln!(
                page,
                "<tr><td><td><td class=skipped>warning<td>{}",
                escaped(&clipped(warning, REASON))
            );
        }
    }
    page.push_str("</table>\n");
    properties(page, &run.properties);
    page.push_str("</details>\n");
}

fn known(page: &mut String, report: &Report) {
    page.push_str("<details><summary>Of all</summary>\n");
    properties(page, &report.properties);
    page.push_str("</details>\n");
}

fn properties(page: &mut String, properties: &[(String, String)]) {
    page.push_str("<table>\n");
    for (name, value) in properties {
        let _ = writeln!(page, "<tr><th>{}<td>{}", escaped(name), escaped(&clipped(&line(value), REASON)));
    }
    page.push_str("</table>\n");
}

fn class(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Passed => "passed",
        Judgement::Failure => "failure",
        Judgement::Error => "error",
        Judgement::Skipped => "skipped",
    }
}

fn escaped(text: &str) -> String {
    escaped_text(&line(text))
}

fn escaped_text(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
