use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::Error;

/// A process of this machine that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub pid: u32,
    /// In clock ticks since boot.
    start: u64,
    boot: String,
}

impl Process {
    /// `None` if it is gone, or only waits to be buried by its parent.
    pub fn of(pid: u32) -> Result<Option<Process>, Error> {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        let stat = match fs::read_to_string(&path) {
            Ok(stat) => stat,
            // ESRCH: it ended between opening and reading.
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_gone(&error) => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let Some((state, start)) = state_and_start(&stat) else {
            return Err(Error::Corrupt { path, problem: format!("unexpected text {stat:?}") });
        };
        if matches!(state, 'Z' | 'X') {
            return Ok(None);
        }
        let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
        let boot = fs::read_to_string(&path).map_err(Error::io("read", &path))?.trim().to_owned();
        Ok(Some(Process { pid, start, boot }))
    }

    pub fn is_alive(&self) -> Result<bool, Error> {
        Ok(Process::of(self.pid)?.as_ref() == Some(self))
    }

    /// Kills it and waits for its end, which for the first process of a PID namespace is the end of all in there.
    /// `false` if it is still there after `limit`.
    pub fn kill(&self, limit: Duration) -> Result<bool, Error> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(true) };
        let what = format!("process {}", self.pid);
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(true),
            Err(errno) => return Err(Error::sys(format!("open {what}"))(errno)),
        };
        // Looked at only now: from here on the descriptor and the number mean the same process.
        if !self.is_alive()? {
            return Ok(true);
        }
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(Error::sys(format!("kill {what}"))(errno)),
        }
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout =
                Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::sys(format!("wait for {what}"))(errno)),
            }
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Fields 3 and 22; the second one is a program's name in parentheses that may have anything in it.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn reads_stat_with_any_program_name() {
        let stat = "7 (a) R (b) ) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 2 3";
        assert_eq!(state_and_start(stat), Some(('S', 4711)));
        for bad in ["", "7 (a", "7 (a) S", "7 (a) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 x"] {
            assert_eq!(state_and_start(bad), None, "{bad}");
        }
    }

    #[test]
    fn kills_the_process_itself_and_never_another_with_its_number() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap().unwrap();
        let other = Process { start: process.start + 1, ..process.clone() };
        assert!(other.kill(Duration::from_secs(5)).unwrap());
        assert!(process.is_alive().unwrap());
        assert!(process.kill(Duration::from_secs(5)).unwrap());
        // A zombie until the parent has looked, and no longer alive.
        assert!(!process.is_alive().unwrap());
        child.wait().unwrap();
        assert!(process.kill(Duration::from_secs(5)).unwrap());
    }
}
