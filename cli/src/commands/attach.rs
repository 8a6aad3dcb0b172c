//! `attach`: a run that was begun earlier, seen from its beginning to its end.

use std::time::Instant;

use super::choices::Chooser;
use super::hosts::block_on;
use super::{UsageError, artifacts, finish, problem, reach, work};
use crate::arguments::Attach;
use crate::client::Trouble;
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::HostOutcome;

pub(super) fn attach(arguments: &Attach) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let chosen = chooser.target(&arguments.host, &arguments.way)?;
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
        let mut tell = |told| reach::show(&view, &name, &told);
        let run = arguments.run.clone();
        let ended = client.attach(run, &interrupts, &mut tell).await;
        artifacts::fetch(&mut client, &ended, into, None, &view, &mut outcome).await;
        let ended = ended?;
        client.close().await?;
        Ok::<_, Trouble>(ended)
    })?;
    match result {
        Ok(ended) => work::conclude(&mut outcome, ended),
        Err(error) => {
            problem(&view, Some(&name), "following the run", &error);
            outcome.statuses.push(Status::Operation);
        }
    }
    outcome.time = start.elapsed();
    Ok(finish(&view, &[outcome]))
}
