//! `clean`: what runs have left on hosts because it was wanted (`--keep`) is listed, and removed.

use std::rc::Rc;

use toril_inventory::Chosen;
use toril_runner::KeptFolder;

use super::choices::Chooser;
use super::fleet::{Fleet, Turn};
use super::hosts::{all, block_on};
use super::{UsageError, fail, finish, reach, work};
use crate::arguments::Clean;
use crate::client::{Trouble, Way};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{HostOutcome, Shown, View};

/// What every host is asked.
#[derive(Clone)]
struct Task {
    fleet: Rc<Fleet>,
    view: View,
    interrupts: Interrupts,
    /// Whether what is found is only told.
    dry_run: bool,
}

/// `toril clean`.
pub(super) fn clean(arguments: &Clean) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let targets = chooser.targets(&arguments.hosts.hosts, &arguments.hosts.way)?;
    let view = View::new(&arguments.hosts.way.output);
    let targets = reach::ways(targets, &reach::way(&arguments.hosts.way)?)?;
    let fleet = Rc::new(Fleet::new(&arguments.hosts));
    let dry_run = arguments.dry_run;
    let shown = view.clone();
    let outcomes = block_on(&view, async |interrupts: Interrupts| {
        let task = Task { fleet, view: shown, interrupts, dry_run };
        let visits = targets.into_iter().map(|(chosen, way)| visit(chosen, way, task.clone()));
        all(visits.collect::<Vec<_>>()).await
    })?;
    Ok(finish(&view, &outcomes))
}

async fn visit(chosen: Chosen, way: Way, task: Task) -> HostOutcome {
    let name = chosen.name.clone();
    let mut outcome = HostOutcome { host: name.clone(), ..HostOutcome::default() };
    let mut turn = task.fleet.turn().await;
    let clock = turn.clock();
    let cleaned = match task.fleet.looking(&clock, clean_host(&chosen, &way, &task, &mut turn)).await {
        Some(cleaned) => cleaned,
        None => Err(task.fleet.late(&clock)),
    };
    match cleaned {
        Ok(folders) => {
            let left = folders.iter().filter(|folder| folder.trouble.is_some()).count();
            if left > 0 {
                outcome.problem = Some(format!("{left} of {} could not be removed", folders.len()));
                outcome.statuses.push(Status::Operation);
            }
            task.view.show(Some(&name), &Shown::Kept { folders: &folders, removed: !task.dry_run });
        }
        Err(trouble) => fail(&task.view, &mut outcome, "cleaning", &trouble, Status::Operation),
    }
    outcome.time = clock.start().elapsed();
    outcome
}

async fn clean_host(
    chosen: &Chosen,
    way: &Way,
    task: &Task,
    turn: &mut Turn,
) -> Result<Vec<KeptFolder>, Trouble> {
    let host = reach::host(chosen, false, &task.view)?;
    let mut client = tokio::select! {
        client = task.fleet.connect(turn, &host, way, &task.view) => client?,
        () = task.interrupts.first() => return Err(Trouble::from(work::INTERRUPTED.to_owned())),
    };
    let folders = client.clean(task.dry_run).await?;
    client.close().await?;
    Ok(folders)
}
