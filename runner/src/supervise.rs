use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::isolation::{Cell, Report};
use crate::verdict::{Cut, Ending, Exit};

/// A stream of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
    /// QEMU's monitor.
    Monitor,
}

/// Who is told what a test prints, and may want it ended.
pub(crate) trait Observer {
    /// A piece of a stream.
    fn take(&mut self, stream: Stream, bytes: &[u8]);

    /// Why the test is to be ended, and how much longer it may run to say more.
    fn cut(&self) -> Option<(Cut, Duration)>;
}

/// How a test ended, as the supervisor saw it.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub ending: Ending,
    pub elapsed: Duration,
    /// The program's arguments as they were; empty where it did not start.
    pub argv: Vec<String>,
}

/// How often the stop flag is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How long output may still come after the end: the kernel closes it when the last process is dead.
const DRAIN: Duration = Duration::from_secs(2);

/// Watches a test until it is over: hands its output on as it comes, and ends it at its deadline, when the observer
/// wants it, or when the run is stopped. Nothing of it is left when this returns.
pub(crate) fn supervise(
    mut cell: Cell,
    mut monitor: Option<UnixStream>,
    start: Instant,
    deadline: Duration,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Supervised {
    let mut state = State::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let now = Instant::now();
        if state.ending.is_none() {
            state.consider_ending(now, start, deadline, stop, observer);
        }
        if state.ending.is_some() && state.drain_until.is_none() {
            cell.end();
            state.drain_until = Some(now + DRAIN);
        }
        let streams_open = cell.stdout.is_some() || cell.stderr.is_some();
        if state.drain_until.is_some_and(|until| !streams_open || now >= until) {
            break;
        }
        let ready = ready(&cell, monitor.as_ref(), state.patience(now, start, deadline));
        if ready.stdout {
            read(&mut cell.stdout, &mut buffer, |bytes| observer.take(Stream::Stdout, bytes));
        }
        if ready.stderr {
            read(&mut cell.stderr, &mut buffer, |bytes| observer.take(Stream::Stderr, bytes));
        }
        if ready.monitor {
            read(&mut monitor, &mut buffer, |bytes| observer.take(Stream::Monitor, bytes));
        }
        if ready.control {
            let reports = cell.reports();
            state.note(reports, cell.control().is_none());
        }
    }
    drain(&mut monitor, &mut buffer, observer);
    let ending = state.ending.unwrap_or(Ending::NotStarted("its end was not seen".into()));
    let elapsed = start.elapsed();
    let ending = if cell.wait() { ending } else { Ending::NotStarted("its processes would not end".into()) };
    Supervised { ending, elapsed, argv: state.argv.unwrap_or_default() }
}

#[derive(Default)]
struct State {
    argv: Option<Vec<String>>,
    ending: Option<Ending>,
    /// Why the observer wants it ended, and when.
    cut: Option<(Cut, Instant)>,
    drain_until: Option<Instant>,
}

impl State {
    fn consider_ending(
        &mut self,
        now: Instant,
        start: Instant,
        deadline: Duration,
        stop: &AtomicBool,
        observer: &dyn Observer,
    ) {
        if self.cut.is_none() {
            self.cut = observer.cut().map(|(cut, grace)| (cut, now + grace));
        }
        self.ending = match self.cut {
            _ if stop.load(Ordering::Relaxed) => Some(Ending::Cut(Cut::Stopped)),
            Some((cut, at)) if now >= at => Some(Ending::Cut(cut)),
            _ if now.duration_since(start) >= deadline => Some(Ending::Cut(Cut::Deadline(deadline))),
            _ => None,
        };
    }

    /// How long to wait for anything to happen.
    fn patience(&self, now: Instant, start: Instant, deadline: Duration) -> Duration {
        let next = match (self.drain_until, self.cut) {
            (Some(until), _) => until,
            (None, Some((_, at))) => at.min(start + deadline),
            (None, None) => start + deadline,
        };
        next.saturating_duration_since(now).min(TICK)
    }

    fn note(&mut self, reports: Vec<Report>, closed: bool) {
        for report in reports {
            let ending = match report {
                Report::Started { argv } => {
                    self.argv = Some(argv);
                    continue;
                }
                Report::NotStarted { why } => Ending::NotStarted(why),
                Report::Ended { signal: Some(signal), .. } => Ending::Exited(Exit::Signal(signal)),
                Report::Ended { code: Some(code), .. } => Ending::Exited(Exit::Code(code)),
                Report::Ended { .. } => Ending::NotStarted("its end could not be learnt".into()),
            };
            self.ending.get_or_insert(ending);
        }
        if closed {
            let why = if self.argv.is_some() {
                "the first process of its namespace was killed"
            } else {
                "its process namespace could not be made"
            };
            self.ending.get_or_insert(Ending::NotStarted(why.into()));
        }
    }
}

#[derive(Default)]
struct Ready {
    control: bool,
    stdout: bool,
    stderr: bool,
    monitor: bool,
}

fn ready(cell: &Cell, monitor: Option<&UnixStream>, patience: Duration) -> Ready {
    let sources: [Option<BorrowedFd<'_>>; 4] = [
        cell.control(),
        cell.stdout.as_ref().map(AsFd::as_fd),
        cell.stderr.as_ref().map(AsFd::as_fd),
        monitor.map(AsFd::as_fd),
    ];
    let mut polled: Vec<PollFd<'_>> =
        sources.iter().flatten().map(|file| PollFd::from_borrowed_fd(*file, PollFlags::IN)).collect();
    // Not less than asked for, or the last microseconds would be spent in a loop.
    let patience = patience + Duration::from_micros(1);
    let Ok(timeout) = Timespec::try_from(patience) else { return Ready::default() };
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ready::default(),
        // Not to be expected; without a pause it would be a busy loop.
        Err(_) => {
            std::thread::sleep(Duration::from_millis(1));
            return Ready::default();
        }
    }
    let mut answers = polled.iter().map(|file| !file.revents().is_empty());
    let mut answer = |source: &Option<BorrowedFd<'_>>| source.is_some() && answers.next().unwrap_or(false);
    Ready {
        control: answer(&sources[0]),
        stdout: answer(&sources[1]),
        stderr: answer(&sources[2]),
        monitor: answer(&sources[3]),
    }
}

/// Reads once from a source that is ready, and forgets it at its end.
fn read(source: &mut Option<impl Read>, buffer: &mut [u8], take: impl FnOnce(&[u8])) {
    match source.as_mut().map(|source| source.read(buffer)) {
        Some(Ok(count @ 1..)) => take(&buffer[..count]),
        Some(Err(error)) if matches!(error.kind(), std::io::ErrorKind::Interrupted) => {}
        _ => *source = None,
    }
}

/// Takes what the monitor said last: unlike the pipes it was not waited for.
fn drain(monitor: &mut Option<UnixStream>, buffer: &mut [u8], observer: &mut dyn Observer) {
    if monitor.as_ref().is_some_and(|monitor| monitor.set_nonblocking(true).is_err()) {
        return;
    }
    while monitor.is_some() {
        read(monitor, buffer, |bytes| observer.take(Stream::Monitor, bytes));
    }
}
