//! `doctor`: what this machine, the way to a host and the host itself lack for the job.

mod here;
mod way;

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use toril_inventory::{Chosen, Host, Reach, Target};
use toril_provisioner::{Check, CheckState};

use super::choices::Chooser;
use super::fleet::{Fleet, Turn};
use super::hosts::{all, beside, block_on};
use super::{UsageError, fail, finish, reach};
use crate::arguments::Doctor;
use crate::client::{Trouble, Way};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{HostOutcome, Shown, View};

/// `toril doctor`.
pub(super) fn doctor(arguments: &Doctor) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let named = !arguments.hosts.hosts.is_empty() || chooser.has_hosts();
    // Without any host it is about this machine.
    let targets =
        if named { chooser.targets(&arguments.hosts.hosts, &arguments.hosts.way)? } else { Vec::new() };
    let view = View::new(&arguments.hosts.way.output);
    let by_ssh = targets.is_empty() || targets.iter().any(|chosen| is_by_ssh(&chosen.target));
    let here = here::checks(by_ssh);
    view.show(None, &Shown::Checks { checks: &here, all: true });
    let way = reach::way(&arguments.hosts.way)?;
    let targets = reach::ways(targets, &way)?;
    let fleet = Rc::new(Fleet::new(&arguments.hosts));
    let outcomes = block_on(&view, async |interrupts: Interrupts| {
        let visits = targets
            .into_iter()
            .map(|(chosen, way)| visit(chosen, way, Rc::clone(&fleet), view.clone(), interrupts.clone()));
        all(visits.collect::<Vec<_>>()).await
    })?;
    // What is wrong here is no host's fault.
    let own =
        HostOutcome { host: "this machine".into(), statuses: vec![status(&here)], ..HostOutcome::default() };
    let outcomes: Vec<HostOutcome> = [own].into_iter().chain(outcomes).collect();
    Ok(finish(&view, &outcomes))
}

fn is_by_ssh(target: &Target) -> bool {
    matches!(target, Target::Host(Host { reach: Reach::Ssh(_), .. }) | Target::Sandbox(_))
}

/// The client's clock, counted from 1970.
pub(super) fn clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What checks mean for the exit status.
pub(super) fn status(checks: &[Check]) -> Status {
    let is_bad = checks.iter().any(|check| check.state == CheckState::Bad);
    if is_bad { Status::Setup } else { Status::Fine }
}

async fn visit(
    chosen: Chosen,
    way: Way,
    fleet: Rc<Fleet>,
    view: View,
    interrupts: Interrupts,
) -> HostOutcome {
    let mut outcome = HostOutcome { host: chosen.name.clone(), ..HostOutcome::default() };
    let start = Instant::now();
    let seen = async {
        let mut turn = fleet.turn().await;
        let clock = turn.clock();
        match fleet.looking(&clock, look(&chosen, &way, &fleet, &mut turn, &view)).await {
            Some(seen) => seen,
            None => Err(fleet.late(&clock)),
        }
    };
    let seen = tokio::select! {
        biased;
        () = interrupts.first() => Err(Trouble::from(super::work::INTERRUPTED.to_owned())),
        seen = seen => seen,
    };
    match seen {
        Ok(status) => outcome.statuses.push(status),
        Err(trouble) => fail(&view, &mut outcome, "looking at the host", &trouble, Status::Operation),
    }
    outcome.time = start.elapsed();
    outcome
}

async fn look(
    chosen: &Chosen,
    way: &Way,
    fleet: &Fleet,
    turn: &mut Turn,
    view: &View,
) -> Result<Status, Trouble> {
    let (name, host) = (&chosen.name, reach::host(chosen, false, view)?);
    if let Reach::Ssh(ssh) = &host.reach {
        let (ssh, way) = (ssh.clone(), way.clone());
        // It asks programs.
        let checks = beside(move || way::checks(&ssh, &way)).await?;
        view.show(Some(name), &Shown::Checks { checks: &checks, all: true });
    }
    let mut client = fleet.connect(turn, &host, way, view).await?;
    let mut checks: Vec<Check> = way::connection(&client).into_iter().collect();
    checks.push(way::round_trip(&mut client).await?);
    checks.extend(client.preflight(true, clock()).await?);
    if host.sandbox {
        // Guests are emulated there without anybody asking for it.
        checks.iter_mut().for_each(allow_emulation);
    }
    view.show(Some(name), &Shown::Checks { checks: &checks, all: true });
    client.close().await?;
    Ok(status(&checks))
}

/// Where guests may be emulated, a host without KVM can do the job.
pub(super) fn allow_emulation(check: &mut Check) {
    if check.name == toril_provisioner::KVM && check.state == CheckState::Bad {
        check.state = CheckState::Doubtful;
        check.remedy = Some("nothing, where emulated guests (TCG) will do: they are slower".into());
    }
}
