//! What a client asks of a run that is at work: to end, and to read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::journal::BEGINNING;
use super::run_directory::RunDirectory;
use super::{Entry, RunEvent};

/// Gives a run's guest something to read. What it does not take is lost, as on a line that nobody listens at.
pub(super) fn feed(name: &str, bytes: &[u8]) -> io::Result<()> {
    let Some(run) = RunDirectory::find(Some(name))? else { return Ok(()) };
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let until = Instant::now() + BEGINNING;
    loop {
        match rustix::fs::open(run.input(), flags, Mode::empty()) {
            Ok(pipe) => return File::from(pipe).write_all(bytes),
            // Its worker is about to open it.
            Err(Errno::NXIO) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Asks a run's worker to end. The journal names its process, and the lock tells that it still is that process.
pub(super) fn stop(name: &str) -> io::Result<()> {
    let Some(run) = RunDirectory::find(Some(name))? else { return Ok(()) };
    let until = Instant::now() + BEGINNING;
    let pid = loop {
        if let Some(pid) = worker_of(&run) {
            break pid;
        }
        if Instant::now() > until {
            return Err(io::Error::other("its worker has not begun"));
        }
        // It is about to.
        thread::sleep(Duration::from_millis(10));
    };
    if run.has_worker()? { Ok(kill_process(pid, Signal::TERM)?) } else { Ok(()) }
}

pub(super) fn worker_of(run: &RunDirectory) -> Option<Pid> {
    let mut line = String::new();
    BufReader::new(File::open(run.journal()).ok()?).read_line(&mut line).ok()?;
    match serde_json::from_str::<Entry>(&line).ok()?.event {
        RunEvent::Began { pid } => i32::try_from(pid).ok().and_then(Pid::from_raw),
        _ => None,
    }
}
