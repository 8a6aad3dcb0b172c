//! `run`: one kernel as a guest, its output as it comes, and how it ended.

use std::fs;
use std::time::Instant;

use super::hosts::block_on;
use super::{UsageError, choices, finish, reach, work};
use crate::agent::{Job, KernelTest, Order, TestJob, Tests};
use crate::arguments::Run;
use crate::client::chain;
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{HostOutcome, Shown, View};

pub(super) fn run(arguments: &Run) -> Result<Status, UsageError> {
    let path = arguments.kernel.to_string_lossy().into_owned();
    let kernel = fs::read(&arguments.kernel)
        .map_err(|error| UsageError::Other(format!("cannot read the kernel {path}: {error}")))?;
    if !kernel.starts_with(b"\x7fELF") {
        return Err(UsageError::Other(format!("{path} is no ELF file, so QEMU cannot boot it by PVH")));
    }
    let mut targets = choices::targets(std::slice::from_ref(&arguments.on), &arguments.way)?;
    let Some((name, target)) = targets.pop() else { return Ok(Status::Usage) };
    let view = View::new(&arguments.way.output);
    let way = reach::way(&arguments.way)?;
    let mut outcome = HostOutcome { host: name.clone(), ..HostOutcome::default() };
    let start = Instant::now();
    let result = block_on(&view, async |interrupts: Interrupts| {
        let host = reach::host(&name, &target, false, &view)?;
        let mut client = reach::connect(&host, &way, &view).await.map_err(|error| chain(&error))?;
        let test = KernelTest {
            append: arguments.append.clone(),
            memory: arguments.memory,
            cpus: arguments.cpus,
            deadline: arguments.deadline,
        };
        let job = Job::Test(TestJob {
            suite: path.clone(),
            tests: Tests::Kernel(test),
            policy: work::policy(work::accelerator(arguments.accelerator), &host),
            filter: Vec::new(),
            live: true,
        });
        let order = Order { who: reach::who(), wait: arguments.running.wait.as_secs(), jobs: vec![job] };
        let mut tell = |run| view.show(Some(&name), &Shown::Run { run: &run });
        let ended =
            client.run(order, Some(&kernel), &interrupts, &mut tell).await.map_err(|error| chain(&error))?;
        client.close().await.map_err(|error| chain(&error))?;
        Ok::<_, String>(ended)
    })?;
    match result {
        Ok(ended) => work::conclude(&mut outcome, ended),
        Err(error) => {
            view.show(Some(&name), &Shown::Problem { doing: "running the kernel", error: &error });
            outcome.statuses.push(Status::Operation);
        }
    }
    outcome.time = start.elapsed();
    Ok(finish(&view, &[outcome]))
}
