//! `attach`: a run that was begun earlier, seen from its beginning to its end.

use std::time::Instant;

use super::hosts::block_on;
use super::{UsageError, choices, finish, reach, work};
use crate::arguments::Attach;
use crate::client::chain;
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{HostOutcome, Shown, View};

pub(super) fn attach(arguments: &Attach) -> Result<Status, UsageError> {
    let mut targets = choices::targets(std::slice::from_ref(&arguments.host), &arguments.way)?;
    let Some((name, target)) = targets.pop() else { return Ok(Status::Usage) };
    let view = View::new(&arguments.way.output);
    let way = reach::way(&arguments.way)?;
    let mut outcome = HostOutcome { host: name.clone(), ..HostOutcome::default() };
    let start = Instant::now();
    let result = block_on(&view, async |interrupts: Interrupts| {
        let host = reach::host(&name, &target, false, &view)?;
        let mut client = reach::connect(&host, &way, &view).await.map_err(|error| chain(&error))?;
        let mut tell = |run| view.show(Some(&name), &Shown::Run { run: &run });
        let run = arguments.run.clone();
        let ended = client.attach(run, &interrupts, &mut tell).await.map_err(|error| chain(&error))?;
        client.close().await.map_err(|error| chain(&error))?;
        Ok::<_, String>(ended)
    })?;
    match result {
        Ok(ended) => work::conclude(&mut outcome, ended),
        Err(error) => {
            view.show(Some(&name), &Shown::Problem { doing: "following the run", error: &error });
            outcome.statuses.push(Status::Operation);
        }
    }
    outcome.time = start.elapsed();
    Ok(finish(&view, &[outcome]))
}
