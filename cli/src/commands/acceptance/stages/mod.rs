//! The stages of an acceptance, one after the other.

mod act;
mod look;

use std::time::Duration;

use toril_inventory::{Chosen, Host, Target};
use toril_provisioner::{Bundle, Plan};
use toril_runner::{Accelerator, Control};
use toril_transport::{Delivery, Sudo};

use super::promises;
use super::record::{ConnectionRecord, Output, Record, Stage, StageOutcome};
use super::redact::Redaction;
use crate::client::{Client, ClientError, Trouble, Way};
use crate::commands::choices::ChosenSuite;
use crate::commands::work::confirmed;
use crate::commands::{problem, reach, sandbox};
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{Shown, View};

/// What is asked for.
pub(super) struct Task {
    pub(super) chosen: Chosen,
    pub(super) bundle: Bundle,
    pub(super) suite: ChosenSuite,
    pub(super) filter: Vec<String>,
    pub(super) control: Control,
    pub(super) accelerator: Option<Accelerator>,
    pub(super) wait: Duration,
    pub(super) attended: bool,
    pub(super) read_only: bool,
    pub(super) yes: bool,
    pub(super) inject_drift: bool,
}

/// Why nothing comes after a stage.
enum End {
    Failed(&'static str, Trouble, Status),
    Interrupted,
    /// It was not to be.
    Chosen(&'static str),
    Declined,
}

impl End {
    fn client(doing: &'static str, error: &ClientError) -> End {
        End::Failed(doing, Trouble::from(error), error.status())
    }
}

/// An acceptance on its way.
pub(super) struct Acceptance<'a> {
    task: Task,
    way: Way,
    view: &'a View,
    interrupts: &'a Interrupts,
    output: &'a Output,
    record: Record,
    host: Option<Host>,
    statuses: Vec<Status>,
}

impl<'a> Acceptance<'a> {
    pub(super) fn new(
        task: Task,
        way: Way,
        view: &'a View,
        interrupts: &'a Interrupts,
        output: &'a Output,
        record: Record,
    ) -> Acceptance<'a> {
        Acceptance { task, way, view, interrupts, output, record, host: None, statuses: Vec::new() }
    }

    /// Goes through the stages, as far as it can, and writes the file after each.
    pub(super) async fn carry_out(mut self) -> (Record, Status) {
        let end = self.stages().await;
        let why = match &end {
            Ok(()) => None,
            Err(End::Failed(doing, trouble, _)) => Some(format!("{doing} failed: {}", trouble.error)),
            Err(End::Interrupted) => Some("it was interrupted before".to_owned()),
            Err(End::Chosen(why)) => Some((*why).to_owned()),
            Err(End::Declined) => Some("the changes were not confirmed".to_owned()),
        };
        if let Err(End::Failed(doing, trouble, status)) = &end {
            problem(self.view, Some(&self.task.chosen.name), doing, trouble);
            self.statuses.push(*status);
        }
        if matches!(end, Err(End::Interrupted | End::Declined)) {
            self.statuses.push(Status::Operation);
        }
        let missing = Stage::ALL.into_iter().filter(|stage| self.record.outcome(*stage).is_none());
        for stage in missing.collect::<Vec<_>>() {
            let why = match stage {
                Stage::Drift if !self.task.inject_drift => "--inject-drift was not given".to_owned(),
                _ => why.clone().unwrap_or_default(),
            };
            self.record.end(stage, StageOutcome::NotTried { why });
        }
        self.record.complete = matches!(end, Ok(()) | Err(End::Chosen(_) | End::Declined));
        self.save();
        let status = Status::worst(self.statuses.iter().copied());
        (self.record, status)
    }

    async fn stages(&mut self) -> Result<(), End> {
        let mut client = self.stage(Stage::Connect, async |this| this.connect().await).await?;
        let result = self.on_host(&mut client).await;
        let closed = client.close().await;
        result?;
        closed.map_err(|error| End::client("ending the connection", &error))
    }

    async fn on_host(&mut self, client: &mut Client) -> Result<(), End> {
        // Traces come first: asking for facts is looking, too.
        let before = self.stage(Stage::Facts, async |this| this.facts(client).await).await?;
        self.stage(Stage::ReadOnly, async |this| this.look(client, &before).await).await?;
        if self.task.read_only {
            return Err(End::Chosen("--read-only was given"));
        }
        let is_sandbox = self.host.as_ref().is_some_and(|host| host.sandbox);
        let changes = self.record.plan.as_ref().is_some_and(Plan::may_change);
        if changes
            && !self.task.yes
            && !is_sandbox
            && !confirmed(&self.task.chosen.name, false, self.view, self.interrupts)
        {
            return Err(End::Declined);
        }
        self.stage(Stage::Apply, async |this| this.apply(client, Stage::Apply).await).await?;
        self.stage(Stage::Check, async |this| this.check(client).await).await?;
        // As `up` has it: what is tested on half a host tells nothing.
        let is_done = |stage| self.record.outcome(stage) == Some(&StageOutcome::Done);
        if !is_done(Stage::Apply) || !is_done(Stage::Check) {
            return Err(End::Chosen("the host is not as the recipe says"));
        }
        self.stage(Stage::ApplyAgain, async |this| this.apply_again(client).await).await?;
        self.stage(Stage::Test, async |this| this.test(client).await).await?;
        if self.task.inject_drift {
            self.stage(Stage::Drift, async |this| this.drift(client).await).await?;
        }
        Ok(())
    }

    /// One stage: what came of it is on record, and in the file, before the next one begins.
    async fn stage<T>(
        &mut self,
        stage: Stage,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, End>,
    ) -> Result<T, End> {
        self.record.begin();
        let failures = self.statuses.len();
        let result = work(self).await;
        let outcome = match &result {
            Ok(_) if self.statuses.len() == failures => StageOutcome::Done,
            Ok(_) => StageOutcome::Failed { why: promises::failure(&self.record, stage) },
            Err(End::Interrupted) => StageOutcome::Interrupted,
            Err(End::Failed(_, trouble, _)) => StageOutcome::Failed { why: trouble.error.clone() },
            Err(End::Chosen(why)) => StageOutcome::NotTried { why: (*why).to_owned() },
            Err(End::Declined) => StageOutcome::NotTried { why: "not confirmed".to_owned() },
        };
        self.record.end(stage, outcome);
        self.save();
        result
    }

    /// Writes what is known so far. That the file cannot be written any more is told, and ends nothing.
    fn save(&mut self) {
        self.record.promises = promises::judge(&self.record);
        let redaction = Redaction::of(self.host.as_ref(), self.record.facts.as_ref());
        let written = self
            .record
            .text(&redaction)
            .map_err(|error| error.to_string())
            .and_then(|text| self.output.write(&text).map_err(|error| error.to_string()));
        if let Err(error) = written {
            problem(self.view, None, "writing the file", &error.into());
            self.statuses.push(Status::Operation);
        }
    }

    /// Waits for something that only looks; an interrupt ends it at once.
    async fn looking<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, End> {
        self.view.show(Some(&self.task.chosen.name), &Shown::Step { text: doing });
        tokio::select! {
            biased;
            () = self.interrupts.first() => Err(End::Interrupted),
            result = work => result.map_err(|error| End::client(doing, &error)),
        }
    }

    async fn connect(&mut self) -> Result<Client, End> {
        let name = self.task.chosen.name.clone();
        let failed = |error: String| End::Failed("reaching the sandbox", error.into(), Status::Operation);
        let host = reach::host(&self.task.chosen, false, self.view).map_err(failed)?;
        if let Target::Sandbox(sandbox) = &self.task.chosen.target {
            let release =
                sandbox::existing(sandbox).map_err(failed)?.map(|sandbox| sandbox.release().to_owned());
            let release = release.and_then(|release| toril_sandbox::Release::parse(&release).ok());
            if release.is_some_and(|release| release.is_fixture) {
                self.record.host.imitation = Some(toril_sandbox::FIXTURE_LIMITS);
                let text = format!("this is {}", toril_sandbox::FIXTURE_LIMITS);
                self.view.show(Some(&name), &Shown::Note { text: &text });
            }
        }
        self.host = Some(host.clone());
        let (way, view) = (self.way.clone(), self.view);
        let client = self.looking("connecting", reach::connect(&host, &way, view)).await?;
        self.record.connection = client.connection().map(|(connection, delivery)| ConnectionRecord {
            transport: connection.transport,
            key_exchange: connection.key_exchange.clone(),
            host_key: connection
                .host_key
                .iter()
                .filter_map(|key| key.split(' ').next())
                .map(str::to_owned)
                .next(),
            server: connection.server.clone(),
            sudo_password: matches!(way.sudo, Sudo::Password(_)),
            uploaded: match delivery {
                Delivery::Uploaded { bytes, .. } => Some(*bytes),
                _ => None,
            },
        });
        Ok(client)
    }
}
