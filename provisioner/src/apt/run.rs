use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use toril_machine::{ENDS_WITH_US, STANDARD_PATH, keep_room};

use super::failure::{Cause, Failure};
use super::locks;
use crate::resource::ResourceError;

/// Where what apt and dpkg print is kept.
pub(crate) const LOG: &str = "/var/log/toril-apt.log";

/// How much of it can be written even when the disk becomes full, in bytes: else it could not say that it did.
const LOG_ROOM: u64 = 512 << 10;

/// How long nothing is printed before that is told, and how often.
const QUIET: Duration = Duration::from_secs(10);

/// Runs apt or dpkg to its end. It is never killed half-way, and its output goes to a file and not to a pipe, so that
/// it goes on to its end even if this process is killed.
pub(super) fn run(program: &str, args: &[&str], log: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    // setsid: a hangup or an interrupt meant for this program must not reach dpkg.
    let mut command = Command::new("setsid");
    command.args(["--wait", program]).args(args);
    follow(command, (program, args), &|| false, log)
}

/// Runs apt for something that may be ended at any time, which is whatever it does without dpkg: it ends when `is_over`.
pub(super) fn run_group(
    is_over: &dyn Fn() -> bool,
    program: &str,
    args: &[&str],
    log: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.args(args).process_group(0);
    follow(command, (program, args), is_over, log)
}

/// The same; and it ends with the thread that runs it, where the kernel lets that be arranged.
pub(super) fn run_until(
    is_over: &dyn Fn() -> bool,
    program: &str,
    args: &[&str],
    log: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let [first, rest @ ..] = ENDS_WITH_US;
    let mut command = Command::new(first);
    command.args(rest).arg(program).args(args).process_group(0);
    follow(command, (program, args), is_over, log)
}

/// Runs a command with its output in the log, line by line told as well; `words` are what it is called by in errors.
fn follow(
    mut command: Command,
    words: (&str, &[&str]),
    is_over: &dyn Fn() -> bool,
    log: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let (program, args) = words;
    let failed = |what: &str, error: std::io::Error| ResourceError(format!("cannot {what}: {error}"));
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(LOG)
        .map_err(|error| failed(&format!("write {LOG}"), error))?;
    let mut reader = File::open(LOG).map_err(|error| failed(&format!("read {LOG}"), error))?;
    let start = reader.seek(SeekFrom::End(0)).map_err(|error| failed(&format!("read {LOG}"), error))?;
    if let Err(error) = keep_room(&output, LOG_ROOM) {
        let what = "free some space and run this again";
        return Err(ResourceError(format!("cannot write {LOG}: {error}; {what}")).into());
    }
    let copy = output.try_clone().map_err(|error| failed(&format!("write {LOG}"), error))?;
    let room = output.try_clone().map_err(|error| failed(&format!("write {LOG}"), error))?;
    let mut child = command
        .env("PATH", STANDARD_PATH)
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("NEEDRESTART_SUSPEND", "1")
        .env("APT_LISTCHANGES_FRONTEND", "none")
        .stdin(Stdio::null())
        .stdout(copy)
        .stderr(output)
        .spawn()
        .map_err(|error| failed(&format!("run {program}"), error))?;
    let mut pending = String::new();
    let name = format!("{program} {}", args.first().unwrap_or(&""));
    let mut quiet = Quiet::begin(&name, QUIET);
    let status = loop {
        let ended = child.try_wait().map_err(|error| failed(&format!("wait for {program}"), error))?;
        let mut bytes = Vec::new();
        if reader.read_to_end(&mut bytes).is_ok() {
            pending.push_str(&String::from_utf8_lossy(&bytes));
            while let Some(end) = pending.find('\n') {
                let line: String = pending.drain(..=end).collect();
                if !line.trim().is_empty() {
                    quiet.heard(line.trim_end());
                    log(line.trim_end());
                }
            }
        }
        match ended {
            Some(status) => break status,
            None if is_over() => {
                end(&mut child);
                free(&reader, &room);
                return Err(ResourceError(format!("`{name}` was ended")).into());
            }
            None => {
                quiet.look(log);
                thread::sleep(Duration::from_millis(30));
            }
        }
    };
    free(&reader, &room);
    if status.success() {
        return Ok(());
    }
    let output = text_from(Path::new(LOG), start);
    let mut failure = Failure::of(program, args, &status.to_string(), &output, LOG);
    // A cache that apt dies of is no better than one that it finds fault with.
    if matches!(status.signal(), Some(7 | 11)) {
        failure.cause = Cause::Lists;
    }
    Err(failure)
}

/// Tells of a program that prints nothing for a while: how long it has been running, and what it said last.
struct Quiet<'n> {
    name: &'n str,
    patience: Duration,
    begun: Instant,
    since: Instant,
    last: String,
}

impl Quiet<'_> {
    fn begin(name: &str, patience: Duration) -> Quiet<'_> {
        let now = Instant::now();
        Quiet { name, patience, begun: now, since: now, last: "it has printed nothing yet".into() }
    }

    fn heard(&mut self, line: &str) {
        (self.since, self.last) = (Instant::now(), line.to_owned());
    }

    fn look(&mut self, log: &mut dyn FnMut(&str)) {
        if self.since.elapsed() >= self.patience {
            log(&format!("waiting: `{}`, {}: {}", self.name, locks::short(self.begun.elapsed()), self.last));
            self.since = Instant::now();
        }
    }
}

/// Frees the room that was not used; it is no more than some room.
fn free(log: &File, room: &File) {
    let _ = log.metadata().and_then(|data| room.set_len(data.len()));
}

/// Ends a child that leads a group of its own, and the group: apt's methods fetch in processes of theirs.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended in between.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

fn text_from(path: &Path, start: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_of() {
        let mut told = Vec::new();
        let mut quiet = Quiet::begin("apt-get install", Duration::ZERO);
        quiet.look(&mut |line| told.push(line.to_owned()));
        quiet.heard("Setting up a (1) ...");
        quiet.look(&mut |line| told.push(line.to_owned()));
        let mut quiet = Quiet::begin("apt-get install", Duration::from_secs(10));
        quiet.look(&mut |line| told.push(line.to_owned()));
        assert_eq!(
            told,
            [
                "waiting: `apt-get install`, 0 s: it has printed nothing yet",
                "waiting: `apt-get install`, 0 s: Setting up a (1) ..."
            ]
        );
    }
}
