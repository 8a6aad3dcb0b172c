//! Waiting for a child while its output is read: each piece, and the end, are heard of when they come.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdin, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// So many bytes a pipe takes without blocking, once it takes any: PIPE_BUF of pipe(7).
const PIPE_ROOM: usize = 4096;
/// What a child started may hold the pipes open for ever: the output counts up to this long after the child's end.
const GRACE: Duration = Duration::from_millis(500);
/// How often a kernel without pidfds is asked whether the child has ended.
const PAUSES: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(10)];
/// How often it is asked whether the child is to be ended, where it may be.
const ASKED: Duration = Duration::from_millis(50);

/// Asks whether a child is to be ended, where it may be.
pub(super) type Stopped<'s> = Option<&'s dyn Fn() -> bool>;

/// What came of a child.
pub(super) struct Attended {
    /// Nothing: it had not ended in time, or is to be ended.
    pub(super) status: Option<ExitStatus>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// Whether there was more of either.
    pub(super) truncated: bool,
}

/// Gives a child its input, and reads of each output up to `limit` bytes, until it has ended, its time is up, or it
/// is to be `stopped`.
pub(super) fn attend(
    child: &mut Child,
    input: &[u8],
    limit: usize,
    until: Instant,
    stopped: Stopped<'_>,
) -> io::Result<Attended> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // Debian 10's kernel has none: Linux 5.3 was the first.
    let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    attend_by(pidfd, child, input, limit, until, stopped)
}

fn attend_by(
    pidfd: Option<OwnedFd>,
    child: &mut Child,
    input: &[u8],
    limit: usize,
    mut until: Instant,
    stopped: Stopped<'_>,
) -> io::Result<Attended> {
    let mut stdin = Input { pipe: child.stdin.take(), rest: input };
    let mut stdout = Output { pipe: child.stdout.take(), kept: Vec::new(), limit, truncated: false };
    let mut stderr = Output { pipe: child.stderr.take(), kept: Vec::new(), limit, truncated: false };
    let mut pause = PAUSES[0];
    let mut status = None;
    loop {
        if status.is_none() {
            status = child.try_wait()?;
            if status.is_some() {
                until = Instant::now() + GRACE;
            }
        }
        let is_read = stdout.pipe.is_none() && stderr.pipe.is_none();
        let left = until.saturating_duration_since(Instant::now());
        let is_stopped = status.is_none() && stopped.is_some_and(|stopped| stopped());
        if status.is_some() && is_read || left.is_zero() || is_stopped {
            break;
        }
        let left = if stopped.is_some() { left.min(ASKED) } else { left };
        let pidfd = pidfd.as_ref().filter(|_| status.is_none());
        let most = if status.is_none() && pidfd.is_none() { left.min(pause) } else { left };
        let ready = wait(&stdin, &stdout, &stderr, pidfd, most)?;
        pause = (pause * 2).min(PAUSES[1]);
        if ready[0] {
            stdin.give();
        }
        // An output that is closed tells that the end is near.
        if ready[1] && !stdout.take() || ready[2] && !stderr.take() {
            pause = PAUSES[0];
        }
    }
    let truncated = stdout.is_cut() || stderr.is_cut();
    Ok(Attended { status, stdout: stdout.kept, stderr: stderr.kept, truncated })
}

/// Waits until something can be done, and says of input and outputs whether it is with them.
fn wait(
    stdin: &Input<'_>,
    stdout: &Output<impl AsFd>,
    stderr: &Output<impl AsFd>,
    pidfd: Option<&OwnedFd>,
    most: Duration,
) -> io::Result<[bool; 3]> {
    let pipes = [
        stdin.pipe.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::OUT)),
        stdout.pipe.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::IN)),
        stderr.pipe.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::IN)),
    ];
    let pidfd = pidfd.map(|pidfd| (pidfd.as_fd(), PollFlags::IN));
    let watched = pipes.iter().flatten().chain(&pidfd);
    let mut watched: Vec<PollFd<'_>> =
        watched.map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    let most = Timespec::try_from(most).map_err(io::Error::other)?;
    match poll(&mut watched, Some(&most)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut watched = watched.iter();
    Ok(pipes.map(|pipe| pipe.and_then(|_| watched.next()).is_some_and(|fd| !fd.revents().is_empty())))
}

struct Input<'i> {
    pipe: Option<ChildStdin>,
    rest: &'i [u8],
}

impl Input<'_> {
    fn give(&mut self) {
        let (piece, _) = self.rest.split_at(self.rest.len().min(PIPE_ROOM));
        match self.pipe.as_mut().map(|pipe| pipe.write(piece)) {
            Some(Ok(count)) => self.rest = self.rest.get(count..).unwrap_or_default(),
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => return,
            // A program that does not read its input is no failure.
            Some(Err(_)) | None => self.rest = &[],
        }
        if self.rest.is_empty() {
            self.pipe = None;
        }
    }
}

struct Output<P> {
    /// Nothing once its end was read.
    pipe: Option<P>,
    kept: Vec<u8>,
    limit: usize,
    truncated: bool,
}

impl<P: Read> Output<P> {
    /// Reads what is there; what is beyond the limit is dropped, so that the program never blocks. Whether more may come.
    fn take(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.pipe.as_mut().map(|pipe| pipe.read(&mut buffer)) {
            Some(Ok(count @ 1..)) => {
                let room = self.limit.saturating_sub(self.kept.len()).min(count);
                self.kept.extend_from_slice(&buffer[..room]);
                self.truncated |= room < count;
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Some(Ok(0) | Err(_)) | None => self.pipe = None,
        }
        self.pipe.is_some()
    }

    fn is_cut(&self) -> bool {
        self.truncated || self.pipe.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Before the end of what is there for longer, and without a hurry.
    const SOON: Duration = Duration::from_secs(30);

    fn attended(script: &str, input: &[u8], has_pidfd: bool) -> (Attended, Duration) {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let start = Instant::now();
        let until = start + Duration::from_secs(120);
        let attended = match has_pidfd {
            true => attend(&mut child, input, 1 << 20, until, None),
            false => attend_by(None, &mut child, input, 1 << 20, until, None),
        };
        (attended.unwrap(), start.elapsed())
    }

    #[test]
    fn input_output_and_end_with_and_without_pidfds() {
        let input = vec![b'x'; 300_000];
        for has_pidfd in [true, false] {
            let (attended, _) = attended("cat; echo end >&2; exit 3", &input, has_pidfd);
            assert_eq!(attended.status.unwrap().code(), Some(3));
            assert!(attended.stdout == input && attended.stderr == b"end\n" && !attended.truncated);
        }
    }

    #[test]
    fn a_program_need_not_read_its_input() {
        for has_pidfd in [true, false] {
            let (attended, _) = attended("exec <&-; echo done", &[0; 300_000], has_pidfd);
            assert_eq!(attended.stdout, b"done\n");
        }
    }

    #[test]
    fn the_end_is_heard_of_though_the_outputs_were_closed_before_or_stay_open() {
        for has_pidfd in [true, false] {
            let (closed, took) = attended("exec >&- 2>&-; sleep 0.3", &[], has_pidfd);
            assert!(closed.status.unwrap().success() && took < SOON, "{took:?}");
            let (open, took) = attended("echo said; sleep 60 & exit 0", &[], has_pidfd);
            assert!(open.status.unwrap().success() && open.truncated);
            assert_eq!(open.stdout, b"said\n");
            assert!(took < SOON, "{took:?}");
        }
    }
}
