//! `run`: one kernel as a guest, its output as it comes, and how it ended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use toril_archive::{Parcel, everything, pack};
use toril_inventory::{Host, Reach};
use toril_runner::{Event, NoKernel, SourceInfo, check_pvh_kernel};

use super::choices::Chooser;
use super::hosts::block_on;
use super::terminal::{Console, Keyboard};
use super::{UsageError, artifacts, finish, problem, reach, work};
use crate::agent::{Job, KernelTest, Order, RunEvent, SourceOrder, TestJob, Tests};
use crate::arguments::Run;
use crate::client::{Parcels, Told, Trouble};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{HostOutcome, Shown};

/// How long a guest may run, unless it is said.
const UNATTENDED: Duration = Duration::from_secs(60);

/// The same where somebody sits before it.
const ATTENDED: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn run(arguments: &Run) -> Result<Status, UsageError> {
    let path = arguments.kernel.to_string_lossy().into_owned();
    let unreadable = |error| UsageError::Other(format!("cannot read the kernel {path}: {error}"));
    let file = File::open(&arguments.kernel).map_err(unreadable)?;
    check_pvh_kernel(&file).map_err(|error| match error {
        NoKernel::Unreadable(error) => unreadable(error),
        error => UsageError::Other(format!("QEMU cannot boot {path} by PVH: {error}")),
    })?;
    let kernel = Parcel::of(file).map_err(unreadable)?;
    let share = arguments.share.as_deref().map(pack_share).transpose()?;
    let chooser = Chooser::here()?;
    let chosen = chooser.target(&arguments.on, &arguments.way)?;
    let name = chosen.name.clone();
    let hosts = std::slice::from_ref(&name);
    let view = chooser.view(&arguments.way.output, &arguments.reporting, hosts)?;
    let way = reach::way_to(&chosen, &reach::way(&arguments.way)?)?;
    let into = artifacts::directory(&arguments.fetching)?;
    let mut outcome = HostOutcome { host: name.clone(), ..HostOutcome::default() };
    let start = Instant::now();
    let result = block_on(&view, async |interrupts: Interrupts| {
        let host = reach::host(&chosen, false, &view)?;
        let mut client = reach::connect_unless_interrupted(&host, &way, &view, &interrupts).await?;
        let test = KernelTest {
            append: arguments.append.clone(),
            memory: arguments.memory,
            cpus: arguments.cpus,
            deadline: arguments.deadline.unwrap_or(match arguments.console || arguments.gdb {
                true => ATTENDED,
                false => UNATTENDED,
            }),
            share: share.as_ref().map(|_| arguments.tag.clone()),
            vsock: arguments.vsock || !arguments.forward.is_empty(),
            forward: arguments.forward.clone(),
            console: arguments.console,
            debugger: arguments.gdb,
        };
        let job = Job::Test(TestJob {
            suite: path.clone(),
            tests: Tests::Kernel(test),
            policy: work::policy(chooser.accelerator(arguments.accelerator), &host),
            filter: Vec::new(),
            control: toril_runner::Control::default(),
            live: true,
            keep: arguments.keeping.keep,
            source: share.as_ref().map(|(info, _)| SourceOrder::Sent(info.clone())),
        });
        let (wait, attended) = (chooser.wait(&arguments.running), arguments.running.attended);
        let order = Order { who: reach::who(), wait, attended, jobs: vec![job] };
        let source = share.as_ref().map(|(_, parcel)| parcel);
        let parcels = Parcels { kernel: Some(&kernel), source };
        let mut console = Console::default();
        if arguments.console {
            let opened = Keyboard::open().map_err(|error| format!("cannot read the terminal: {error}"));
            let (keyboard, typed) = opened?;
            if keyboard.is_terminal() {
                let text = "what is typed is for the guest from now on; Ctrl-] ends it";
                view.show(Some(&name), &Shown::Note { text });
            }
            client.read_from(typed);
            view.give_terminal();
            console.begin(keyboard);
        }
        let mut tell = |told: Told| {
            if let Some(port) = debugger_port(&told) {
                reach::show(&view, &name, &told);
                for text in how_to_debug(&path, port, &host) {
                    view.show(Some(&name), &Shown::Note { text: &text });
                }
            } else if !console.takes(&told) {
                reach::show(&view, &name, &told);
            }
        };
        let ended = client.run(order, parcels, &interrupts, &mut tell).await;
        drop(console);
        artifacts::fetch(&mut client, &ended, into, None, &view, &mut outcome).await;
        let ended = ended?;
        client.close().await?;
        Ok::<_, Trouble>(ended)
    })?;
    match result {
        Ok(ended) => work::conclude(&mut outcome, ended),
        Err(error) => {
            problem(&view, Some(&name), "running the kernel", &error);
            outcome.statuses.push(Status::Operation);
        }
    }
    outcome.time = start.elapsed();
    Ok(finish(&view, &[outcome]))
}

/// A directory as it is sent to a host, whatever is in it.
fn pack_share(directory: &Path) -> Result<(SourceInfo, Parcel), UsageError> {
    let shown = directory.display();
    let unreadable = |error: &dyn std::error::Error| {
        UsageError::Other(format!("cannot share {shown}: {}", crate::client::chain(error)))
    };
    let paths = everything(directory).map_err(|error| unreadable(&error))?;
    let parcel = pack(directory, paths.iter().map(PathBuf::as_path), &mut |_| {});
    let parcel = parcel.map_err(|error| unreadable(&error))?;
    Ok((SourceInfo { origin: shown.to_string(), commit: None, changed: 0 }, parcel))
}

/// The port at which a guest waits for a debugger, if that is what was told.
fn debugger_port(told: &Told) -> Option<u16> {
    match told {
        Told::Run(RunEvent::Test { event: Event::AwaitsDebugger { port, .. } }) => Some(*port),
        _ => None,
    }
}

/// What to type to debug a guest that waits at a port of the host.
fn how_to_debug(kernel: &str, port: u16, host: &Host) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Reach::Ssh(ssh), false) = (&host.reach, host.sandbox) {
        let user = ssh.user.as_ref().map_or(String::new(), |user| format!("{user}@"));
        let at = ssh.port.map_or(String::new(), |port| format!("-p {port} "));
        lines.push(format!("type  ssh -N -L {port}:127.0.0.1:{port} {at}{user}{}", ssh.host));
    }
    lines.push(format!("type  gdb {kernel} -ex 'target remote 127.0.0.1:{port}'"));
    lines
}

#[cfg(test)]
mod tests {
    use toril_inventory::Ssh;

    use super::*;

    #[test]
    fn a_debugger_reaches_a_host_by_ssh_and_this_machine_without() {
        let here = Host { name: "local".into(), reach: Reach::Local, sandbox: false };
        let gdb = "type  gdb k.elf -ex 'target remote 127.0.0.1:999'";
        assert_eq!(how_to_debug("k.elf", 999, &here), [gdb]);
        let ssh = Ssh { host: "h".into(), user: Some("u".into()), port: Some(2222), ..Ssh::default() };
        let there = Host { name: "h".into(), reach: Reach::Ssh(ssh), sandbox: false };
        assert_eq!(
            how_to_debug("k.elf", 999, &there),
            ["type  ssh -N -L 999:127.0.0.1:999 -p 2222 u@h", gdb]
        );
    }
}
