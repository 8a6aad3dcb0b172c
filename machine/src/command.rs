mod attend;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{PipeWriter, pipe};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use attend::{Attended, attend};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

/// The search path that commands get: a login's path may lack the system's own directories.
pub const STANDARD_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is put before the words of a command that is to end with the thread that runs it, whatever ends that. It takes
/// root. apt changes its user for a moment, and with that forgets whose death it is to die of: so the kernel ends it with
/// the first process of a namespace, which is a shell and forgets nothing.
pub const ENDS_WITH_US: [&str; 13] = [
    "setpriv",
    "--pdeathsig",
    "KILL",
    "--",
    "unshare",
    "--pid",
    "--fork",
    "--kill-child",
    "--",
    "sh",
    "-c",
    "\"$@\"; exit $?",
    "sh",
];

/// The same without root, and of whatever the command starts in its process group: standard input is a pipe that nobody
/// writes to. It is closed with this program, and who waits for that, behind the command's back, ends the group.
const GROUP_ENDS_WITH_US: [&str; 4] = [
    "/bin/sh",
    "-c",
    "exec 3<&0; ({ read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 &); exec \"$@\" </dev/null 3<&-",
    "sh",
];

/// A program to run to its end, with a deadline and bounded output. It gets the C locale, the standard path and a
/// process group of its own; whatever of the group is alive at the deadline is killed.
#[derive(Debug, Clone)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    stdin: Vec<u8>,
    deadline: Duration,
    output_limit: usize,
    ends_with_us: bool,
    group_ends_with_us: bool,
}

/// A program that ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// The first bytes of its standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// The first bytes of its standard error, up to the limit.
    pub stderr: Vec<u8>,
    /// Whether either was longer than the limit.
    pub truncated: bool,
}

/// Why a command gave no usable end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no such program.
    #[error("cannot run `{command}`: no such program on the host")]
    NotFound {
        /// The command line.
        command: String,
    },
    /// It could not be started.
    #[error("cannot run `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// It could not be waited for, and was killed.
    #[error("cannot wait for `{command}`: {source}")]
    Wait {
        /// The command line.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// It was still running at its deadline and was killed.
    #[error("`{command}` was still running after {} s and was killed", deadline.as_secs_f32())]
    TimedOut {
        /// The command line.
        command: String,
        /// How long it was given.
        deadline: Duration,
    },
    /// It was ended, as was asked.
    #[error("`{command}` was ended, since the run was stopped")]
    Stopped {
        /// The command line.
        command: String,
    },
    /// It ended with another status than 0.
    #[error("`{command}` {how}{}", quoted_tail(.stderr))]
    Failed {
        /// The command line.
        command: String,
        /// Such as `exited with status 2`.
        how: String,
        /// What it printed on standard error.
        stderr: String,
    },
}

fn quoted_tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.len() {
        0 => String::new(),
        n => format!(": {}", lines[n.saturating_sub(6)..].join("\n  ")),
    }
}

impl Command {
    /// A program and its arguments; 60 seconds, 1 MiB of each output.
    pub fn new(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        Command {
            program: program.as_ref().to_owned(),
            args: args.into_iter().map(|arg| arg.as_ref().to_owned()).collect(),
            env: Vec::new(),
            dir: None,
            stdin: Vec::new(),
            deadline: Duration::from_secs(60),
            output_limit: 1 << 20,
            ends_with_us: false,
            group_ends_with_us: false,
        }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Command {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Command {
        self.dir = Some(dir.into());
        self
    }

    /// Gives the program this on its standard input; otherwise it gets none.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Command {
        self.stdin = bytes.into();
        self
    }

    /// How long it may run.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Command {
        self.deadline = deadline;
        self
    }

    /// How many bytes of each output are kept; the rest is read and dropped, so the program never blocks.
    #[must_use]
    pub fn output_limit(mut self, bytes: usize) -> Command {
        self.output_limit = bytes;
        self
    }

    /// Has it end with the thread that runs it, however that ends: [`ENDS_WITH_US`].
    #[must_use]
    pub fn ends_with_us(mut self) -> Command {
        self.ends_with_us = true;
        self
    }

    /// Has it end with this program, however that ends, with all that it has started in its process group; this also ends
    /// with the command itself. Root is not needed. It gets no standard input.
    #[must_use]
    pub fn group_ends_with_us(mut self) -> Command {
        self.group_ends_with_us = true;
        self
    }

    /// Runs it to its end, whatever its status.
    ///
    /// # Errors
    /// It could not be started, or did not end in time.
    pub fn run(&self) -> Result<Finished, CommandError> {
        self.run_until(None)
    }

    /// The same, for what may be ended half-way: it is, when `stopped` says so.
    ///
    /// # Errors
    /// As [`Command::run`]; also that it was ended.
    pub fn run_unless(&self, stopped: &dyn Fn() -> bool) -> Result<Finished, CommandError> {
        self.run_until(Some(stopped))
    }

    fn run_until(&self, stopped: Option<&dyn Fn() -> bool>) -> Result<Finished, CommandError> {
        let (mut child, held) = match self.group_ends_with_us {
            true => self.spawn_held().map(|(child, held)| (child, Some(held)))?,
            false => (self.spawn()?, None),
        };
        let until = Instant::now() + self.deadline;
        let attended = attend(&mut child, &self.stdin, self.output_limit, until, stopped);
        drop(held);
        match attended {
            Ok(Attended { status: Some(status), stdout, stderr, truncated }) => {
                Ok(Finished { status, stdout, stderr, truncated })
            }
            Ok(_) => {
                kill_group(&mut child);
                let command = self.to_string();
                Err(match stopped.is_some_and(|stopped| stopped()) {
                    true => CommandError::Stopped { command },
                    false => CommandError::TimedOut { command, deadline: self.deadline },
                })
            }
            Err(source) => {
                kill_group(&mut child);
                Err(CommandError::Wait { command: self.to_string(), source })
            }
        }
    }

    /// Runs it to its end and returns its standard output as text.
    ///
    /// # Errors
    /// As [`Command::run`]; also another status than 0.
    pub fn output(&self) -> Result<String, CommandError> {
        self.success(self.run()?)
    }

    /// The same, for what may be ended half-way: it is, when `stopped` says so.
    ///
    /// # Errors
    /// As [`Command::output`]; also that it was ended.
    pub fn output_unless(&self, stopped: &dyn Fn() -> bool) -> Result<String, CommandError> {
        self.success(self.run_unless(stopped)?)
    }

    fn success(&self, finished: Finished) -> Result<String, CommandError> {
        if finished.status.success() {
            return Ok(String::from_utf8_lossy(&finished.stdout).into_owned());
        }
        Err(self.failed(&finished))
    }

    /// The error for an end that was not a success.
    pub fn failed(&self, finished: &Finished) -> CommandError {
        CommandError::Failed {
            command: self.to_string(),
            how: finished.how(),
            stderr: String::from_utf8_lossy(&finished.stderr).into_owned(),
        }
    }

    fn spawn(&self) -> Result<Child, CommandError> {
        if self.ends_with_us {
            let words = ENDS_WITH_US.iter().map(OsString::from).chain([self.program.clone()]);
            let mut words = words.chain(self.args.iter().cloned());
            let program = words.next().unwrap_or_default();
            return Command { program, args: words.collect(), ends_with_us: false, ..self.clone() }.spawn();
        }
        // Told where the program is, the standard library starts it without copying this process.
        let place = self.place();
        let stdin = || if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut spawned =
            self.spawn_at(place.as_ref().map_or(&self.program, |place| place.as_os_str()), stdin());
        if spawned.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error())) {
            // A script that does not say what runs it: the other way gives it to a shell.
            spawned = self.spawn_at(&self.program, stdin());
        }
        spawned.map_err(|source| self.not_started(source))
    }

    /// The command, and what has its group end when it is dropped.
    fn spawn_held(&self) -> Result<(Child, PipeWriter), CommandError> {
        let is_there = self.place().is_some() || Path::new(&self.program).components().count() > 1;
        if !is_there {
            return Err(CommandError::NotFound { command: self.to_string() });
        }
        let (reader, writer) = pipe().map_err(|source| self.not_started(source))?;
        let mut words = GROUP_ENDS_WITH_US.iter().map(OsString::from).chain([self.program.clone()]);
        let program = words.next().unwrap_or_default();
        let args = words.chain(self.args.iter().cloned()).collect();
        let held = Command { program, args, ..self.clone() };
        let child = held.spawn_at(&held.program, reader.into()).map_err(|source| self.not_started(source))?;
        Ok((child, writer))
    }

    fn not_started(&self, source: std::io::Error) -> CommandError {
        match source.kind() {
            std::io::ErrorKind::NotFound => CommandError::NotFound { command: self.to_string() },
            _ => CommandError::Start { command: self.to_string(), source },
        }
    }

    /// Where the program is on the path that it gets; nothing where it is a path itself, or nowhere.
    fn place(&self) -> Option<PathBuf> {
        if self.program.as_encoded_bytes().contains(&b'/') {
            return None;
        }
        let own = self.env.iter().rev().find(|(name, _)| name == "PATH");
        let path = own.map_or(OsStr::new(STANDARD_PATH), |(_, path)| path);
        which::which_in(&self.program, Some(path), "/").ok()
    }

    fn spawn_at(&self, program: &OsStr, stdin: Stdio) -> std::io::Result<Child> {
        let mut command = std::process::Command::new(program);
        command
            .arg0(&self.program)
            .args(&self.args)
            .env("LC_ALL", "C")
            .env("PATH", STANDARD_PATH)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command.spawn()
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.to_string_lossy())?;
        for arg in &self.args {
            let arg = arg.to_string_lossy();
            if arg.is_empty() || arg.contains(|c: char| c.is_whitespace() || "'\"$`\\*?;&|<>(){}".contains(c))
            {
                write!(f, " '{}'", arg.replace('\'', "'\\''"))?;
            } else {
                write!(f, " {arg}")?;
            }
        }
        Ok(())
    }
}

impl Finished {
    /// Such as `exited with status 2` or `was killed by signal 9`.
    pub fn how(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended in an unknown way".into(),
        }
    }
}

fn kill_group(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended in between.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests;
