//! What the tests of the runner share.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use toril_runner::{Accelerator, AcceleratorPolicy, Event, Options, SMOKE, Suite, Summary, TestResult, run};

pub const HARNESS: &str = env!("CARGO_BIN_EXE_toril-runner-harness");

/// A place for a run, and what it is run with: TCG, as nobody.
pub struct Place {
    pub state: tempfile::TempDir,
    pub options: Options,
}

/// What the tests need of the machine; prints why where it is not there.
pub fn place(needs_qemu: bool) -> Option<Place> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !is_root {
        lacks("root, who alone makes process namespaces and users");
        return None;
    }
    if needs_qemu && !Path::new("/usr/bin/qemu-system-x86_64").exists() {
        lacks("qemu-system-x86_64");
        return None;
    }
    let state = tempfile::Builder::new().prefix("toril-test-").tempdir().unwrap();
    fs::set_permissions(state.path(), Permissions::from_mode(0o755)).unwrap();
    let options = Options {
        accelerator: AcceleratorPolicy { requested: Some(Accelerator::Tcg), tcg_allowed: true },
        run_as: Some("nobody".into()),
        state: state.path().to_owned(),
        isolate: vec![HARNESS.into(), "isolate".into()],
        ..Options::default()
    };
    Some(Place { state, options })
}

/// How long something may take that comes about by itself, on the slowest of machines.
pub const SOON: Duration = Duration::from_secs(60);

/// Deadlines for what ends by nothing else; the next where a slow machine does not come far enough within one.
const DEADLINES: [&str; 3] = ["1 s", "8 s", "60 s"];

/// What comes of the first deadline within which it came so far, and that deadline in words; of the last one where it
/// never did.
pub fn cut_off<T>(run: impl Fn(&str) -> T, came_far: impl Fn(&T) -> bool) -> (T, &'static str) {
    let [others @ .., last] = DEADLINES;
    let run = |words: &'static str| (run(&words.replace(' ', "")), words);
    others.into_iter().map(run).find(|(ended, _)| came_far(ended)).unwrap_or_else(|| run(last))
}

/// Makes a program out of a script. By another process: a file that this one has open for writing is open as well in
/// what another thread has just forked, and until that is a program of its own, the file cannot be executed.
pub fn program(path: &Path, script: &str) {
    let mut install = Command::new("install");
    let mut install =
        install.args(["-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
    install.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
}

/// Says what a test cannot do without, and so skips it; fails where no test may be skipped (`.ci/run`).
pub fn lacks(what: &str) {
    println!("skipped: there is no {what} here");
    assert!(env::var_os("TORIL_TESTS_MUST_RUN").is_none(), "this test must run, and there is no {what} here");
}

impl Place {
    pub fn run(&self, suite: &str) -> (Summary, Vec<Event>) {
        self.run_until(suite, &AtomicBool::new(false))
    }

    pub fn run_until(&self, suite: &str, stop: &AtomicBool) -> (Summary, Vec<Event>) {
        let suite =
            Suite::parse("test.toml", suite, &BTreeMap::new()).unwrap_or_else(|error| panic!("{error}"));
        self.run_suite(&suite, stop)
    }

    pub fn run_suite(&self, suite: &Suite, stop: &AtomicBool) -> (Summary, Vec<Event>) {
        let mut events = Vec::new();
        let summary = run(suite, &self.options, &mut |event| events.push(event), stop);
        let left = fs::read_dir(self.state.path().join("runs")).map_or(0, Iterator::count);
        assert_eq!(
            left,
            usize::from(self.options.keep.is_some()),
            "the run's folder is still there, or is not"
        );
        (summary, events)
    }

    /// The one test of a suite.
    pub fn result(&self, suite: &str) -> TestResult {
        let (summary, _) = self.run(suite);
        assert_eq!(summary.results.len(), 1);
        summary.results.into_iter().next().unwrap()
    }
}

/// The guest of the built-in suite in one of its modes, with a deadline.
pub fn boot(mode: &str, deadline: &str) -> String {
    let only = SMOKE.split("\n# A push must not be root").next().unwrap();
    only.replace("mode = \"pass\"", &format!("mode = \"{mode}\""))
        .replace("deadline = \"10s\"", &format!("deadline = \"{deadline}\""))
}

/// A suite of one shell command.
pub fn shell(script: &str, more: &str) -> String {
    format!(
        "[[test]]\nname = \"t\"\ndeadline = \"60s\"\n{more}\ncommand = [\"sh\", \"-c\", '''{script}''']\n"
    )
}

/// The processes with this text in their command lines, zombies not counted.
pub fn processes(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

/// Whether it becomes true soon.
pub fn soon(mut check: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + SOON;
    while Instant::now() < until {
        if check() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    check()
}
