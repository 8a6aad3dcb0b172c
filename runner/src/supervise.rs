use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::isolation::{Cell, Report, Spec};
use crate::suite::Companion;
use crate::verdict::{Cut, Ending, Exit};

mod sources;

use sources::{Source, drain, ready};

/// A process of a test, in a cell of its own. The first of a test is what is tested; the others end with it.
#[derive(Debug)]
pub(crate) struct Member {
    pub part: Part,
    pub spec: Spec,
    /// Those that the spec counts.
    pub files: Vec<OwnedFd>,
    /// What must be seen before it is started.
    pub waits: Vec<Sign>,
}

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It is tested: its end is the test's.
    Subject,
    /// The guest needs it as long as it runs.
    Support,
    /// The other side of what is tested; its exit status counts.
    Companion {
        /// How long it may take to end of its own accord after the guest; nothing where its end is waited for.
        leaves: Option<Duration>,
    },
}

/// What a start may wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The observer's pattern of this number was found in what was printed.
    Pattern(usize),
    /// Somebody has made a socket.
    Socket(PathBuf),
    /// The guest runs.
    Resumed,
}

/// A stream of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output of the first process; for guests, the first serial port.
    Stdout,
    /// Its standard error.
    Stderr,
    /// QEMU's monitor.
    Monitor,
    /// The guest's console of this number.
    Console(usize),
    /// What another process prints; its number among the members.
    Helper(usize),
}

/// Who is told what a test prints, and may want it ended.
pub(crate) trait Observer {
    /// A piece of a stream.
    fn take(&mut self, stream: Stream, bytes: &[u8]);

    /// What is tested is started now.
    fn begun(&mut self) {}

    /// Why the test is to be ended, and how much longer it may run to say more.
    fn cut(&self) -> Option<(Cut, Duration)>;

    /// What QEMU is to be asked of a test that is to be ended for this, through its monitor, and how long the answers
    /// may take; nothing where there is nothing to ask.
    fn questions(&mut self, cut: Cut) -> Option<(Vec<u8>, Duration)>;

    /// Whether nothing more is to come of the questions.
    fn has_answers(&self) -> bool;

    /// Whether a sign that is read from the streams was there.
    fn has_seen(&self, sign: &Sign) -> bool;
}

/// How a test ended, as the supervisor saw it.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub ending: Ending,
    pub elapsed: Duration,
    /// What became of each member.
    pub members: Vec<MemberEnd>,
}

/// What became of a process.
#[derive(Debug, Default)]
pub(crate) struct MemberEnd {
    /// Its arguments as they were; empty where it did not start.
    pub argv: Vec<String>,
    /// How it ended before the test was over; nothing where it still ran, or was never begun.
    pub ending: Option<Ending>,
    /// Why it had no real-time priority, where it was to have one.
    pub not_realtime: Option<String>,
}

/// How often the stop flag is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How often sockets are looked for that something waits for.
const SOCKET_TICK: Duration = Duration::from_millis(2);

/// How long output may still come after the end: the kernel closes it when the last process is dead.
const DRAIN: Duration = Duration::from_secs(2);

/// How long the guest may run on without a process that it needs, to end by itself or to say more.
const AFTER_SUPPORT: Duration = Duration::from_millis(500);

/// The same after a companion that failed.
const AFTER_COMPANION: Duration = Duration::from_millis(300);

/// How long the others may take to tell why QEMU could not start the guest.
const AFTER_FALSE_START: Duration = Duration::from_millis(150);

/// Watches a test until it is over: hands its output on as it comes, and ends it at its deadline, when the observer
/// wants it, or when the run is stopped. Nothing of it is left when this returns.
pub(crate) fn supervise(
    isolate: &[OsString],
    members: Vec<Member>,
    channels: Vec<(Stream, File)>,
    start: Instant,
    deadline: Duration,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Supervised {
    let mut cast = Cast {
        isolate,
        actors: members.into_iter().map(Actor::new).collect(),
        channels: channels.into_iter().map(|(stream, socket)| (stream, Some(socket))).collect(),
    };
    let mut state =
        State { until: start + deadline, deadline, ending: None, cut: None, phase: Phase::Running };
    let mut buffer = vec![0; 64 << 10];
    loop {
        let now = Instant::now();
        state.proceed(now, &mut cast, stop, observer);
        if let Phase::Draining(until) = state.phase
            && (now >= until || !cast.prints())
        {
            break;
        }
        let patience = state.patience(now, &cast);
        // What helpers have to say comes first: the end of one may be why QEMU ended.
        for source in ready(&cast, patience) {
            match source {
                Source::Output(pipe) => cast.read(pipe, &mut buffer, observer),
                Source::Control(index) => cast.actors[index].reports(),
            }
        }
    }
    for (stream, socket) in &mut cast.channels {
        drain(socket, &mut buffer, |bytes| observer.take(*stream, bytes));
    }
    let elapsed = start.elapsed();
    let ending = state.ending.unwrap_or(Ending::NotStarted("its end was not seen".into()));
    let (members, all_gone) = cast.leave();
    let ending = if all_gone { ending } else { Ending::NotStarted("its processes would not end".into()) };
    Supervised { ending, elapsed, members }
}

/// The processes of a test and what they are read through.
struct Cast<'i> {
    isolate: &'i [OsString],
    actors: Vec<Actor>,
    channels: Vec<(Stream, Option<File>)>,
}

/// A process, before and after its start.
struct Actor {
    part: Part,
    waiting: Option<Member>,
    cell: Option<Cell>,
    end: MemberEnd,
    /// Whether it outlived the test: what an NMI, or the end, does to it is nobody's fault.
    outlived: bool,
}

impl Actor {
    fn new(member: Member) -> Actor {
        let part = member.part;
        Actor { part, waiting: Some(member), cell: None, end: MemberEnd::default(), outlived: false }
    }

    fn is_running(&self) -> bool {
        self.cell.is_some() && self.end.ending.is_none()
    }

    fn start(&mut self, isolate: &[OsString]) {
        let Some(Member { spec, files, .. }) = self.waiting.take() else { return };
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        match Cell::start(isolate, &spec, &borrowed) {
            Ok(cell) => self.cell = Some(cell),
            Err(error) => self.end.ending = Some(Ending::NotStarted(error.to_string())),
        }
        // Our copies of the files are closed here: else the ends of their other sides would not be seen.
    }

    /// Takes what the first process of the namespace has to tell.
    fn reports(&mut self) {
        let Some(cell) = &mut self.cell else { return };
        for report in cell.reports() {
            let ending = match report {
                Report::Started { argv, not_realtime } => {
                    (self.end.argv, self.end.not_realtime) = (argv, not_realtime);
                    continue;
                }
                Report::NotStarted { why } => Ending::NotStarted(why),
                Report::Ended { signal: Some(signal), .. } => Ending::Exited(Exit::Signal(signal)),
                Report::Ended { code: Some(code), .. } => Ending::Exited(Exit::Code(code)),
                Report::Ended { .. } => Ending::NotStarted("its end could not be learnt".into()),
            };
            self.end.ending.get_or_insert(ending);
        }
        if cell.control().is_none() {
            let why = if self.end.argv.is_empty() {
                "its process namespace could not be made"
            } else {
                "the first process of its namespace was killed"
            };
            self.end.ending.get_or_insert(Ending::NotStarted(why.into()));
        }
    }
}

impl Cast<'_> {
    fn start_those_that_may(&mut self, observer: &mut dyn Observer) {
        for (index, actor) in self.actors.iter_mut().enumerate() {
            let is_there = |sign: &Sign| match sign {
                Sign::Socket(path) => path.exists(),
                other => observer.has_seen(other),
            };
            if actor.waiting.as_ref().is_some_and(|member| member.waits.iter().all(is_there)) {
                if index == 0 {
                    observer.begun();
                }
                actor.start(self.isolate);
            }
        }
    }

    /// Sends something to QEMU's monitor; `false` where that cannot be.
    fn ask(&mut self, text: &[u8]) -> bool {
        let mut channels = self.channels.iter_mut();
        let monitor = channels.find(|(stream, _)| *stream == Stream::Monitor);
        // It is short, and fits into the socket though nobody may read it.
        monitor.and_then(|(_, socket)| socket.as_mut()).is_some_and(|socket| socket.write_all(text).is_ok())
    }

    fn waits_for_sockets(&self) -> bool {
        let waits = self.actors.iter().filter_map(|actor| actor.waiting.as_ref());
        waits.flat_map(|member| &member.waits).any(|sign| matches!(sign, Sign::Socket(_)))
    }

    /// Whether something may still come from one of the processes.
    fn prints(&self) -> bool {
        let cells = self.actors.iter().filter_map(|actor| actor.cell.as_ref());
        cells.into_iter().any(|cell| cell.stdout.is_some() || cell.stderr.is_some())
    }

    fn end(&mut self) {
        self.actors.iter_mut().filter_map(|actor| actor.cell.as_mut()).for_each(Cell::end);
    }

    /// Waits until nothing is left of any of them; `false` where something would not end.
    fn leave(self) -> (Vec<MemberEnd>, bool) {
        let mut all_gone = true;
        let ends = self.actors.into_iter().map(|actor| {
            all_gone &= actor.cell.is_none_or(Cell::wait);
            MemberEnd { ending: actor.end.ending.filter(|_| !actor.outlived), ..actor.end }
        });
        (ends.collect(), all_gone)
    }
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// It is to be ended, and QEMU is asked why it did not end before.
    Asking(Instant),
    /// It has ended; others may still end of their own accord.
    Settling(Instant),
    /// Everything is being ended.
    Draining(Instant),
}

struct State {
    until: Instant,
    deadline: Duration,
    ending: Option<Ending>,
    /// Why it is to be ended, and when.
    cut: Option<(Cut, Instant)>,
    phase: Phase,
}

impl State {
    fn proceed(&mut self, now: Instant, cast: &mut Cast<'_>, stop: &AtomicBool, observer: &mut dyn Observer) {
        if self.phase == Phase::Running {
            cast.start_those_that_may(observer);
            self.consider_ending(now, cast, stop, observer);
            if let Some(ending) = &self.ending {
                let questions = match ending {
                    Ending::Cut(cut) => observer.questions(*cut),
                    Ending::Exited(_) | Ending::NotStarted(_) => None,
                };
                self.phase = match questions.filter(|(text, _)| cast.ask(text)) {
                    Some((_, patience)) => {
                        let helpers = cast.actors.iter_mut().skip(1);
                        helpers.for_each(|helper| helper.outlived = helper.end.ending.is_none());
                        Phase::Asking(now + patience)
                    }
                    None => Phase::Settling(self.settled_at(now, cast, observer)),
                };
            }
        }
        if let Phase::Asking(until) = self.phase {
            let is_over = cast.actors.first().is_none_or(|subject| subject.end.ending.is_some());
            if now >= until || is_over || observer.has_answers() || stop.load(Ordering::Relaxed) {
                self.phase = Phase::Settling(now);
            }
        }
        if let Phase::Settling(until) = self.phase {
            let stopped = stop.load(Ordering::Relaxed);
            // Where nobody is left to be waited for, that is now.
            let until = until.min(self.settled_at(now, cast, observer));
            if now >= until || stopped {
                cast.end();
                self.phase = Phase::Draining(now + DRAIN);
            }
        }
    }

    fn consider_ending(&mut self, now: Instant, cast: &Cast<'_>, stop: &AtomicBool, observer: &dyn Observer) {
        if let Some(ending) = cast.actors.first().and_then(|subject| subject.end.ending.as_ref()) {
            self.ending = Some(ending.clone());
            return;
        }
        if self.cut.is_none() {
            self.cut = observer.cut().or_else(|| lost(cast)).map(|(cut, grace)| (cut, now + grace));
        }
        self.ending = match self.cut {
            _ if stop.load(Ordering::Relaxed) => Some(Ending::Cut(Cut::Stopped)),
            Some((cut, at)) if now >= at => Some(Ending::Cut(cut)),
            _ if now >= self.until => Some(Ending::Cut(Cut::Deadline(self.deadline))),
            _ => None,
        };
    }

    /// Until when the others are left to themselves after the end.
    fn settled_at(&self, now: Instant, cast: &Cast<'_>, observer: &dyn Observer) -> Instant {
        let Some(Ending::Exited(_)) = self.ending else { return now };
        let started = observer.has_seen(&Sign::Resumed);
        let waits =
            cast.actors.iter().skip(1).filter(|actor| actor.is_running()).map(|actor| match actor.part {
                Part::Companion { leaves: None } => self.until,
                // A little at the deadline too.
                Part::Companion { leaves: Some(wait) } => {
                    (now + wait).min(self.until.max(now + Companion::LEAVES))
                }
                _ if !started => now + AFTER_FALSE_START,
                _ => now,
            });
        waits.max().unwrap_or(now)
    }

    /// How long to wait for anything to happen.
    fn patience(&self, now: Instant, cast: &Cast<'_>) -> Duration {
        let next = match (self.phase, self.cut) {
            (Phase::Asking(until) | Phase::Settling(until) | Phase::Draining(until), _) => until,
            (Phase::Running, Some((_, at))) => at.min(self.until),
            (Phase::Running, None) => self.until,
        };
        let tick = if cast.waits_for_sockets() { SOCKET_TICK } else { TICK };
        next.saturating_duration_since(now).min(tick)
    }
}

/// Why there is no point in going on without one of the others, if there is not.
fn lost(cast: &Cast<'_>) -> Option<(Cut, Duration)> {
    let begun = cast.actors.first().is_some_and(|subject| subject.waiting.is_none());
    cast.actors.iter().skip(1).find_map(|actor| match (actor.part, actor.end.ending.as_ref()?) {
        (Part::Companion { .. }, Ending::Exited(Exit::Code(0))) if begun => None,
        (Part::Companion { .. }, _) => Some((Cut::Companion, AFTER_COMPANION)),
        _ => Some((Cut::Support, AFTER_SUPPORT)),
    })
}
