use std::ffi::OsString;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::accelerator::{Accelerator, AcceleratorPolicy, Choice, choose, probe_on};
use crate::event::{Event, Summary, TestResult};
use crate::execute::Stage;
use crate::source::Supply;
use crate::suite::{Action, Suite, Test};
use crate::verdict::Outcome;

/// How a suite is run here.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the user says of the accelerator.
    pub accelerator: AcceleratorPolicy,
    /// Only tests whose names contain one of these; every test where there are none.
    pub filter: Vec<String>,
    /// The user that tests run as, whatever the suite says.
    pub run_as: Option<String>,
    /// Whether what tests print is told as it comes ([`Event::Output`]).
    pub live: bool,
    /// What a guest reads from its first serial port: a named pipe that is fed while the guest runs. Without it the guest
    /// reads nothing.
    pub input: Option<PathBuf>,
    /// Whether guests wait for a debugger before they run ([`Event::AwaitsDebugger`]).
    pub debugger: bool,
    /// Where the tree comes from that is tested, if there is one. Relative paths of the suite start in it.
    pub source: Option<Supply>,
    /// toril's own folder on this machine; the runs' folders are made in it. Others must be able to pass through it.
    pub state: PathBuf,
    /// The QEMU for guests: a path, or a name on the standard search path.
    pub qemu: String,
    /// The command line that gets to [`crate::isolate`].
    pub isolate: Vec<OsString>,
}

impl Default for Options {
    fn default() -> Options {
        // This very program, even where its file has been replaced or removed since it was started.
        let program = format!("/proc/{}/exe", process::id());
        Options {
            accelerator: AcceleratorPolicy::default(),
            filter: Vec::new(),
            run_as: None,
            live: false,
            input: None,
            debugger: false,
            source: None,
            state: PathBuf::from("/var/lib/toril"),
            qemu: "qemu-system-x86_64".into(),
            isolate: vec![program.into(), "isolate".into()],
        }
    }
}

/// Runs a suite on this machine, as root: tells what happens as it happens, and what came of it. When `stop` becomes
/// true the running test is ended and the others are skipped. Nothing that a test started is left afterwards.
pub fn run(suite: &Suite, options: &Options, sink: &mut dyn FnMut(Event), stop: &AtomicBool) -> Summary {
    let run_as = options.run_as.as_deref().unwrap_or(&suite.run_as);
    let wanted = |test: &&Test| {
        options.filter.is_empty() || options.filter.iter().any(|part| test.name.contains(part))
    };
    let tests: Vec<&Test> = suite.tests.iter().filter(wanted).collect();
    sink(Event::RunStarted {
        suite: suite.name.clone(),
        tests: tests.iter().map(|test| test.name.clone()).collect(),
        run_as: run_as.to_owned(),
    });
    let mut source = None;
    let stage = Stage::set_up(options, run_as, stop).and_then(|mut stage| {
        if let Some(supply) = &options.source {
            let mut sink = |event: Event| {
                if let Event::SourceReady { source: info, .. } = &event {
                    source = Some(info.clone());
                }
                sink(event);
            };
            stage.source = Some(stage.lay_out(supply, &mut sink)?);
        }
        Ok(stage)
    });
    let choice = match &stage {
        Ok(stage) if tests.iter().any(|test| is_guest(test)) => {
            let choice = choose(options.accelerator, suite.accelerator, || probe_on(stage));
            sink(Event::AcceleratorChosen { accelerator: choice.accelerator, reason: choice.reason.clone() });
            choice
        }
        _ => Choice { accelerator: None, reason: String::new() },
    };
    let no_guests = choice.accelerator.is_none() && tests.iter().any(|test| is_guest(test));
    let mut summary = Summary { accelerator: choice.accelerator, no_guests, source, ..Summary::default() };
    for test in tests {
        let stage = stage.as_ref().map_err(String::as_str);
        let result = run_test(test, stage, &choice, sink, stop);
        // A test that came to its own end counts, whenever the wish to stop came.
        summary.stopped |= result.outcome == Outcome::Skipped && stop.load(Ordering::Relaxed);
        summary.results.push(result);
    }
    sink(Event::RunEnded(summary.counts()));
    summary
}

fn is_guest(test: &Test) -> bool {
    matches!(test.action, Action::Guest(_))
}

fn run_test(
    test: &Test,
    stage: Result<&Stage<'_>, &str>,
    choice: &Choice,
    sink: &mut dyn FnMut(Event),
    stop: &AtomicBool,
) -> TestResult {
    let accelerator = choice.accelerator.filter(|_| is_guest(test));
    sink(Event::TestStarted { test: test.name.clone() });
    let not_run = |outcome, reason: &str| TestResult {
        test: test.name.clone(),
        outcome,
        reason: reason.to_owned(),
        duration_ms: 0,
        cases: Vec::new(),
        accelerator,
        last_lines: Vec::new(),
        qemu: Vec::new(),
        reproduce: None,
        warnings: Vec::new(),
    };
    let result = match stage {
        _ if stop.load(Ordering::Relaxed) => not_run(Outcome::Skipped, "the run was stopped"),
        Err(why) => not_run(Outcome::Error, why),
        Ok(_) if is_guest(test) && accelerator.is_none() => not_run(Outcome::Skipped, &choice.reason),
        Ok(stage) => return execute(test, stage, accelerator, sink),
    };
    sink(Event::TestEnded(result.clone()));
    result
}

fn execute(
    test: &Test,
    stage: &Stage<'_>,
    accelerator: Option<Accelerator>,
    sink: &mut dyn FnMut(Event),
) -> TestResult {
    let start = Instant::now();
    let mut executed = stage.execute(test, accelerator, sink);
    let passed = executed.verdict.outcome == Outcome::Passed;
    let result = TestResult {
        test: test.name.clone(),
        outcome: executed.verdict.outcome,
        reason: std::mem::take(&mut executed.verdict.reason),
        duration_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        cases: std::mem::take(&mut executed.cases),
        accelerator,
        last_lines: if passed { Vec::new() } else { std::mem::take(&mut executed.last_lines) },
        qemu: std::mem::take(&mut executed.qemu),
        reproduce: executed.reproduce.take(),
        warnings: std::mem::take(&mut executed.warnings),
    };
    // On record before the test's folder is removed.
    sink(Event::TestEnded(result.clone()));
    drop(executed);
    result
}
