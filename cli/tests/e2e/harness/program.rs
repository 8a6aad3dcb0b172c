//! Calls of programs, with a deadline and with everything they print.

use std::env;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program under test.
pub(crate) const TORIL: &str = env!("CARGO_BIN_EXE_toril");

/// How long a call may take that says nothing else: more than any of them needs on a slow machine, the making of a base
/// that others wait for included. It only keeps what hangs from hanging for ever.
const DEADLINE: Duration = Duration::from_secs(900);

/// Runs toril to its end.
pub(crate) fn toril(arguments: &[&str]) -> Finished {
    Toril::new(arguments).run()
}

/// A call of toril that is not begun yet.
pub(crate) struct Toril {
    command: Command,
    words: String,
    deadline: Duration,
}

impl Toril {
    pub(crate) fn new(arguments: &[&str]) -> Toril {
        Toril::of(Path::new(TORIL), arguments)
    }

    /// Any other program (ssh, setpriv …), with the same care.
    pub(crate) fn of(program: &Path, arguments: &[&str]) -> Toril {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Nothing that the user of the machine has set up may change what is tested.
        command.current_dir("/").env("XDG_CONFIG_HOME", "/nonexistent");
        for name in ["NO_COLOR", "COLUMNS", "SSH_AUTH_SOCK"] {
            command.env_remove(name);
        }
        for (name, _) in env::vars_os() {
            if name.as_bytes().starts_with(b"TORIL_") && name != "TORIL_SANDBOX_DIR" {
                command.env_remove(name);
            }
        }
        // The same tests by the other ssh client.
        if let Some(transport) = env::var_os("E2E_TRANSPORT") {
            command.env("TORIL_TRANSPORT", transport);
        }
        let program = program.file_name().unwrap().to_string_lossy();
        Toril { command, words: format!("{program} {}", arguments.join(" ")), deadline: DEADLINE }
    }

    /// The directory that it is called in; the root where none is given.
    pub(crate) fn dir(mut self, dir: &Path) -> Toril {
        self.command.current_dir(dir);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Toril {
        self.command.env(name, value);
        self
    }

    /// Without anything in its environment.
    pub(crate) fn bare(mut self) -> Toril {
        self.command.env_clear();
        self
    }

    /// Without variables that it would inherit.
    pub(crate) fn without(mut self, names: &[&str]) -> Toril {
        for name in names {
            self.command.env_remove(name);
        }
        self
    }

    pub(crate) fn deadline(mut self, deadline: Duration) -> Toril {
        self.deadline = deadline;
        self
    }

    pub(crate) fn run(self) -> Finished {
        self.spawn().wait()
    }

    /// Begins, in a process group of its own.
    pub(crate) fn spawn(mut self) -> Running {
        let mut child = self.command.process_group(0).spawn().unwrap();
        let stdout = Tail::follow(child.stdout.take().unwrap());
        let stderr = Tail::follow(child.stderr.take().unwrap());
        let (words, start) = (self.words, Instant::now());
        Running { child, words, stdout, stderr, start, deadline: self.deadline }
    }
}

/// A call that runs. It is killed if it is dropped.
pub(crate) struct Running {
    child: Child,
    words: String,
    stdout: Tail,
    stderr: Tail,
    start: Instant,
    deadline: Duration,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub(crate) fn stdout_so_far(&self) -> String {
        self.stdout.text()
    }

    /// Waits until it has printed this on standard output.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !self.stdout.text().contains(text) {
            // Asked before the output is looked at again: what was printed at the end counts.
            let ended = self.child.try_wait().unwrap().is_some() && self.stdout.is_at_end();
            let late = self.start.elapsed() > self.deadline;
            if (ended || late) && !self.stdout.text().contains(text) {
                let (out, err) = (self.stdout.text(), self.stderr.text());
                panic!("`{}` did not print {text:?}\n{}", self.words, shown(&out, &err));
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal by its number (9 is KILL, 2 is what Ctrl-C sends).
    pub(crate) fn signal(&self, signal: i32) {
        let status = Command::new("kill").args([format!("-{signal}"), self.pid().to_string()]).status();
        assert!(status.unwrap().success(), "cannot send signal {signal} to `{}`", self.words);
    }

    /// Waits for its end; a call that outlasts its deadline is killed and fails the test.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Finished {
        let until = self.start + self.deadline;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > until => {
                    drop(self.child.kill());
                    drop(self.child.wait());
                    let (out, err) = (self.stdout.text(), self.stderr.text());
                    panic!("`{}` took more than {:?}\n{}", self.words, self.deadline, shown(&out, &err));
                }
                None => sleep(Duration::from_millis(5)),
            }
        };
        let took = self.start.elapsed();
        // What it left behind (an ssh master) may hold the pipes: their end is not waited for long.
        let (stdout, stderr) = (self.stdout.end(), self.stderr.end());
        Finished { words: std::mem::take(&mut self.words), status, stdout, stderr, took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has been waited for has told its own.
        if std::thread::panicking() && !self.words.is_empty() {
            let ended = self.child.try_wait().ok().flatten();
            let (out, err) = (self.stdout.text(), self.stderr.text());
            let told =
                format!("in the meantime `{}` (ended: {ended:?})\n{}\n", self.words, shown(&out, &err));
            drop(std::io::stderr().write_all(told.as_bytes()));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What comes out of a pipe, read by a thread.
struct Tail {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Tail {
    fn follow(mut pipe: impl Read + Send + 'static) -> Tail {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Tail { bytes, thread }
    }

    fn is_at_end(&self) -> bool {
        self.thread.is_finished()
    }

    fn end(&self) -> String {
        // Five seconds, and not what a clock says: where the machine stood still, the thread has not read either.
        for _ in 0..500 {
            if self.is_at_end() {
                break;
            }
            sleep(Duration::from_millis(10));
        }
        self.text()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}

/// How a call ended. The assertions show all that was printed.
pub(crate) struct Finished {
    words: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Finished {
    #[track_caller]
    pub(crate) fn exits(self, status: i32) -> Finished {
        assert_eq!(
            self.status.code(),
            Some(status),
            "exit status, or signal {:?}{self}",
            self.status.signal()
        );
        self
    }

    /// On either of the two outputs.
    #[track_caller]
    pub(crate) fn shows(self, text: &str) -> Finished {
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "{text:?} is not shown{self}");
        self
    }

    #[track_caller]
    pub(crate) fn hides(self, text: &str) -> Finished {
        assert!(!self.stdout.contains(text) && !self.stderr.contains(text), "{text:?} is shown{self}");
        self
    }

    #[track_caller]
    pub(crate) fn takes_at_most(self, time: Duration) -> Finished {
        assert!(self.took <= time, "took {:?}, more than {time:?}{self}", self.took);
        self
    }

    /// The events of `--json`: every line must be one, and the last must tell the exit status.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        let read = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(event) if event["event"].is_string() => event,
            _ => panic!("this is no event: {line}{self}"),
        };
        let events: Vec<Value> = self.stdout.lines().map(read).collect();
        let last = events.last().unwrap_or_else(|| panic!("no event at all{self}"));
        assert_eq!(last["event"], "finished", "{self}");
        assert_eq!(last["status"].as_i64(), self.status.code().map(i64::from), "{self}");
        events
    }

    /// The results of the tests that were run, in their order.
    #[track_caller]
    pub(crate) fn results(&self) -> Vec<Value> {
        let ended = |event: Value| {
            event.pointer("/run/event").filter(|event| event["event"] == "test-ended").cloned()
        };
        self.events().into_iter().filter_map(ended).collect()
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = shown(&self.stdout, &self.stderr);
        write!(f, "\n`{}` ended after {:?} ({})\n{shown}", self.words, self.took, self.status)
    }
}

fn shown(stdout: &str, stderr: &str) -> String {
    format!("---- standard output\n{}---- standard error\n{}----", tail(stdout), tail(stderr))
}

/// The end of what a flood may have left.
fn tail(text: &str) -> &str {
    const SHOWN: usize = 30_000;
    let from = text.len().saturating_sub(SHOWN);
    let from = (from..).find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    &text[from..]
}
