//! `acceptance`: a host of somebody's own, on which toril proves what it promises, and one file that tells of it.

mod fixture;
mod promises;
mod record;
mod redact;
mod releases;
mod stages;

use std::io::{self, IsTerminal};

use toril_inventory::Target;

use super::choices::{Chooser, ChosenSuite, both};
use super::hosts::block_on;
use super::{UsageError, reach};
use crate::arguments;
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{Shown, Verdict, View};
use record::{Output, Program, Record};
use stages::{Acceptance, Task};

/// `toril acceptance`.
pub(super) fn acceptance(arguments: &arguments::Acceptance) -> Result<Status, UsageError> {
    if let Some([file, directory]) = arguments.fixture.as_deref() {
        return fixture::make(file, directory, &arguments.way.output);
    }
    let chooser = Chooser::here()?;
    let recipe = chooser.recipe(&arguments.recipe, Some(&arguments.suite));
    let (recipe, suite) = both(recipe, chooser.suite(&arguments.suite))?;
    let Some(host) = &arguments.host else { return Err(UsageError::Other("name one host".into())) };
    let chosen = chooser.target(host, &arguments.way)?;
    let (bundle, vars) = both(recipe.of(&chosen), suite.vars_of(&chosen))?;
    let (recipe, suite) = (recipe.choice, ChosenSuite { vars, ..suite });
    let way = reach::way_to(&chosen, &reach::way(&arguments.way)?)?;
    let view = View::new(&arguments.way.output);
    let may_ask = io::stdin().is_terminal() && !arguments.way.output.json;
    let asks = !arguments.read_only && !arguments.yes && matches!(chosen.target, Target::Host(_));
    if asks && !may_ask {
        let text =
            "there is no terminal to confirm the changes on: give --yes, or only look with --read-only";
        return Err(UsageError::Other(text.into()));
    }
    let output = Output::new(arguments.output.as_deref()).map_err(UsageError::Other)?;
    let image = way.image.wait().map_err(|error| UsageError::Other(crate::client::chain(&error)))?;
    let toril = Program { version: env!("CARGO_PKG_VERSION"), sha256: image.id().to_owned() };
    let mut record = Record::new(toril, recipe, suite.choice.clone());
    // Where it cannot be written is told before the host is contacted.
    let first =
        record.text(&redact::Redaction::default()).map_err(|error| UsageError::Other(error.to_string()))?;
    output.write(&first).map_err(|error| UsageError::Other(error.to_string()))?;
    let (recipe, suite_choice) = (&record.recipe, &record.suite);
    view.show(
        None,
        &Shown::Choices {
            recipe: Some(recipe),
            suite: Some(suite_choice),
            hosts: std::slice::from_ref(&chosen.name),
        },
    );
    record.host.kind = match &chosen.target {
        Target::Sandbox(_) => "sandbox",
        Target::Host(host) if host.reach == toril_inventory::Reach::Local => "local",
        Target::Host(_) => "ssh",
    };
    let task = Task {
        chosen,
        bundle,
        suite,
        filter: arguments.suite.filter.clone(),
        control: arguments.suite.control.to_control(),
        accelerator: chooser.accelerator(arguments.suite.accelerator),
        wait: chooser.wait(&arguments.running),
        attended: arguments.running.attended,
        read_only: arguments.read_only,
        yes: arguments.yes,
        inject_drift: arguments.inject_drift,
    };
    let (record, status) = block_on(&view, async |interrupts: Interrupts| {
        Acceptance::new(task, way, &view, &interrupts, &output, record).carry_out().await
    })?;
    let (file, promises) = (output.path(), &record.promises);
    view.show(None, &Shown::Acceptance { file: &file, complete: record.complete, promises });
    let is_broken = promises.iter().any(|promise| promise.verdict == Verdict::Broken);
    // What is broken is a failure, also where no stage has failed of it.
    let status = if status == Status::Fine && is_broken { Status::Operation } else { status };
    Ok(view.finish(&[], status))
}
