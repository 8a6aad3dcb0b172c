use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::setsid;
use toril_archive::{Parcel, everything, pack};
use toril_machine::{Facts, Fingerprint, Machine, STANDARD_PATH};
use toril_provisioner::{Bundle, Check, Depth, Finding, HostInfo, LockedHost, Plan, Recipe, Traces};
use toril_runner::{kept_folders, remove_kept_folders};
use toril_transport::{BLOB_PIECE, FrameError, FrameReader, FrameWriter, Incoming, handshake_agent};

use super::attachments::{Attachments, ReceiveError};
use super::journal::{BEGINNING, FollowError, follow, prepare};
use super::large::{self, SendError};
use super::pulse::Pulse;
use super::run_directory::RunDirectory;
use super::steer::{feed, stop};
use super::uninstall::{footprint, uninstall};
use super::{Entry, Order, Report, Request};

/// Why the front of the agent ended before its client said so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrontError {
    #[error("{0}")]
    Handshake(#[from] toril_transport::HandshakeError),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves one client on standard input and output. A client that goes away ends this and no run.
pub(crate) fn front() -> Result<(), FrontError> {
    // Ctrl-C on a terminal is for the client, which then asks for an end. It fails where the session is its own already.
    let _ = setsid();
    let mut reader = FrameReader::new(io::stdin());
    let mut writer = FrameWriter::new(io::stdout());
    handshake_agent(&mut reader, &mut writer)?;
    let (sender, receiver) = mpsc::channel();
    let gone = Arc::new(AtomicBool::new(false));
    let pulse = Pulse::default();
    let client = Client { requests: receiver, gone: Arc::clone(&gone), pulse: pulse.clone() };
    // A thread of its own, so that a stop is heard while a run is being followed.
    thread::spawn(move || {
        loop {
            let received = reader.receive::<Request>();
            pulse.heard();
            let last = !matches!(received, Ok(Some(_)));
            if let Ok(Some(Incoming::Message(Request::Alive))) = &received {
                continue;
            }
            if let Ok(Some(Incoming::Message(Request::Stop { run }))) = &received {
                if let Err(error) = stop(run) {
                    // The client learns of it by the run going on.
                    drop(writeln!(io::stderr(), "cannot stop run {run}: {error}"));
                }
                continue;
            }
            if let Ok(Some(Incoming::Message(Request::Input { run, bytes }))) = &received {
                if let Err(error) = feed(run, bytes) {
                    drop(writeln!(io::stderr(), "the guest of run {run} does not take input: {error}"));
                }
                continue;
            }
            // Heard while a run is followed, too.
            gone.store(last, Ordering::Relaxed);
            if sender.send(received).is_err() || last {
                return;
            }
        }
    });
    while let Ok(received) = client.requests.recv() {
        match received? {
            Some(Incoming::Message(request)) => {
                let last = match serve(request, &client, &mut writer) {
                    // Nothing of it was sent.
                    Err(FrontError::Frame(error @ FrameError::TooBig { .. })) => refused(error),
                    other => other?,
                };
                writer.send(&last)?;
            }
            Some(Incoming::Blob(_)) => writer.send(&refused("a blob that belongs to no request"))?,
            None => break,
        }
    }
    writer.end()?;
    Ok(())
}

struct Client {
    requests: mpsc::Receiver<Result<Option<Incoming<Request>>, FrameError>>,
    /// Whether it is done, or was lost.
    gone: Arc<AtomicBool>,
    pulse: Pulse,
}

impl Client {
    /// The next piece of what comes with an order.
    fn piece(&self) -> Result<Vec<u8>, FrontError> {
        match self.requests.recv() {
            Ok(Ok(Some(Incoming::Blob(piece)))) => Ok(piece),
            Ok(Err(error)) => Err(error.into()),
            _ => Err(io::Error::other("what comes with the order did not arrive whole").into()),
        }
    }
}

/// Does what a request says, up to its last report.
fn serve(
    request: Request,
    client: &Client,
    writer: &mut FrameWriter<io::Stdout>,
) -> Result<Report, FrontError> {
    Ok(match request {
        Request::Facts => match Machine::this().facts() {
            Ok(facts) => {
                writer.send(&Report::Facts(Box::new(facts)))?;
                Report::Done
            }
            Err(error) => refused(error),
        },
        Request::Fingerprint => match Machine::this().facts() {
            Ok(facts) => {
                let print = Fingerprint::take(&Machine::this(), &facts, true);
                writer.send(&Report::Fingerprint(print))?;
                Report::Done
            }
            Err(error) => refused(error),
        },
        Request::Preflight { network, clock } => match preflight(network, clock) {
            Ok(checks) => {
                writer.send(&Report::Preflight(checks))?;
                Report::Done
            }
            Err(reason) => refused(reason),
        },
        Request::Survey { packages, paths } => {
            let survey = toril_provisioner::survey(&Machine::this(), &packages, &paths);
            writer.send(&Report::Survey(Box::new(survey)))?;
            Report::Done
        }
        Request::Traces => {
            writer.send(&Report::Traces(Traces::of(&Machine::this())))?;
            Report::Done
        }
        Request::Plan { bundle, host, audit } => match plan(&bundle, &host, audit) {
            Ok((plan, findings)) => {
                writer.send(&Report::Plan { plan, findings })?;
                Report::Done
            }
            Err(reason) => refused(reason),
        },
        Request::Lock { bundle, host } => match lock(&bundle, &host) {
            Ok((release, host)) => {
                writer.send(&Report::Lock { release, host })?;
                Report::Done
            }
            Err(reason) => refused(reason),
        },
        Request::Artifacts { run } => match artifacts(&run) {
            Ok(parcel) => {
                writer.send(&Report::Artifacts { size: parcel.size, sha256: parcel.sha256.clone() })?;
                let mut content = parcel.open()?;
                let mut piece = vec![0; BLOB_PIECE];
                loop {
                    match content.read(&mut piece)? {
                        0 => break,
                        count => writer.send_blob(piece.get(..count).unwrap_or_default())?,
                    }
                }
                Report::Done
            }
            Err(reason) => refused(reason),
        },
        Request::Boot => match Machine::this().boot_id() {
            Ok(boot) => {
                writer.send(&Report::Boot(boot))?;
                Report::Done
            }
            Err(reason) => refused(reason),
        },
        Request::Start { token, order, attachments } => {
            let run = RunDirectory::of_token(&token);
            let received = run
                .map_err(ReceiveError::Spoilt)
                .and_then(|run| Attachments::receive(&run, &attachments, || client.piece()));
            let begun = match received {
                Err(ReceiveError::Lost(error)) => return Err(error),
                Err(ReceiveError::Spoilt(error)) => Err(error),
                Ok(attachments) => begun(&token, &order, attachments),
            };
            match begun {
                Ok(run) => followed(&run, 0, client, writer)?,
                Err(error) => refused(cannot_begin(&error)),
            }
        }
        Request::Clean { dry_run } => {
            let state = Path::new(toril_runner::STATE);
            let folders = if dry_run { kept_folders(state) } else { remove_kept_folders(state) };
            match folders {
                Ok(folders) => {
                    writer.send(&Report::Kept(folders))?;
                    Report::Done
                }
                Err(error) => refused(format!("cannot look into {}/runs: {error}", state.display())),
            }
        }
        Request::Footprint { delivered } => {
            told(footprint(&Machine::this(), delivered).map(Report::Footprint), writer)?
        }
        Request::Uninstall(wish) => told(uninstall(&Machine::this(), &wish), writer)?,
        Request::Attach { run, from } => match RunDirectory::find(run.as_deref())? {
            Some(run) => followed(&run, from, client, writer)?,
            None => refused(match run {
                Some(run) => unknown(&run),
                None => "there was no run on this host yet".into(),
            }),
        },
        Request::Cancel { run, who } => match to_cancel(run.as_deref(), who)? {
            Ok(run) => match stop(&run.name()) {
                Ok(()) => followed(&run, 0, client, writer)?,
                Err(error) => refused(format!("cannot stop run {}: {error}", run.name())),
            },
            Err(nothing) => nothing,
        },
        // The reader has taken these.
        Request::Stop { .. } | Request::Input { .. } | Request::Alive => Report::Done,
    })
}

/// The run that is meant, if it is one that can be ended; otherwise the answer why there is nothing to end.
fn to_cancel(name: Option<&str>, who: Option<String>) -> io::Result<Result<RunDirectory, Report>> {
    if let Some(who) = who {
        let own = RunDirectory::find_alive(Some(&who))?;
        return Ok(own.ok_or(Report::NoneOf { who }));
    }
    let Some(run) = RunDirectory::find(name)? else {
        return Ok(Err(refused(match name {
            Some(name) => {
                format!("the host knows of no run {name}; without a name, the one that is at work is meant")
            }
            None => "there was no run on this host yet, so there is nothing to cancel".into(),
        })));
    };
    let ended = run.name();
    let alive = match name {
        Some(_) => run.is_at_work()?.then_some(run),
        None => RunDirectory::find_alive(None)?,
    };
    Ok(alive.ok_or_else(|| {
        refused(match name {
            Some(_) => format!("run {ended} has ended already: `toril attach HOST {ended}` shows how"),
            None => format!(
                "no run is at work on this host; the newest, {ended}, has ended: `toril attach HOST` shows how"
            ),
        })
    }))
}

fn cannot_begin(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": the disk is full; free some space and run this again"
        }
        _ => "",
    };
    format!("cannot begin a run, whose journal is kept in /var/lib/toril: {error}{remedy}")
}

/// Sends what was asked for, or says why it cannot be had.
fn told(answer: Result<Report, String>, writer: &mut FrameWriter<io::Stdout>) -> Result<Report, FrontError> {
    match answer {
        Ok(report) => {
            writer.send(&report)?;
            Ok(Report::Done)
        }
        Err(reason) => Ok(refused(reason)),
    }
}

fn refused(reason: impl ToString) -> Report {
    Report::Refused { reason: reason.to_string() }
}

pub(super) fn read_recipe(bundle: &Bundle, host: &HostInfo) -> Result<(Recipe, Facts), String> {
    let facts = Machine::this().facts().map_err(|error| error.to_string())?;
    let recipe = Recipe::read(bundle, &facts, host).map_err(|problems| problems.to_string())?;
    Ok((recipe, facts))
}

/// An archive of what a run has kept of its tests.
fn artifacts(name: &str) -> Result<Parcel, String> {
    let run = RunDirectory::find(Some(name)).map_err(|error| error.to_string())?;
    let run = run.ok_or_else(|| unknown(name))?;
    let directory = run.artifacts();
    let paths = everything(&directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("the run {name} has kept no artifacts: it has begun no tests"),
        _ => format!("cannot read {}: {error}", directory.display()),
    })?;
    pack(&directory, paths.iter().map(PathBuf::as_path), &mut |_| {})
        .map_err(|error| format!("cannot pack the artifacts of run {name}: {error}"))
}

fn unknown(run: &str) -> String {
    format!("the host knows of no run {run}; it keeps the journals of the last 20")
}

fn preflight(network: bool, clock: Duration) -> Result<Vec<Check>, String> {
    let machine = Machine::this();
    let facts = machine.facts().map_err(|error| error.to_string())?;
    let program = format!("/proc/{}/exe", std::process::id());
    let trial = toril_machine::try_kvm_apart(&[program.into(), "try-kvm".into()])?;
    Ok(toril_provisioner::preflight(&machine, &facts, &trial, network, clock))
}

fn plan(bundle: &Bundle, host: &HostInfo, audit: Option<Depth>) -> Result<(Plan, Vec<Finding>), String> {
    let (recipe, facts) = read_recipe(bundle, host)?;
    toril_provisioner::plan_and_audit(&recipe, &Machine::this(), &facts, audit)
        .map_err(|error| error.to_string())
}

fn lock(bundle: &Bundle, host: &HostInfo) -> Result<(String, LockedHost), String> {
    let (recipe, facts) = read_recipe(bundle, host)?;
    let found = LockedHost::observe(&recipe, &Machine::this(), &facts)?;
    Ok((facts.version, found))
}

/// The run that this token stands for. Where another front was asked the same before, it is the run that that one has
/// begun; where that one died before it came to it, it is begun here.
fn begun(token: &str, order: &Order, attachments: Attachments) -> io::Result<RunDirectory> {
    let until = Instant::now() + 2 * BEGINNING;
    loop {
        let run = RunDirectory::of_token(token)?;
        let beginning = match run.try_beginning() {
            // The other front has failed, and has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => other?,
        };
        // Looked at while nobody else can begin it.
        if run.journal().exists() {
            return Ok(run);
        }
        if let Some(beginning) = beginning {
            begin(&run, &beginning, order, attachments)?;
            return Ok(run);
        }
        if Instant::now() > until {
            return Err(io::Error::other(
                "an earlier connection has begun it, and its worker does not come up",
            ));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn begin(run: &RunDirectory, beginning: &File, order: &Order, attachments: Attachments) -> io::Result<()> {
    let write = || {
        attachments.hand_over(run)?;
        if order.has_input() {
            mknodat(CWD, run.input(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        }
        fs::write(run.order(), serde_json::to_vec(order).map_err(io::Error::other)?)?;
        prepare(run)?;
        start(run, beginning)
    };
    write().inspect_err(|_| {
        // It is no run that anybody could attach to.
        let _ = fs::remove_dir_all(run.path());
    })
}

/// Starts the worker in a session of its own: it outlives this process and the connection. Its standard input is the
/// lock on the run's beginning, so that this stays taken should this process die before the worker is there.
fn start(run: &RunDirectory, beginning: &File) -> io::Result<()> {
    // Not the file's name, which an update or a clean-up may have taken away.
    let program = format!("/proc/{}/exe", std::process::id());
    let mut worker = Command::new("setsid")
        .arg(program)
        .arg("agent-worker")
        .arg(run.path())
        .env("PATH", STANDARD_PATH)
        .current_dir("/")
        .stdin(beginning.try_clone()?)
        .stdout(Stdio::null())
        .stderr(File::create(run.stderr())?)
        .spawn()?;
    let until = Instant::now() + BEGINNING;
    loop {
        let ended = worker.try_wait()?;
        if run.journal().exists() {
            return Ok(());
        }
        if ended.is_some() || Instant::now() > until {
            let said = fs::read_to_string(run.stderr()).unwrap_or_default();
            let how = ended.map_or("it is silent".into(), |status| status.to_string());
            let text = format!("the agent's worker did not come up ({how}) {}", said.trim());
            return Err(io::Error::other(text));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Follows a run to its end, or says why there is none.
fn followed(
    run: &RunDirectory,
    from: u64,
    client: &Client,
    writer: &mut FrameWriter<io::Stdout>,
) -> Result<Report, FrontError> {
    // A run that has ended is followed all the same where this cannot be had, as on a disk that is full.
    let _followed = run.hold_followed().ok();
    // A client whose network fell silent follows it no more. What is sent to it may wait for ever to be taken, so that only
    // this process's end lets go.
    let _watch = run.is_attended().then(|| {
        client.pulse.watch(|| {
            drop(writeln!(io::stderr(), "the client has said nothing for too long, and is taken for lost"));
            std::process::exit(1);
        })
    });
    writer.send(&Report::Following { run: run.name() })?;
    let mut send = |entry: Entry| {
        large::send(writer, entry, large::MOST).map_err(|error| match error {
            SendError::TooLarge { .. } => FollowError::TooLarge {
                error: error.to_string(),
                journal: run.journal().display().to_string(),
            },
            SendError::Frame(error) => FollowError::Io(io::Error::other(error)),
        })
    };
    match follow(run, from, &client.gone, &mut send) {
        Ok(()) => Ok(Report::Done),
        Err(error @ (FollowError::Died(_) | FollowError::Entry(_) | FollowError::TooLarge { .. })) => {
            Ok(refused(error))
        }
        Err(FollowError::Io(error)) => Err(error.into()),
    }
}
