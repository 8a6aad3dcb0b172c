use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setsid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use toril_machine::{Machine, STANDARD_PATH};

use super::journal::JournalWriter;
use super::run_directory::RunDirectory;
use super::{Ended, RunEvent};

/// How long what a killed worker has left is tried to be removed: processes of it may be dying, and write.
const SWEEP: Duration = Duration::from_secs(20);

/// Starts the watcher of a run, which holds the lock that says so from now on. It is no part of the worker: what kills
/// that one alone leaves it.
pub(super) fn start(run: &RunDirectory) -> io::Result<()> {
    let watched = run.hold_watched()?;
    Command::new(format!("/proc/{}/exe", std::process::id()))
        .arg("agent-watcher")
        .arg(run.path())
        .env_clear()
        .env("PATH", STANDARD_PATH)
        .current_dir("/")
        // The lock: it is held until the watcher ends.
        .stdin(watched)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}

/// Waits for the end of a run's worker. Where that did not end its journal, removes what the run has left and ends the
/// journal in its place: who attaches is told so then.
pub(crate) fn watcher(directory: PathBuf) -> io::Result<()> {
    let run = RunDirectory::at(directory);
    // A signal to the worker's session is not for it. It fails where the session is its own already.
    let _ = setsid();
    // The worker ends for these in its own way, and this one after it.
    for ignored in [SIGINT, SIGHUP, SIGTERM] {
        signal_hook::flag::register(ignored, Arc::new(AtomicBool::new(false)))?;
    }
    let _instead = run.hold_alive()?;
    let Some(mut journal) = JournalWriter::resume(&run)? else { return Ok(()) };
    let swept = sweep(&run);
    journal.write(RunEvent::Failed { error: why(&run, swept.err().as_ref()) })?;
    journal.write(RunEvent::Ended { ended: Ended { failed: true, ..Ended::default() } })
}

/// Removes what belongs to a run whose worker is gone: the tests' folders with the sockets in them, what its resources have
/// not finished, and what came with the order and was not taken.
fn sweep(run: &RunDirectory) -> io::Result<()> {
    let until = Instant::now() + SWEEP;
    loop {
        let runs = toril_runner::sweep(Path::new(toril_runner::STATE));
        let swept = runs.and(toril_provisioner::sweep_unfinished(&Machine::this()));
        if swept.is_ok() || Instant::now() > until {
            for left in [run.source(), run.input()] {
                let _ = fs::remove_file(left);
            }
            return swept;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn why(run: &RunDirectory, left: Option<&io::Error>) -> String {
    let said = fs::read_to_string(run.stderr()).unwrap_or_default();
    let said = if said.trim().is_empty() { "it was killed" } else { said.trim() };
    let left = match left {
        None => String::new(),
        Some(error) => format!("; what it left could not be removed: {error}"),
    };
    format!("the agent's worker died before the run ended: {said}{left}; give the same command again")
}
