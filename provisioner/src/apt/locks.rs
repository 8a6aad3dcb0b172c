use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use toril_machine::{Probe, record_lock_holder};

use crate::resource::ResourceError;

/// The locks that apt and dpkg take, all of them fcntl locks: `flock` succeeds while they are held.
const LOCKS: [&str; 4] = [
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
];

/// How long to wait for others. First boot holds the locks for minutes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Waits until nobody else is at work on packages, saying who is. apt before 1.9.11 does not wait by itself, and
/// later ones not for the lists. Gives up when `stop` becomes true.
pub(super) fn wait(stop: &AtomicBool, log: &mut dyn FnMut(&str)) -> Result<(), ResourceError> {
    let start = Instant::now();
    loop {
        let mut held = None;
        for lock in LOCKS {
            match record_lock_holder(Path::new(lock)) {
                Probe::Known(pid) => held = held.or(Some((lock, pid))),
                Probe::Absent => {}
                Probe::Unreadable(reason) => return Err(ResourceError(reason)),
            }
        }
        let Some((lock, pid)) = held else { return Ok(()) };
        let waited = start.elapsed().as_secs();
        let who = describe(pid);
        if stop.load(Ordering::Relaxed) {
            return Err(ResourceError(format!(
                "the run was stopped while it waited for {lock}, held by {who}"
            )));
        }
        if start.elapsed() > PATIENCE {
            return Err(ResourceError(format!(
                "{who} has held {lock} for over {waited} s; look at what it is doing, and run this again when it has ended"
            )));
        }
        log(&format!("waiting for {lock}: held by {who}, {waited} s of {} s", PATIENCE.as_secs()));
        thread::sleep(Duration::from_secs(1));
    }
}

/// Waits until nobody is at work on this machine's packages, telling who is. Machines without apt have nobody.
///
/// # Errors
/// They were at it for too long, `stop` became true, or it could not be looked at; says which.
pub fn wait_for_packages(stop: &AtomicBool, log: &mut dyn FnMut(&str)) -> Result<(), String> {
    wait(stop, log).map_err(|error| error.to_string())
}

fn describe(pid: u32) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = command
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    match words.is_empty() {
        true => format!("pid {pid}"),
        false => format!("`{}` (pid {pid})", words.join(" ")),
    }
}
