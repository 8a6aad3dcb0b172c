use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use toril_machine::{Facts, FileAttributes, WriteError, write_atomically};
use toril_provisioner::{Finding, Plan, Survey};

use super::redact::Redaction;
use crate::agent::{Ended, RunEvent};
use crate::view::{Choice, Promise};

/// What the file says of itself.
pub(super) const FORMAT: &str = "toril-acceptance-1";

const ABOUT: &str = "What `toril acceptance` saw and did on a host, to be sent to whom it may help: what the host is, apt's \
    sources, keys, pins and candidates, its packages, modules and udev rules, the plan with its diffs, what happened, and \
    what became of each promise. It holds no passwords, no private keys and nothing of /etc/shadow. The host's names, its \
    addresses as they were given, and its people's names are replaced; the names of package mirrors are not. Read it \
    before you send it.";

/// The steps of an acceptance, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stage {
    Connect,
    Facts,
    ReadOnly,
    Apply,
    Check,
    ApplyAgain,
    Test,
    Drift,
}

impl Stage {
    pub(super) const ALL: [Stage; 8] = [
        Stage::Connect,
        Stage::Facts,
        Stage::ReadOnly,
        Stage::Apply,
        Stage::Check,
        Stage::ApplyAgain,
        Stage::Test,
        Stage::Drift,
    ];

    /// In words, as messages have it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Stage::Connect => "connecting",
            Stage::Facts => "asking for facts",
            Stage::ReadOnly => "looking",
            Stage::Apply => "the apply",
            Stage::Check => "the check after it",
            Stage::ApplyAgain => "the second apply",
            Stage::Test => "the suite",
            Stage::Drift => "the drift made on purpose",
        }
    }
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(super) enum StageOutcome {
    Done,
    Failed { why: String },
    Interrupted,
    NotTried { why: String },
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct StageRecord {
    pub(super) stage: Stage,
    #[serde(flatten)]
    pub(super) outcome: StageOutcome,
    milliseconds: u64,
}

/// All that is known, as it goes into the file.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    format: &'static str,
    about: &'static str,
    /// Whether it came to its end. What is written on the way, or after a stage that ended everything, is not.
    pub(super) complete: bool,
    pub(super) toril: Program,
    /// In UTC, by this machine's clock.
    began: String,
    pub(super) host: HostRecord,
    pub(super) recipe: Choice,
    pub(super) suite: Choice,
    pub(super) stages: Vec<StageRecord>,
    pub(super) connection: Option<ConnectionRecord>,
    pub(super) facts: Option<Facts>,
    /// Before anything was changed.
    pub(super) survey: Option<Survey>,
    pub(super) plan: Option<Plan>,
    /// What is wrong with the host beyond the recipe, before anything was changed.
    pub(super) findings: Vec<Finding>,
    pub(super) read_only: Option<ReadOnly>,
    pub(super) runs: Vec<Run>,
    /// After the apply.
    pub(super) survey_after: Option<Survey>,
    pub(super) check: Option<Plan>,
    pub(super) drift: Option<DriftRecord>,
    pub(super) promises: Vec<Promise>,
    #[serde(skip)]
    stage_began: Option<Instant>,
}

#[derive(Debug, Serialize)]
pub(super) struct Program {
    pub(super) version: &'static str,
    /// Of the binary.
    pub(super) sha256: String,
}

#[derive(Debug, Serialize)]
pub(super) struct HostRecord {
    /// `ssh`, `local`, or `sandbox` for a throwaway host made by toril.
    pub(super) kind: &'static str,
    /// What the host only imitates, where it is an imitation.
    pub(super) imitation: Option<&'static str>,
}

/// How the host was reached. Of its key only the type is kept: the fingerprint would name the host.
#[derive(Debug, Serialize)]
pub(super) struct ConnectionRecord {
    pub(super) transport: &'static str,
    pub(super) key_exchange: Option<String>,
    pub(super) host_key: Option<String>,
    pub(super) server: Option<String>,
    /// Whether a password was at hand for sudo.
    pub(super) sudo_password: bool,
    /// Bytes sent, where the agent had to be put there.
    pub(super) uploaded: Option<usize>,
}

/// Whether looking left traces.
#[derive(Debug, Serialize)]
pub(super) struct ReadOnly {
    /// Files, packages, modules and processes that were compared.
    pub(super) compared: usize,
    pub(super) changes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) stage: Stage,
    pub(super) events: Vec<TimedEvent>,
    pub(super) ended: Option<Ended>,
}

#[derive(Debug, Serialize)]
pub(super) struct TimedEvent {
    /// Since the stage began.
    pub(super) milliseconds: u64,
    pub(super) event: RunEvent,
}

/// What was broken on purpose.
#[derive(Debug, Default, Serialize)]
pub(super) struct DriftRecord {
    /// The resource, and what was done to it.
    pub(super) broken: Vec<(String, String)>,
    /// Those that a check then named.
    pub(super) named: Vec<String>,
    /// Those that an apply then mended.
    pub(super) mended: Vec<String>,
}

impl Record {
    pub(super) fn new(toril: Program, recipe: Choice, suite: Choice) -> Record {
        Record {
            format: FORMAT,
            about: ABOUT,
            complete: false,
            toril,
            began: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
            host: HostRecord { kind: "unknown", imitation: None },
            recipe,
            suite,
            stages: Vec::new(),
            connection: None,
            facts: None,
            survey: None,
            plan: None,
            findings: Vec::new(),
            read_only: None,
            runs: Vec::new(),
            survey_after: None,
            check: None,
            drift: None,
            promises: Vec::new(),
            stage_began: None,
        }
    }

    /// Notes that a stage begins now.
    pub(super) fn begin(&mut self) {
        self.stage_began = Some(Instant::now());
    }

    /// Milliseconds since the stage began.
    pub(super) fn elapsed(&self) -> u64 {
        self.stage_began.map_or(0, |began| u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn end(&mut self, stage: Stage, outcome: StageOutcome) {
        let milliseconds = self.elapsed();
        self.stage_began = None;
        self.stages.push(StageRecord { stage, outcome, milliseconds });
    }

    /// How a stage ended, if it came to that.
    pub(super) fn outcome(&self, stage: Stage) -> Option<&StageOutcome> {
        self.stages.iter().find(|record| record.stage == stage).map(|record| &record.outcome)
    }

    /// How the run of a stage ended.
    pub(super) fn ended(&self, stage: Stage) -> Option<&Ended> {
        self.runs.iter().find(|run| run.stage == stage).and_then(|run| run.ended.as_ref())
    }

    /// All of it as text, without what is private.
    pub(super) fn text(&self, redaction: &Redaction) -> io::Result<String> {
        let mut value = serde_json::to_value(self)?;
        redaction.redact(&mut value);
        Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
    }
}

/// The file, which only its owner may read.
#[derive(Debug)]
pub(super) struct Output(PathBuf);

impl Output {
    /// Where to write. A file that is there is not overwritten.
    pub(super) fn new(chosen: Option<&Path>) -> Result<Output, String> {
        let name = || format!("toril-acceptance-{}.json", jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S"));
        let chosen = chosen.map_or_else(|| PathBuf::from(name()), Path::to_path_buf);
        let path = std::path::absolute(&chosen)
            .map_err(|error| format!("cannot tell where {} is: {error}", chosen.display()))?;
        match std::fs::symlink_metadata(&path) {
            Ok(_) => Err(format!("{} is there already: name another file by --output", path.display())),
            Err(_) => Ok(Output(path)),
        }
    }

    pub(super) fn path(&self) -> std::borrow::Cow<'_, str> {
        self.0.to_string_lossy()
    }

    pub(super) fn write(&self, text: &str) -> Result<(), WriteError> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        write_atomically(&self.0, text.as_bytes(), Some(FileAttributes { uid, gid, mode: 0o600 }))
    }
}
