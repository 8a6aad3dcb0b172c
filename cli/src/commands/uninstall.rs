//! `uninstall`: what is toril's own is taken away from a host, and what stays is told.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use toril_inventory::Target;
use toril_machine::LockError;

use super::choices::Chooser;
use super::hosts::block_on;
use super::{UsageError, fail, finish, reach, work};
use crate::agent::{Footprint, RunEvent};
use crate::arguments::{Running, Uninstall};
use crate::client::{Client, Trouble, Uninstalled};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{HostOutcome, Shown, View};

/// How soon a host that is in use is asked again.
const AGAIN: Duration = Duration::from_millis(300);

/// `toril uninstall`.
pub(super) fn uninstall(arguments: &Uninstall) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let chosen = chooser.target(&arguments.host, &arguments.way)?;
    let asks = !arguments.yes && !arguments.dry_run && matches!(chosen.target, Target::Host(_));
    let may_ask = io::stdin().is_terminal() && !arguments.way.output.json;
    if asks && !may_ask {
        let text = "there is no terminal to confirm the removal on: give --yes, or look first with --dry-run";
        return Err(UsageError::Other(text.into()));
    }
    let name = chosen.name.clone();
    let view = View::new(&arguments.way.output);
    let way = reach::way_to(&chosen, &reach::way(&arguments.way)?)?;
    let wait = chooser.wait(&Running { wait: arguments.wait, attended: false });
    let mut outcome = HostOutcome { host: name.clone(), ..HostOutcome::default() };
    let start = Instant::now();
    let result = block_on(&view, async |interrupts: Interrupts| {
        let host = reach::host(&chosen, false, &view)?;
        let mut client = reach::connect_unless_interrupted(&host, &way, &view, &interrupts).await?;
        let there = tokio::select! {
            there = client.footprint() => there?,
            () = interrupts.first() => return Err(Trouble::from(work::INTERRUPTED.to_owned())),
        };
        view.show(Some(&name), &Shown::Footprint { footprint: &there, removed: false });
        let question = format!("{name}: remove what is toril's own?");
        let mut removed = None;
        if !arguments.dry_run {
            if asks && !there.own.is_empty() && !work::agreed(&question, &view, &interrupts) {
                return Err(Trouble::from("not confirmed; the host is as it was".to_owned()));
            }
            let kept = there.kept.into_iter().map(|folder| folder.directory).collect();
            removed = Some(remove(&mut client, kept, start + wait, &view, &name, &interrupts).await?);
        }
        client.close().await?;
        Ok(removed)
    })?;
    match result {
        Ok(None) => {}
        Ok(Some(footprint)) => {
            view.show(Some(&name), &Shown::Footprint { footprint: &footprint, removed: true });
            let left = footprint.own.iter().filter(|own| own.trouble.is_some()).count();
            if left > 0 {
                let all = footprint.own.len();
                outcome.problem = Some(format!("{left} of {all} could not be removed"));
                outcome.statuses.push(Status::Operation);
            }
        }
        Err(trouble) => {
            fail(&view, &mut outcome, "uninstalling", &trouble, Status::Operation);
        }
    }
    outcome.time = start.elapsed();
    Ok(finish(&view, &[outcome]))
}

/// Has it taken away, once nobody uses the host or waits for it. Nothing is done in between, so an interrupt leaves the host
/// as it is.
async fn remove(
    client: &mut Client,
    kept: Vec<PathBuf>,
    until: Instant,
    view: &View,
    name: &str,
    interrupts: &Interrupts,
) -> Result<Footprint, Trouble> {
    let (begun, mut told) = (Instant::now(), None);
    loop {
        let holder = match client.uninstall(reach::who(), kept.clone()).await? {
            Uninstalled::Tried(footprint) => return Ok(footprint),
            Uninstalled::InUse(holder) => holder,
        };
        if Instant::now() >= until {
            let error = holder.map_or(LockError::HeldUnnamed, LockError::Held).to_string();
            let remedy = Some("try again later, or wait for it with --wait 10m".to_owned());
            return Err(Trouble { error, remedy, unreachable: false });
        }
        if told.as_ref() != Some(&holder) {
            let waited = begun.elapsed().as_secs();
            let waiting = RunEvent::Waiting { holder: holder.clone(), waited };
            view.show(Some(name), &Shown::Run { run: &waiting });
            told = Some(holder);
        }
        tokio::select! {
            () = sleep(AGAIN) => {}
            () = interrupts.first() => return Err(work::INTERRUPTED.to_owned().into()),
        }
    }
}
