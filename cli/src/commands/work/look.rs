use std::rc::Rc;

use toril_inventory::{Host, Target};
use toril_provisioner::{CheckState, Depth, Plan};
use toril_runner::Accelerator;

use super::visit::{Place, Visit};
use super::{INTERRUPTED, Task, policy};
use crate::agent::{Job, TestJob, Tests};
use crate::client::{Client, ClientError, Trouble};
use crate::commands::fleet::{Fleet, Turn};
use crate::commands::{doctor, reach, reboot};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{Shown, View};

/// Everything that only reads. An interrupt ends it at once: there is nothing to be cleaned up.
pub(super) async fn look(
    place: Place,
    task: Rc<Task>,
    fleet: Rc<Fleet>,
    view: View,
    interrupts: Interrupts,
) -> Visit {
    let mut visit = Visit::new(&place);
    // How long it takes to make a sandbox is not the host's fault.
    let host = match host_of(&place, &task, &fleet, &view, &interrupts).await {
        Ok(host) => host,
        Err(error) => {
            visit.fail(&view, "reaching the sandbox", &error.into(), Status::Operation);
            return visit;
        }
    };
    let seen = async {
        let turn = fleet.turn().await;
        let clock = turn.clock();
        let look = look_undisturbed(Visit::new(&place), place, host, task, &fleet, turn, &view);
        match fleet.looking(&clock, look).await {
            Some(seen) => Ok(Visit { start: clock.start(), ..seen }),
            None => Err((clock.start(), fleet.late(&clock))),
        }
    };
    let visit = tokio::select! {
        biased;
        () = interrupts.first() => {
            visit.fail(&view, "looking", &INTERRUPTED.to_owned().into(), Status::Operation);
            visit
        }
        seen = seen => seen.unwrap_or_else(|(start, late)| {
            visit.start = start;
            let error = format!("{}, and was left as it is", late.error);
            visit.fail(&view, "looking", &Trouble { error, ..late }, Status::Operation);
            visit.outcome.time = start.elapsed();
            visit
        }),
    };
    view.at_rest(Some(&visit.outcome.host));
    visit
}

/// The place's host; a sandbox is made where the task says so, which no interrupt ends half-way.
async fn host_of(
    place: &Place,
    task: &Task,
    fleet: &Fleet,
    view: &View,
    interrupts: &Interrupts,
) -> Result<Host, String> {
    if !task.make || matches!(place.chosen.target, Target::Host(_)) {
        return reach::host(&place.chosen, false, view);
    }
    let _making = tokio::select! {
        biased;
        () = interrupts.first() => return Err(INTERRUPTED.to_owned()),
        making = fleet.making() => making,
    };
    reach::host_made(&place.chosen, view).await
}

async fn look_undisturbed(
    mut visit: Visit,
    place: Place,
    host: Host,
    task: Rc<Task>,
    fleet: &Fleet,
    mut turn: Turn,
    view: &View,
) -> Visit {
    let mut client = match fleet.connect(&mut turn, &host, &place.way, view).await {
        Ok(client) => client,
        Err(error) => {
            visit.fail(view, "connecting", &Trouble::from(&error), error.status());
            return visit;
        }
    };
    if let Err((doing, error)) = inspect(&mut client, &host, &place, &task, view, &mut visit).await {
        // The client is of no use any more: its end would only tell the same again, and later.
        visit.fail(view, doing, &Trouble::from(&error), error.status());
        return visit;
    }
    visit.client = Some((host, client));
    visit.turn = Some(turn);
    visit
}

async fn inspect(
    client: &mut Client,
    host: &Host,
    place: &Place,
    task: &Task,
    view: &View,
    visit: &mut Visit,
) -> Result<(), (&'static str, ClientError)> {
    if task.facts {
        view.show(Some(&host.name), &Shown::Step { text: "asking for facts" });
        let facts = client.facts().await.map_err(|error| ("facts", error))?;
        view.show(Some(&host.name), &Shown::Facts { facts: &facts });
    }
    if task.fingerprint {
        let print = client.fingerprint().await.map_err(|error| ("fingerprint", error))?;
        let comparison = task.against.of(Some(&host.name)).map(|before| before.compare(&print));
        let id = print.id();
        let shown = Shown::Fingerprint { fingerprint: &print, id: &id, comparison: comparison.as_ref() };
        view.show(Some(&host.name), &shown);
        if comparison.is_some_and(|comparison| !comparison.differences.is_empty()) {
            visit.outcome.statuses.push(Status::Drift);
        }
    }
    if task.reboot.is_some() {
        reboot::refuse_container(client).await.map_err(|error| ("reboot", error))?;
    }
    if let Some(bundle) = &place.bundle {
        view.show(Some(&host.name), &Shown::Step { text: "comparing with the recipe" });
        // Where hosts are changed, what a recipe does not say is not asked for.
        let depth = if task.strict { Depth::All } else { Depth::Touched };
        let planned = client.plan(bundle.clone(), reach::info(host), (!task.change).then_some(depth)).await;
        let (plan, findings) = planned.map_err(|error| ("plan", error))?;
        let asks = !task.yes && matches!(place.chosen.target, Target::Host(_));
        view.show(Some(&host.name), &Shown::Plan { plan: &plan, matters: !task.change || asks });
        if !findings.is_empty() {
            view.show(Some(&host.name), &Shown::Findings { findings: &findings, drift: task.strict });
        }
        visit.outcome.findings = findings.len();
        if task.strict && !findings.is_empty() {
            visit.outcome.statuses.push(Status::Drift);
        }
        let counts = plan.counts();
        visit.outcome.recipe = Some(counts);
        let reboots = task.change && task.reboot.is_some() && plan.reboot.is_some();
        let acts = task.change && plan.may_change() || reboots;
        if let Some(reason) = plan.reboot.as_ref().filter(|_| !acts) {
            reboot::tell_due(view, host, reason);
        }
        if counts.failed > 0 && !acts {
            visit.outcome.statuses.push(Status::Operation);
            return Ok(());
        }
        if acts {
            if plan.may_change()
                && !is_fit(client, host, task, &plan, view).await.map_err(|error| ("preflight", error))?
            {
                visit.outcome.problem = Some("the host cannot do the job; nothing was changed".into());
                visit.outcome.statuses.push(Status::Setup);
                return Ok(());
            }
            visit.changes = true;
            visit.jobs.push(Job::Apply { bundle: bundle.clone(), host: reach::info(host) });
            visit.jobs.extend(task.reboot.map(|deadline| Job::Reboot { deadline }));
        } else if counts.drifted > 0 {
            visit.outcome.statuses.push(Status::Drift);
        }
    }
    if task.suite.is_some() && view.reports() {
        // What they can say of the host makes them better, and nothing else worse.
        if let Ok(facts) = client.facts().await {
            view.note(&host.name, &Shown::Facts { facts: &facts });
        }
    }
    if task.verify {
        let policy = policy(task.accelerator, host);
        let emulation = policy.tcg_allowed && policy.requested != Some(Accelerator::Kvm);
        let required = task.required.clone().unwrap_or_default();
        visit.jobs.push(Job::Verify { emulation, own_kernel: task.own_kernel, required });
    }
    if let Some(suite) = &task.suite {
        visit.jobs.push(Job::Test(TestJob {
            suite: suite.document.clone(),
            tests: Tests::Suite { text: suite.text.clone(), vars: place.vars.clone() },
            policy: policy(task.accelerator, host),
            filter: task.filter.clone(),
            control: toril_runner::Control {
                shard: place.part.or(task.control.shard),
                ..task.control.clone()
            },
            live: false,
            keep: task.keep,
            source: task.source.as_ref().map(|supply| supply.order.clone()),
        }));
    }
    Ok(())
}

/// Asks, before anything is installed, whether the host can do the job at all, and tells what speaks against it.
async fn is_fit(
    client: &mut Client,
    host: &Host,
    task: &Task,
    plan: &Plan,
    view: &View,
) -> Result<bool, ClientError> {
    let downloads = plan.estimate.is_none_or(|estimate| estimate.packages > 0);
    let mut checks = client.preflight(downloads, doctor::clock()).await?;
    // An apply may be for another purpose, and emulated guests do without KVM.
    let needs_kvm = task.suite.as_ref().is_some_and(|suite| suite.needs_kvm)
        && !policy(task.accelerator, host).tcg_allowed;
    if !needs_kvm {
        checks.iter_mut().for_each(doctor::allow_emulation);
    }
    view.show(Some(&host.name), &Shown::Checks { checks: &checks, all: false });
    Ok(checks.iter().all(|check| check.state != CheckState::Bad))
}
