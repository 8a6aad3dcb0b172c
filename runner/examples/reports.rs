//! What making reports takes: `cargo run --release -p toril-runner --example reports -- CASES` gathers a run of one test
//! with so many cases, and of as many tests without, and prints what each format took and the most memory there was.

use std::error::Error;
use std::fs;
use std::io::{Write, stdout};
use std::time::Instant;

use toril_runner::report::{Format, HostRun, Report, annotations};
use toril_runner::{Case, CaseResult, Event, Outcome, TestResult};

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(2000), |text| text.parse())?;
    let mut out = stdout().lock();
    let before = most_memory()?;
    let start = Instant::now();
    let report = gathered(count);
    writeln!(out, "gathered {count} cases and {count} tests: {:.1} ms", milliseconds(start))?;
    for format in Format::ALL {
        let start = Instant::now();
        let text = format.render(&report)?;
        writeln!(out, "{}: {:.1} ms, {} KiB", format.name(), milliseconds(start), text.len() / 1024)?;
    }
    let start = Instant::now();
    let text = annotations(&report);
    writeln!(out, "github: {:.1} ms, {} KiB", milliseconds(start), text.len() / 1024)?;
    writeln!(
        out,
        "most memory: {} KiB, {} KiB of them since the start",
        most_memory()?,
        most_memory()? - before
    )?;
    Ok(())
}

/// Every tenth case, and every tenth test, failed, with last lines.
fn gathered(count: usize) -> Report {
    let mut run = HostRun::new("host-1");
    let names: Vec<String> = (0..count).map(|number| format!("test-{number}")).collect();
    let tests = [vec!["cases".to_owned()], names.clone()].concat();
    let (suite, run_as) = ("many".into(), "toril".into());
    run.take(&Event::RunStarted { suite, tests, left_out: 0, run_as, shard: None });
    let case = |number: usize| match number % 10 {
        0 => Case { name: format!("case-{number}"), result: CaseResult::Failed, reason: "1 != 2".into() },
        _ => Case { name: format!("case-{number}"), result: CaseResult::Passed, reason: String::new() },
    };
    run.take(&ended("cases", Outcome::Failed, (0..count).map(case).collect()));
    for (number, name) in names.iter().enumerate() {
        let outcome = if number % 10 == 0 { Outcome::Crashed } else { Outcome::Passed };
        run.take(&ended(name, outcome, Vec::new()));
    }
    run.close(false);
    Report { runs: vec![run], ..Report::default() }
}

fn ended(test: &str, outcome: Outcome, cases: Vec<Case>) -> Event {
    let line = "[    1.234567] something that a kernel says, of about the length that its lines have";
    Event::TestEnded(Box::new(TestResult {
        test: test.into(),
        outcome,
        reason: if outcome == Outcome::Passed { String::new() } else { "it panicked".into() },
        duration_ms: 10,
        cases,
        accelerator: None,
        last_lines: if outcome == Outcome::Passed { Vec::new() } else { vec![line.into(); 20] },
        qemu: Vec::new(),
        reproduce: None,
        warnings: Vec::new(),
        not_here: false,
        attempts: Vec::new(),
        metrics: Vec::new(),
        diagnosis: Vec::new(),
    }))
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

/// Of this process, in KiB.
fn most_memory() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("the kernel does not say")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
