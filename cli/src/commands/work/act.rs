use std::fs::File;
use std::io::{self, BufRead, Write};
use std::rc::Rc;

use rustix::termios::{QueueSelector, tcflush};
use tokio::time::Instant;
use toril_runner::Probe;

use super::Task;
use super::visit::{Course, Visit};
use crate::agent::{Ended, Order, RunEvent};
use crate::client::{Parcels, Told, Trouble};
use crate::commands::fleet::Fleet;
use crate::commands::{artifacts, reach, reboot};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{HostOutcome, View};

/// Whether somebody at the terminal wants the host to be changed.
pub(in crate::commands) fn confirmed(
    host: &str,
    reboots: bool,
    view: &View,
    interrupts: &Interrupts,
) -> bool {
    let reboot = if reboots { ", and reboot it if that is due" } else { "" };
    agreed(&format!("{host}: change it as shown{reboot}?"), view, interrupts)
}

/// Whether the answer to a question is yes.
pub(in crate::commands) fn agreed(question: &str, view: &View, interrupts: &Interrupts) -> bool {
    view.suspend(|| {
        let mut answer = String::new();
        let asked = ask(&format!("{question} [y/N] "));
        asked.and_then(|()| interrupts.wait_for_line()).is_ok_and(|typed| typed)
            && io::stdin().lock().read_line(&mut answer).is_ok()
            && matches!(answer.trim(), "y" | "Y" | "yes")
    })
}

/// Puts a question on the terminal, whatever standard output and standard error are.
fn ask(question: &str) -> io::Result<()> {
    // What was typed before is no answer to it.
    tcflush(io::stdin(), QueueSelector::IFlush)?;
    match File::options().write(true).open("/dev/tty") {
        Ok(mut terminal) => terminal.write_all(question.as_bytes()),
        // It is not this program's own.
        Err(_) => io::stderr().write_all(question.as_bytes()),
    }
}

/// Everything that changes or measures.
pub(super) async fn act(
    mut visit: Visit,
    task: Rc<Task>,
    fleet: Rc<Fleet>,
    view: View,
    interrupts: Interrupts,
) -> HostOutcome {
    let jobs = std::mem::take(&mut visit.jobs);
    if let Some((host, mut client)) = visit.client.take() {
        let mut lost = false;
        if !jobs.is_empty() {
            let order = Order { who: reach::who(), wait: task.wait, attended: task.attended, jobs };
            let source = task.source.as_ref().and_then(|supply| supply.parcel.as_ref());
            let parcels = Parcels { source, ..Parcels::default() };
            let mut turn = match visit.turn.take() {
                Some(turn) => turn,
                None => {
                    let waiting = Instant::now();
                    let turn = fleet.place().await;
                    visit.start += waiting.elapsed();
                    turn
                }
            };
            let mut failure = None;
            let mut hear = |told: &Told| match told {
                // Waiting for it need not keep others waiting.
                Told::Lost(_) => turn.give_back(),
                Told::Run(RunEvent::Failed { error }) => failure = Some(error.clone()),
                _ => {}
            };
            visit.course = Course::Unknown;
            let run = async |interrupts: Interrupts| {
                reboot::run(&mut client, &host, order, parcels, &view, &interrupts, &mut hear).await
            };
            let (ended, late) = fleet.within_deadline(visit.start, &interrupts, run).await;
            if let (Some(ran), Some(_)) = (&ended, &task.suite) {
                let into = task.artifacts.as_deref();
                let until = fleet.rest(visit.start);
                lost = !artifacts::fetch(&mut client, ran, into, until, &view, &mut visit.outcome).await;
            }
            match ended {
                None => {
                    lost = true;
                    let error =
                        format!("it did not end within {}, nor stop when asked to", fleet.deadline_words());
                    let remedy = Some(format!("`toril attach {}` shows what it does", host.name));
                    let trouble = Trouble { error, remedy, unreachable: false };
                    visit.fail(&view, "the run", &trouble, Status::Operation);
                }
                Some(Ok(ended)) => {
                    let cut_short = ended.failed || ended.stopped;
                    visit.course = if cut_short { Course::CutShort } else { Course::Done };
                    if late {
                        let text = format!("stopped: it took longer than {}", fleet.deadline_words());
                        visit.outcome.problem = Some(text);
                        visit.outcome.statuses.push(Status::Operation);
                    } else if cut_short {
                        visit.outcome.problem = Some(cut_short_by(failure));
                    }
                    visit.tell_part();
                    if let Some(reason) = &ended.reboot_due {
                        reboot::tell_due(&view, &host, reason);
                    }
                    let is_ready = |required: &Vec<Probe>| {
                        ended.verified.as_ref().is_none_or(|verified| verified.is_ready(required))
                    };
                    // Where guests are to run, a host that boots none is not set up, whatever else went well.
                    let boots_none = ended.verified.as_ref().is_some_and(|verified| verified.boots_none());
                    if !task.required.as_ref().is_none_or(is_ready) || boots_none {
                        visit.outcome.statuses.push(Status::Setup);
                    }
                    conclude(&mut visit.outcome, ended);
                }
                Some(Err(error)) => {
                    lost = true;
                    if client.last_run().is_none() && error.is_before_the_run() {
                        visit.course = Course::NotBegun;
                    }
                    visit.fail(&view, "the run", &Trouble::from(&error), error.status());
                }
            }
        }
        // One that is lost may keep silent for long.
        if !lost && let Err(error) = client.close().await {
            visit.fail(&view, "ending the connection", &Trouble::from(&error), error.status());
        }
    }
    if visit.outcome.time.is_zero() {
        visit.outcome.time = visit.start.elapsed();
    }
    view.at_rest(Some(&visit.outcome.host));
    visit.outcome
}

/// Why a run ended too early, in a few words: by what it said itself, or because somebody wanted it.
fn cut_short_by(failure: Option<String>) -> String {
    match failure.as_deref().and_then(|failure| failure.lines().next()) {
        Some(failure) => format!("the run: {failure}"),
        None => "the run: stopped before the end, as was asked".to_owned(),
    }
}

/// What a run's end means for the host.
pub(in crate::commands) fn conclude(outcome: &mut HostOutcome, ended: Ended) {
    if let Some(counts) = ended.applied {
        outcome.recipe = Some(counts);
    }
    if ended.failed || ended.stopped || ended.converged == Some(false) {
        outcome.statuses.push(Status::Operation);
    }
    if let Some(summary) = &ended.tested {
        outcome.statuses.push(match toril_runner::exit_status(summary) {
            0 => Status::Fine,
            4 => Status::Tests,
            5 => Status::Setup,
            _ => Status::Operation,
        });
    }
    outcome.tests = ended.tested;
}
