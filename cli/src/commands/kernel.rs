//! `run`: one kernel as a guest, its output as it comes, and how it ended.

use std::fs::File;
use std::io::Read;
use std::time::Instant;

use toril_archive::Parcel;

use super::choices::Chooser;
use super::hosts::block_on;
use super::{UsageError, finish, problem, reach, work};
use crate::agent::{Job, KernelTest, Order, TestJob, Tests};
use crate::arguments::Run;
use crate::client::{Parcels, Trouble};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::HostOutcome;

pub(super) fn run(arguments: &Run) -> Result<Status, UsageError> {
    let path = arguments.kernel.to_string_lossy().into_owned();
    let unreadable = |error| UsageError::Other(format!("cannot read the kernel {path}: {error}"));
    let mut file = File::open(&arguments.kernel).map_err(unreadable)?;
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(unreadable)?;
    if magic != b"\x7fELF" {
        return Err(UsageError::Other(format!("{path} is no ELF file, so QEMU cannot boot it by PVH")));
    }
    let kernel = Parcel::of(file).map_err(unreadable)?;
    let chooser = Chooser::here()?;
    let mut targets = chooser.targets(std::slice::from_ref(&arguments.on), &arguments.way)?;
    let Some((name, target)) = targets.pop() else { return Ok(Status::Usage) };
    let hosts = std::slice::from_ref(&name);
    let view = chooser.view(&arguments.way.output, &arguments.reporting, hosts)?;
    let way = reach::way(&arguments.way)?;
    let mut outcome = HostOutcome { host: name.clone(), ..HostOutcome::default() };
    let start = Instant::now();
    let result = block_on(&view, async |interrupts: Interrupts| {
        let host = reach::host(&name, &target, false, &view)?;
        let mut client = tokio::select! {
            client = reach::connect(&host, &way, &view) => client?,
            () = interrupts.first() => return Err(Trouble::from(work::INTERRUPTED.to_owned())),
        };
        let test = KernelTest {
            append: arguments.append.clone(),
            memory: arguments.memory,
            cpus: arguments.cpus,
            deadline: arguments.deadline,
        };
        let job = Job::Test(TestJob {
            suite: path.clone(),
            tests: Tests::Kernel(test),
            policy: work::policy(chooser.accelerator(arguments.accelerator), &host),
            filter: Vec::new(),
            live: true,
            source: None,
        });
        let order = Order { who: reach::who(), wait: chooser.wait(&arguments.running), jobs: vec![job] };
        let parcels = Parcels { kernel: Some(&kernel), ..Parcels::default() };
        let mut tell = |told| reach::show(&view, &name, &told);
        let ended = client.run(order, parcels, &interrupts, &mut tell).await?;
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
