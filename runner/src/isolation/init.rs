use std::io::{self, BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio, exit};
use std::thread;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, set_parent_process_death_signal,
    setrlimit, wait,
};
use rustix::thread::{
    CpuSet, Gid, Uid, sched_setaffinity, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use toril_machine::STANDARD_PATH;

use super::message::MOST_FILES;
use super::set_id::forbid_set_id;
use super::{Report, Spec, file_placeholder};

/// How many processes and threads the user of a test may have.
const MOST_PROCESSES: u64 = 4096;

/// The exit status where something is wrong with the namespace's first process itself.
const BROKEN: u8 = 70;

/// The first process of a test's namespace. It is no command for people: the runner starts it through `unshare`, with
/// the control socket as standard input.
pub fn isolate() -> ExitCode {
    if getpid() != Pid::INIT {
        let _ =
            writeln!(io::stderr(), "isolate: started by toril itself, as the first process of a namespace");
        return ExitCode::from(2);
    }
    let Ok(control) = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return ExitCode::from(BROKEN);
    };
    let told = serve(&control).or_else(|why| tell(&control, &Report::NotStarted { why }));
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) }
}

fn tell(mut control: &UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    control.write_all(&line)
}

/// Runs the program to its end and tells it. An error is why it was not started.
fn serve(control: &UnixStream) -> Result<(), String> {
    let mut input = BufReader::new(control);
    let files = receive_files(control).map_err(|error| format!("cannot receive its files: {error}"))?;
    let mut line = String::new();
    input.read_line(&mut line).map_err(|error| format!("cannot read what to run: {error}"))?;
    let spec: Spec =
        serde_json::from_str(&line).map_err(|error| format!("cannot read what to run: {error}"))?;
    if files.len() != spec.files {
        return Err(format!("{} files came along, not {}", files.len(), spec.files));
    }
    pin(&spec.pin)?;
    let limit = spec.realtime.map(allow_realtime);
    become_user(&spec)?;
    if spec.forbids_set_id {
        forbid_set_id()?;
    }
    let realtime =
        spec.realtime.zip(limit).map(|(priority, limit)| limit.and_then(|()| try_realtime(priority)));
    let not_realtime = realtime.as_ref().and_then(|tried| tried.as_ref().err().cloned());
    let words = spec.argv.iter().map(|word| with_file_numbers(word, &files));
    let argv: Vec<String> = match realtime {
        Some(Ok(chrt)) => chrt.into_iter().chain(words).collect(),
        _ => words.collect(),
    };
    let program = start(&spec, &argv, &files)?;
    drop(files);
    let watched = control.try_clone().map_err(|error| format!("cannot watch the control socket: {error}"))?;
    thread::spawn(move || end_with(watched));
    let told = tell(control, &Report::Started { argv, not_realtime })
        .and_then(|()| tell(control, &report_of(wait_for(program))));
    // With nobody to tell, the end of this process is all that is left to do.
    told.or(Ok(()))
}

fn receive_files(control: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let messages = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    Ok(messages.flatten().collect())
}

/// Confines this process, and what it starts, to some of the CPUs.
fn pin(cpus: &[usize]) -> Result<(), String> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU).for_each(|cpu| set.set(*cpu));
    let list: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    sched_setaffinity(None, &set).map_err(|error| {
        format!(
            "cannot pin it to the CPUs {}: {error}; `nproc --all` says how many there are",
            list.join(", ")
        )
    })
}

/// Lets the user have a real-time priority, as only root can, and none above it.
fn allow_realtime(priority: u8) -> Result<(), String> {
    let most = Some(u64::from(priority));
    setrlimit(Resource::Rtprio, Rlimit { current: most, maximum: most })
        .map_err(|error| format!("the limit of real-time priorities cannot be raised ({error})"))
}

/// What a command line begins with that gives the program this real-time priority. Tried, since a limit that allows it
/// is not all that it takes.
fn try_realtime(priority: u8) -> Result<Vec<String>, String> {
    let chrt = ["chrt", "--rr", &priority.to_string()].map(str::to_owned).to_vec();
    let tried = Command::new(&chrt[0])
        .args(&chrt[1..])
        .arg("true")
        .env_clear()
        .env("PATH", STANDARD_PATH)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`chrt` (package util-linux) cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
    if tried.status.success() { Ok(chrt) } else { Err(said) }
}

/// Gives up root for good. The first process does it too, not only the program: then nothing in the namespace has it.
fn become_user(spec: &Spec) -> Result<(), String> {
    let failed = |error: Errno| {
        format!("cannot become user {}: {error}; run toril as root, or in a container that lets it", spec.uid)
    };
    let groups: Vec<Gid> = spec.groups.iter().map(|id| Gid::from_raw(*id)).collect();
    let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
    // A test that forks without end must not take the machine with it, and nobody reads its core files.
    let most = |count| Rlimit { current: Some(count), maximum: Some(count) };
    setrlimit(Resource::Nproc, most(MOST_PROCESSES)).map_err(failed)?;
    setrlimit(Resource::Core, most(0)).map_err(failed)?;
    set_thread_groups(&groups).map_err(failed)?;
    set_thread_res_gid(gid, gid, gid).map_err(failed)?;
    set_thread_res_uid(uid, uid, uid).map_err(failed)?;
    set_no_new_privs(true).map_err(failed)?;
    // `unshare --kill-child` has asked for it, and the change of user has undone it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)
}

fn start(spec: &Spec, argv: &[String], files: &[OwnedFd]) -> Result<Pid, String> {
    for file in files {
        fcntl_setfd(file, FdFlags::empty()).map_err(|error| format!("cannot pass a file on: {error}"))?;
    }
    let (program, args) = argv.split_first().ok_or("there is no program to run")?;
    let input = match spec.input.and_then(|index| files.get(index)) {
        Some(file) => {
            file.try_clone().map(Stdio::from).map_err(|error| format!("cannot pass its input on: {error}"))?
        }
        None => Stdio::null(),
    };
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.dir)
        .stdin(input)
        // What it sends to its process group must not reach `unshare`, which is outside.
        .process_group(0)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("cannot run `{program}`: no such program on the host"),
            _ => format!("cannot run `{program}` in {}: {error}", spec.dir),
        })?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| "it has no process id".into())
}

fn with_file_numbers(word: &str, files: &[OwnedFd]) -> String {
    let mut word = word.to_owned();
    for (index, file) in files.iter().enumerate() {
        word = word.replace(&file_placeholder(index), &file.as_raw_fd().to_string());
    }
    word
}

/// Ends this process, and with it everything in the namespace, when the runner closes its side or is gone.
fn end_with(mut control: UnixStream) {
    let mut byte = [0; 1];
    loop {
        match control.read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => exit(0),
        }
    }
}

/// Waits for the program and, being the namespace's first process, for every orphan that comes before.
fn wait_for(program: Pid) -> Option<WaitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => return Some(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn report_of(status: Option<WaitStatus>) -> Report {
    Report::Ended {
        code: status.and_then(WaitStatus::exit_status),
        signal: status.and_then(WaitStatus::terminating_signal),
    }
}
