use std::ffi::OsString;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use toril_machine::STANDARD_PATH;

use super::message::MOST_FILES;
use super::{Report, Spec};

/// A namespace with a test in it.
#[derive(Debug)]
pub(crate) struct Cell {
    unshare: Child,
    control: Option<UnixStream>,
    unread: Vec<u8>,
    /// The test's standard output; ends when every process in the namespace has.
    pub stdout: Option<ChildStdout>,
    /// The test's standard error; the same.
    pub stderr: Option<ChildStderr>,
}

/// A namespace could not be made, or would not end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IsolationError {
    #[error("cannot start `unshare` (package util-linux), which isolates tests: {0}")]
    Unshare(io::Error),
    #[error("cannot hand a test to its namespace: {0}")]
    Control(io::Error),
}

/// How long the kernel may take to end a namespace's processes; one in the middle of a device's work takes long.
const TEARDOWN: Duration = Duration::from_secs(10);

impl Cell {
    /// Makes a namespace and starts a program in it. `isolate` is the command line that gets to [`super::isolate`].
    pub(crate) fn start(
        isolate: &[OsString],
        spec: &Spec,
        files: &[BorrowedFd<'_>],
    ) -> Result<Cell, IsolationError> {
        let (ours, theirs) = UnixStream::pair().map_err(IsolationError::Control)?;
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child=KILL", "--"])
            .args(isolate)
            .env_clear()
            .env("PATH", STANDARD_PATH)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C on the terminal is for the runner, which ends tests in its own way.
            .process_group(0);
        let mut unshare = command.spawn().map_err(IsolationError::Unshare)?;
        // It holds their side of the socket, whose closing must be noticed.
        drop(command);
        let (stdout, stderr) = (unshare.stdout.take(), unshare.stderr.take());
        match hand_over(&ours, spec, files) {
            Ok(()) => {}
            // It has ended already; its end says more than this error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => {
                drop(ours);
                let _ = unshare.wait();
                return Err(IsolationError::Control(error));
            }
        }
        Ok(Cell { unshare, control: Some(ours), unread: Vec::new(), stdout, stderr })
    }

    /// The control socket, to wait on, until it is closed.
    pub(crate) fn control(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_ref().map(AsFd::as_fd)
    }

    /// Reads what the first process has to tell; nothing more comes once [`Cell::control`] is gone.
    pub(crate) fn reports(&mut self) -> Vec<Report> {
        let mut buffer = [0; 4096];
        match self.control.as_mut().map(|control| control.read(&mut buffer)) {
            Some(Ok(count @ 1..)) => self.unread.extend_from_slice(&buffer[..count]),
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => self.end(),
        }
        let mut reports = Vec::new();
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            reports.extend(serde_json::from_slice::<Report>(&line));
        }
        reports
    }

    /// Has everything in the namespace killed; to be followed by [`Cell::wait`].
    pub(crate) fn end(&mut self) {
        self.control = None;
    }

    /// Waits until nothing of the namespace is left; `false` where something would not end.
    pub(crate) fn wait(mut self) -> bool {
        self.end();
        let until = Instant::now() + TEARDOWN;
        let mut pause = Duration::from_micros(100);
        // Without pidfds, which Debian 10's kernel does not have.
        while Instant::now() < until {
            match self.unshare.try_wait() {
                Ok(None) => thread::sleep(pause),
                Ok(Some(_)) => return true,
                Err(_) => return false,
            }
            pause = (pause * 2).min(Duration::from_millis(5));
        }
        false
    }
}

fn hand_over(mut control: &UnixStream, spec: &Spec, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many files"));
    }
    sendmsg(control, &[IoSlice::new(b"F")], &mut ancillary, SendFlags::NOSIGNAL)?;
    let mut line = serde_json::to_vec(spec)?;
    line.push(b'\n');
    control.write_all(&line)
}
