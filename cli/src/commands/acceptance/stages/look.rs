//! Looking at the host, which changes nothing, and that it has not.

use std::collections::BTreeSet;
use std::time::Duration;

use toril_provisioner::{Depth, Finding, Plan, Recipe, Survey, Traces};

use super::{Acceptance, End};
use crate::client::Client;
use crate::commands::acceptance::record::ReadOnly;
use crate::commands::reach;
use crate::exit::Status;
use crate::view::Shown;

/// Versions of these tell what a release is, beside those of the packages that the recipe names.
const PACKAGES: [&str; 12] = [
    "apt",
    "debian-archive-keyring",
    "dpkg",
    "libc6",
    "openssh-server",
    "python3",
    "qemu-system-x86",
    "socat",
    "sudo",
    "systemd",
    "udev",
    "virtiofsd",
];

/// How long to wait before a new process is looked for again.
const PAUSE: Duration = Duration::from_secs(3);

impl Acceptance<'_> {
    /// Returns the traces from before anything was asked.
    pub(super) async fn facts(&mut self, client: &mut Client) -> Result<Traces, End> {
        let before = self.looking("noting what is there", client.traces()).await?;
        let facts = self.looking("asking for facts", client.facts()).await?;
        self.view.show(Some(&self.task.chosen.name), &Shown::Facts { facts: &facts });
        self.record.facts = Some(facts);
        Ok(before)
    }

    pub(super) async fn look(&mut self, client: &mut Client, before: &Traces) -> Result<(), End> {
        let survey = self.survey(client).await;
        let plan = match &survey {
            Ok(_) => self.audited(client).await.map(Some),
            Err(_) => Ok(None),
        };
        // Also where the plan could not be made: it was looked all the same.
        let mut after = self.looking("comparing with what was there", client.traces()).await?;
        if !after.changes_since(before).is_empty() {
            // A process may just have been passing by.
            tokio::time::sleep(PAUSE).await;
            after = self.looking("comparing with what was there", client.traces()).await?;
        }
        let changes = after.changes_since(before);
        if !changes.is_empty() {
            self.statuses.push(Status::Operation);
        }
        self.record.read_only = Some(ReadOnly { compared: before.len(), changes });
        self.record.survey = Some(survey?);
        let Some((plan, findings)) = plan? else { return Ok(()) };
        let matters = !self.task.yes;
        self.view.show(Some(&self.task.chosen.name), &Shown::Plan { plan: &plan, matters });
        if !findings.is_empty() {
            self.view
                .show(Some(&self.task.chosen.name), &Shown::Findings { findings: &findings, drift: false });
        }
        self.record.findings = findings;
        let is_hopeless = plan.counts().failed > 0 && !plan.may_change();
        self.record.plan = Some(plan);
        match is_hopeless {
            true => Err(End::Failed(
                "looking",
                "there are resources that this host cannot have, or that could not be looked at"
                    .to_owned()
                    .into(),
                Status::Operation,
            )),
            false => Ok(()),
        }
    }

    pub(super) async fn survey(&mut self, client: &mut Client) -> Result<Survey, End> {
        let recipe = self.recipe()?;
        let described = recipe.describe();
        let named = described.iter().filter(|resource| resource.kind == "apt-packages");
        let named = named.flat_map(|resource| resource.strings("install"));
        let packages: BTreeSet<&str> = named.chain(PACKAGES).collect();
        let paths: BTreeSet<&String> = described.iter().flat_map(|resource| &resource.paths).collect();
        let packages = packages.into_iter().map(str::to_owned).collect();
        let paths = paths.into_iter().cloned().collect();
        self.looking("surveying packages, sources, modules and rules", client.survey(packages, paths)).await
    }

    /// The recipe as it is meant for this host.
    pub(super) fn recipe(&self) -> Result<Recipe, End> {
        let failed = |error: String| End::Failed("reading the recipe", error.into(), Status::Operation);
        let (Some(facts), Some(host)) = (&self.record.facts, &self.host) else {
            return Err(failed("the host's facts are not known".to_owned()));
        };
        let recipe = Recipe::read(&self.task.bundle, facts, &reach::info(host));
        recipe.map_err(|problems| failed(problems.to_string()))
    }

    pub(super) async fn plan(&self, client: &mut Client) -> Result<Plan, End> {
        self.planned(client, None).await.map(|(plan, _)| plan)
    }

    /// The plan, and what is wrong with the host beyond it.
    pub(super) async fn audited(&self, client: &mut Client) -> Result<(Plan, Vec<Finding>), End> {
        self.planned(client, Some(Depth::All)).await
    }

    async fn planned(&self, client: &mut Client, audit: Option<Depth>) -> Result<(Plan, Vec<Finding>), End> {
        let Some(host) = &self.host else { return Err(End::Interrupted) };
        let plan = client.plan(self.task.bundle.clone(), reach::info(host), audit);
        self.looking("comparing with the recipe", plan).await
    }
}
