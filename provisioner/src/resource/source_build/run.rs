//! Running a build: by a user who may do nothing, without a network, in a process namespace of its own, and the first to
//! go when memory runs out.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use toril_machine::{Command, CommandError, User};

use super::room::Room;
use crate::resource::ResourceError;

/// What a build prints goes here, in its directory.
pub(super) const LOG: &str = "log";

/// How many of the last lines are shown.
const LAST_LINES: usize = 20;

/// How much of the log's end is looked at, in bytes.
const LAST_BYTES: u64 = 16 << 10;

/// No file may become larger, in bytes; what a build prints neither.
const LARGEST_FILE: u64 = 4 << 30;

/// How often it is told how far a build is.
const TELL: Duration = Duration::from_secs(20);

/// A build in its directory, of which all belongs to the user.
#[derive(Debug)]
pub(super) struct Build<'b> {
    pub(super) user: &'b User,
    pub(super) room: Room,
    pub(super) directory: &'b Path,
    /// What it prints, as it was opened before the build: by its name there may be any file of the host's by now.
    pub(super) log: &'b File,
    pub(super) until: Instant,
    /// Unlike dpkg, it may be ended half-way.
    pub(super) stop: &'b AtomicBool,
}

impl Build<'_> {
    /// Runs a script to its end in a directory below, with what it prints in the log.
    pub(super) fn run(
        &self,
        what: &str,
        script: &str,
        dir: &Path,
        env: &[(&str, String)],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let path = self.directory.join(LOG);
        let words = self.words(&path, script);
        let mut command = Command::new(&words[0], &words[1..]).dir(dir).output_limit(4096);
        for (name, value) in env {
            command = command.env(name, value);
        }
        let command = command
            .env("HOME", self.directory.join("home"))
            .env("TMPDIR", self.directory.join("tmp"))
            .env("MAKEFLAGS", format!("-j{}", self.room.jobs))
            .env("JOBS", self.room.jobs.to_string())
            .deadline(self.until.saturating_duration_since(Instant::now()));
        let start = Instant::now();
        let (sender, receiver) = channel();
        let finished = thread::scope(|scope| {
            scope.spawn(move || sender.send(command.run_unless(&|| self.stop.load(Ordering::Relaxed))));
            loop {
                match receiver.recv_timeout(TELL) {
                    Ok(finished) => return Some(finished),
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => {
                        let last = last_lines(self.log, 1);
                        log(&format!("{what}, {} s: {last}", start.elapsed().as_secs()));
                    }
                }
            }
        });
        let why = match finished {
            Some(Ok(finished)) if finished.status.success() => return Ok(()),
            Some(Ok(finished)) => {
                let said = String::from_utf8_lossy(&finished.stderr).trim().to_owned();
                let said = if said.is_empty() { said } else { format!(": {said}") };
                format!("{what} {}{said}", finished.how())
            }
            Some(Err(CommandError::Stopped { .. })) => {
                return Err(ResourceError(format!("{what} was ended, since the run was stopped")));
            }
            Some(Err(CommandError::TimedOut { .. })) => {
                format!("{what} was not done by its deadline and was ended")
            }
            Some(Err(error)) => format!("{what} could not be begun: {error}"),
            None => format!("{what} ended in an unknown way"),
        };
        match last_lines(self.log, LAST_LINES) {
            lines if lines.is_empty() => Err(ResourceError(why)),
            lines => Err(ResourceError(format!("{why}; its last lines:\n  {}", lines.replace('\n', "\n  ")))),
        }
    }

    fn words(&self, log: &Path, script: &str) -> Vec<String> {
        let User { uid, gid, .. } = self.user;
        let limits = format!("--as={}", self.room.memory.max(256 << 20));
        let size = format!("--fsize={LARGEST_FILE}");
        let ids = [format!("--reuid={uid}"), format!("--regid={gid}")];
        // What runs it may be killed: then nobody is there who would install what comes of it.
        let mut words = vec!["setpriv", "--pdeathsig", "KILL", "--"];
        words.extend(["choom", "-n", "1000", "--", "nice", "-n", "10"]);
        // The kernel ends all processes of a namespace with its first one. That is a shell: what changes its user forgets
        // whose death it is to die of.
        words.extend(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--ipc", "--"]);
        words.extend(["sh", "-c", "\"$@\"; exit $?", "sh"]);
        words.extend(["prlimit", &limits, &size, "--core=0", "--"]);
        words.extend(["setpriv", &ids[0], &ids[1], "--clear-groups", "--no-new-privs", "--"]);
        // The log's name is a word, and no text of a shell.
        let log = log.to_string_lossy();
        words.extend(["sh", "-euc", "exec >>\"$1\" 2>&1; exec sh -euc \"$2\"", "sh", &log, script]);
        words.into_iter().map(str::to_owned).collect()
    }
}

/// The last lines of a log that are not empty; nothing where there are none.
fn last_lines(log: &File, count: usize) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let length = log.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(length.min(LAST_BYTES)).unwrap_or_default()];
        let count = log.read_at(&mut bytes, length.saturating_sub(LAST_BYTES))?;
        bytes.truncate(count);
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let clean = |line: &str| line.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
    let mut lines: Vec<String> =
        text.lines().rev().filter(|line| !line.trim().is_empty()).take(count).map(clean).collect();
    lines.reverse();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_shown() {
        let log = tempfile::tempfile().unwrap();
        assert_eq!(last_lines(&log, 2), "");
        let text = format!("{}\n\u{1b}[31mone\n\ntwo\n\n", "x".repeat(40_000));
        log.write_all_at(text.as_bytes(), 0).unwrap();
        assert_eq!(last_lines(&log, 2), "[31mone\ntwo");
    }
}
