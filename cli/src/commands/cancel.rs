//! `cancel`: a run on a host is asked to end, and seen to its end.

use std::time::Instant;

use super::choices::Chooser;
use super::hosts::block_on;
use super::{UsageError, finish, problem, reach, work};
use crate::arguments::Cancel;
use crate::client::{ClientError, Trouble};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{HostOutcome, Shown, View};

pub(super) fn cancel(arguments: &Cancel) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let chosen = chooser.target(&arguments.host, &arguments.way)?;
    let name = chosen.name.clone();
    let view = View::new(&arguments.way.output);
    let way = reach::way_to(&chosen, &reach::way(&arguments.way)?)?;
    let mut outcome = HostOutcome { host: name.clone(), ..HostOutcome::default() };
    let start = Instant::now();
    let whose = arguments.mine.then(reach::who);
    let result = block_on(&view, async |interrupts: Interrupts| {
        let host = reach::host(&chosen, false, &view)?;
        let mut client = reach::connect_unless_interrupted(&host, &way, &view, &interrupts).await?;
        let mut tell = |told| reach::show(&view, &name, &told);
        let ended = match client.cancel(arguments.run.clone(), whose.clone(), &interrupts, &mut tell).await {
            // Nothing of it is left, which is what is wanted.
            Err(none @ ClientError::NoneOf(_)) => Err(none.to_string()),
            other => Ok(other?),
        };
        client.close().await?;
        Ok::<_, Trouble>(ended)
    })?;
    match result {
        Ok(Err(none)) => {
            view.show(Some(&name), &Shown::Note { text: &none });
            outcome.statuses = vec![Status::Fine];
        }
        Ok(Ok(ended)) => {
            let (stopped, failed) = (ended.stopped, ended.failed);
            work::conclude(&mut outcome, ended);
            if stopped && !failed {
                // That is what was wanted.
                outcome.statuses = vec![Status::Fine];
            } else if !failed {
                let text = "the run came to its own end before it could be stopped";
                view.show(Some(&name), &Shown::Note { text });
            }
        }
        Err(error) => {
            problem(&view, Some(&name), "cancelling the run", &error);
            outcome.statuses.push(Status::Operation);
        }
    }
    outcome.time = start.elapsed();
    Ok(finish(&view, &[outcome]))
}
