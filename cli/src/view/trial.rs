//! How a recipe's trials came out.

use std::time::Duration;

use console::style;
use serde::Serialize;

/// The trial of a recipe on one release.
#[derive(Debug, Serialize)]
pub(crate) struct Trial {
    pub(crate) release: String,
    pub(crate) outcome: TrialOutcome,
    /// Why it was skipped, or did not come to its end.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    /// How many resources the recipe has there.
    pub(crate) resources: usize,
    /// Whether one apply made the host what the recipe says; `None`: it was not tried.
    pub(crate) converges: Option<bool>,
    /// Whether a second one would have nothing to do.
    pub(crate) idempotent: Option<bool>,
    /// How many resources were broken on purpose.
    pub(crate) broken: usize,
    /// How many of them a check named.
    pub(crate) named: usize,
    /// How many of them an apply mended.
    pub(crate) mended: usize,
    pub(crate) faults: Vec<Fault>,
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    pub(crate) time: Duration,
}

/// What a resource is to blame for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fault {
    pub(crate) resource: String,
    pub(crate) what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TrialOutcome {
    Passed,
    /// The recipe is at fault.
    Failed,
    /// It cannot be tried here.
    Skipped,
    /// Something else kept it from its end.
    Error,
    Stopped,
}

impl Trial {
    pub(crate) fn new(release: &str) -> Trial {
        Trial {
            release: release.to_owned(),
            outcome: TrialOutcome::Error,
            reason: String::new(),
            resources: 0,
            converges: None,
            idempotent: None,
            broken: 0,
            named: 0,
            mended: 0,
            faults: Vec::new(),
            time: Duration::ZERO,
        }
    }
}

/// The header of the table.
pub(super) const HEADER: [&str; 7] =
    ["RELEASE", "CONVERGES", "IDEMPOTENT", "DRIFT NAMED", "DRIFT MENDED", "TIME", "RESULT"];

/// A trial's row in it.
pub(super) fn row(trial: &Trial) -> [String; 7] {
    let yes = |answer: Option<bool>| answer.map_or("–", |yes| if yes { "yes" } else { "no" }).to_owned();
    let converges = match trial.converges {
        Some(true) => format!("yes, {} resources", trial.resources),
        other => yes(other),
    };
    let of_broken = |count: usize| match trial.broken {
        0 => "–".to_owned(),
        broken => format!("{count} of {broken}"),
    };
    let result = match trial.outcome {
        TrialOutcome::Passed => "passed",
        TrialOutcome::Failed => "failed",
        TrialOutcome::Skipped => "skipped",
        TrialOutcome::Error => "error",
        TrialOutcome::Stopped => "stopped",
    };
    [
        trial.release.clone(),
        converges,
        yes(trial.idempotent),
        of_broken(trial.named),
        of_broken(trial.mended),
        format!("{:.1} s", trial.time.as_secs_f64()),
        result.to_owned(),
    ]
}

/// What is said below the table.
pub(super) fn remarks(trial: &Trial) -> Vec<String> {
    let release = &trial.release;
    let reason = (!trial.reason.is_empty()).then(|| {
        let words = if trial.outcome == TrialOutcome::Skipped { "skipped: " } else { "" };
        format!("{release}: {words}{}", trial.reason)
    });
    let faults = trial.faults.iter().map(|Fault { resource, what }| {
        format!("{release}: {} {what}", style(format!("{resource}:")).red().bold())
    });
    reason.into_iter().chain(faults).collect()
}

fn milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
