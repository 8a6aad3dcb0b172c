use std::io::{self, Write};

use serde::Serialize;

use super::{HostOutcome, Shown};
use crate::exit::Status;

/// Events as JSON, one a line: on standard output, or in a report's file.
pub(super) struct Json<W> {
    out: W,
    /// Why a line could not be written; the first time.
    failure: Option<io::Error>,
}

#[derive(Serialize)]
struct Line<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'e str>,
    #[serde(flatten)]
    shown: &'e Shown<'e>,
}

#[derive(Serialize)]
struct Finished<'e> {
    event: &'static str,
    status: u8,
    hosts: Vec<FinishedHost<'e>>,
}

#[derive(Serialize)]
struct FinishedHost<'e> {
    #[serde(flatten)]
    outcome: &'e HostOutcome,
    status: u8,
    /// Tells more apart than the status.
    result: &'static str,
    milliseconds: u128,
}

impl<W: Write> Json<W> {
    pub(super) fn new(out: W) -> Json<W> {
        Json { out, failure: None }
    }

    /// Why not all was written. Taken once.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    pub(super) fn show(&mut self, host: Option<&str>, shown: &Shown<'_>) {
        self.line(&Line { host, shown });
    }

    pub(super) fn finish(&mut self, outcomes: &[HostOutcome], status: Status) {
        let hosts = outcomes.iter().map(|outcome| FinishedHost {
            outcome,
            status: outcome.status().number(),
            result: outcome.word(),
            milliseconds: outcome.time.as_millis(),
        });
        self.line(&Finished { event: "finished", status: status.number(), hosts: hosts.collect() });
    }

    /// A line that was one already.
    pub(super) fn raw(&mut self, line: &[u8]) {
        let written = self.out.write_all(line).and_then(|()| self.out.write_all(b"\n"));
        if let Err(error) = written {
            self.failure.get_or_insert(error);
        }
    }

    fn line(&mut self, value: &impl Serialize) {
        let Ok(mut text) = serde_json::to_vec(value) else { return };
        text.push(b'\n');
        // A reader that went away does not end the run: its exit status still counts.
        let written = self.out.write_all(&text).and_then(|()| self.out.flush());
        if let Err(error) = written {
            self.failure.get_or_insert(error);
        }
    }
}
