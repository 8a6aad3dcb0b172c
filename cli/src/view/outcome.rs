use std::time::Duration;

use serde::Serialize;
use toril_provisioner::Counts;
use toril_runner::Summary;

use crate::exit::Status;

/// How everything ended on one host.
#[derive(Debug, Default, Serialize)]
pub(crate) struct HostOutcome {
    pub(crate) host: String,
    /// How the recipe's resources stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recipe: Option<Counts>,
    /// How much was found to be wrong beyond the recipe.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) findings: usize,
    /// How the tests came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tests: Option<Summary>,
    /// Where what the tests printed is here, if it was fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifacts: Option<String>,
    /// What could not be done, in a few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
    /// Whether it could not be reached, or did not let toril in in time.
    #[serde(skip)]
    pub(crate) unreachable: bool,
    #[serde(skip)]
    pub(crate) statuses: Vec<Status>,
    #[serde(skip)]
    pub(crate) time: Duration,
}

impl HostOutcome {
    pub(crate) fn status(&self) -> Status {
        Status::worst(self.statuses.iter().copied())
    }

    /// The recipe's column, such as `5 changed, 12 unchanged`.
    pub(super) fn recipe_words(&self) -> String {
        let Some(counts) = &self.recipe else { return "–".into() };
        let found = if self.findings == 1 { "finding" } else { "findings" };
        words(&[
            (counts.failed, "failed"),
            (counts.skipped, "skipped"),
            (counts.drifted, "drifted"),
            (counts.changed, "changed"),
            (counts.satisfied, "unchanged"),
            (counts.impossible, "not possible here"),
            (counts.undecidable, "not decidable yet"),
            (self.findings, found),
        ])
    }

    /// The tests' column, such as `3 passed, 1 failed`.
    pub(super) fn tests_words(&self) -> String {
        let Some(summary) = &self.tests else { return "–".into() };
        let counts = summary.counts();
        let all = toril_runner::Outcome::ALL.map(|outcome| (counts.of(outcome) as usize, outcome.words()));
        words(&all)
    }

    /// What became of the host in one word, which tells more apart than its status does.
    pub(super) fn word(&self) -> &'static str {
        match (&self.recipe, &self.tests) {
            (Some(counts), None) if self.status() == Status::Fine && counts.changed > 0 => "changed",
            (Some(_), None) if self.status() == Status::Fine => "unchanged",
            _ => self.status_words(),
        }
    }

    /// Status words, such as `drift`.
    pub(super) fn status_words(&self) -> &'static str {
        match self.status() {
            Status::Fine => "ok",
            Status::Drift => "drift",
            Status::Tests => "tests failed",
            Status::Setup => "host or set-up",
            Status::Operation if self.unreachable => "unreachable",
            Status::Operation => "failed",
            Status::Usage => "wrong usage",
        }
    }
}

/// How many hosts came out how, such as `3 hosts: 2 unchanged, 1 unreachable`; nothing for one.
pub(super) fn summary(outcomes: &[HostOutcome]) -> Option<String> {
    const WORDS: [&str; 9] = [
        "unreachable",
        "failed",
        "host or set-up",
        "tests failed",
        "drift",
        "wrong usage",
        "changed",
        "unchanged",
        "ok",
    ];
    let of = |word: &str| outcomes.iter().filter(|outcome| outcome.word() == word).count();
    let counts = WORDS.map(|word| (of(word), word));
    (outcomes.len() > 1).then(|| format!("{} hosts: {}", outcomes.len(), words(&counts)))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn words(counts: &[(usize, &str)]) -> String {
    let parts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if parts.is_empty() { "nothing".into() } else { parts.join(", ") }
}
