use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use toril_machine::{Facts, Machine, STANDARD_PATH};
use toril_provisioner::{Bundle, HostInfo, Plan, Recipe};
use toril_transport::{FrameError, FrameReader, FrameWriter, Incoming, handshake_agent};

use super::journal::{FollowError, follow};
use super::run_directory::RunDirectory;
use super::{Entry, Order, Report, Request, RunEvent};

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
    let mut reader = FrameReader::new(io::stdin());
    let mut writer = FrameWriter::new(io::stdout());
    handshake_agent(&mut reader, &mut writer)?;
    let (sender, requests) = mpsc::channel();
    // A thread of its own, so that a stop is heard while a run is being followed.
    thread::spawn(move || {
        loop {
            let received = reader.receive::<Request>();
            let last = !matches!(received, Ok(Some(_)));
            if let Ok(Some(Incoming::Message(Request::Stop { run }))) = &received {
                if let Err(error) = stop(run) {
                    // The client learns of it by the run going on.
                    drop(writeln!(io::stderr(), "cannot stop run {run}: {error}"));
                }
                continue;
            }
            if sender.send(received).is_err() || last {
                return;
            }
        }
    });
    while let Ok(received) = requests.recv() {
        match received? {
            Some(Incoming::Message(request)) => serve(request, &requests, &mut writer)?,
            Some(Incoming::Blob(_)) => writer.send(&refused("a blob that belongs to no request"))?,
            None => break,
        }
    }
    writer.end()?;
    Ok(())
}

type Requests = mpsc::Receiver<Result<Option<Incoming<Request>>, FrameError>>;

fn serve(
    request: Request,
    requests: &Requests,
    writer: &mut FrameWriter<io::Stdout>,
) -> Result<(), FrontError> {
    let last = match request {
        Request::Facts => match Machine::this().facts() {
            Ok(facts) => {
                writer.send(&Report::Facts(Box::new(facts)))?;
                Report::Done
            }
            Err(error) => refused(error),
        },
        Request::Plan { bundle, host } => match plan(&bundle, &host) {
            Ok(plan) => {
                writer.send(&Report::Plan(plan))?;
                Report::Done
            }
            Err(reason) => refused(reason),
        },
        Request::Start { order, kernel } => {
            let run = RunDirectory::create()?;
            if let Some(size) = kernel {
                receive_kernel(&run, size, requests)?;
            }
            start(&run, &order)?;
            followed(&run, 0, writer)?
        }
        Request::Attach { run, from } => match RunDirectory::find(run.as_deref())? {
            Some(run) => followed(&run, from, writer)?,
            None => refused("the host knows of no such run"),
        },
        Request::Stop { .. } => return Ok(()),
    };
    writer.send(&last)?;
    Ok(())
}

fn refused(reason: impl ToString) -> Report {
    Report::Refused { reason: reason.to_string() }
}

pub(super) fn read_recipe(bundle: &Bundle, host: &HostInfo) -> Result<(Recipe, Facts), String> {
    let facts = Machine::this().facts().map_err(|error| error.to_string())?;
    let recipe = Recipe::read(bundle, &facts, host).map_err(|problems| problems.to_string())?;
    Ok((recipe, facts))
}

fn plan(bundle: &Bundle, host: &HostInfo) -> Result<Plan, String> {
    let (recipe, facts) = read_recipe(bundle, host)?;
    toril_provisioner::plan(&recipe, &Machine::this(), &facts).map_err(|error| error.to_string())
}

fn receive_kernel(run: &RunDirectory, size: u64, requests: &Requests) -> Result<(), FrontError> {
    let mut file = File::create(run.kernel())?;
    let mut left = size;
    while left > 0 {
        match requests.recv() {
            Ok(Ok(Some(Incoming::Blob(piece)))) if piece.len() as u64 <= left => {
                file.write_all(&piece)?;
                left -= piece.len() as u64;
            }
            Ok(Err(error)) => return Err(error.into()),
            _ => return Err(io::Error::other("the kernel did not arrive whole").into()),
        }
    }
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    Ok(())
}

/// Starts the worker in a session of its own: it outlives this process and the connection.
fn start(run: &RunDirectory, order: &Order) -> Result<(), FrontError> {
    fs::write(run.order(), serde_json::to_vec(order).map_err(io::Error::other)?)?;
    let status = Command::new("setsid")
        .arg("--fork")
        .arg(std::env::current_exe()?)
        .arg("agent-worker")
        .arg(run.path())
        .env("PATH", STANDARD_PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(run.stderr())?)
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("the agent's worker could not be started: {status}")).into());
    }
    let until = Instant::now() + Duration::from_secs(10);
    while !run.journal().exists() {
        if Instant::now() > until {
            let said = fs::read_to_string(run.stderr()).unwrap_or_default();
            return Err(
                io::Error::other(format!("the agent's worker did not come up: {}", said.trim())).into()
            );
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Follows a run to its end, or says why there is none.
fn followed(
    run: &RunDirectory,
    from: u64,
    writer: &mut FrameWriter<io::Stdout>,
) -> Result<Report, FrontError> {
    writer.send(&Report::Following { run: run.name() })?;
    let mut send = |entry: Entry| writer.send(&Report::Entry(entry)).map_err(io::Error::other);
    match follow(run, from, &mut send) {
        Ok(()) => Ok(Report::Done),
        Err(error @ (FollowError::Died(_) | FollowError::Entry(_))) => Ok(refused(error)),
        Err(FollowError::Io(error)) => Err(error.into()),
    }
}

/// Asks a run's worker to end. The journal names its process, and the lock tells that it still is that process.
fn stop(name: &str) -> io::Result<()> {
    let Some(run) = RunDirectory::find(Some(name))? else { return Ok(()) };
    let text = fs::read_to_string(run.journal())?;
    let first = text.lines().next().and_then(|line| serde_json::from_str::<Entry>(line).ok());
    let Some(Entry { event: RunEvent::Began { pid }, .. }) = first else { return Ok(()) };
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        Some(pid) if run.is_alive()? => Ok(kill_process(pid, Signal::TERM)?),
        _ => Ok(()),
    }
}
