use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::capture::Capture;
use crate::supervise::{Member, Observer, Part, Sign, Stream, supervise};
use crate::verdict::{Cut, Ending, Exit, signal_name};

/// A program that is run to its end for the tests, as their user and held as they are.
pub(crate) struct Step<'s> {
    /// The program and its arguments.
    pub argv: &'s [String],
    /// Environment variables besides the standard ones.
    pub env: &'s [(String, String)],
    /// Where it works.
    pub dir: &'s Path,
    pub deadline: Duration,
    /// More output than this many bytes ends it.
    pub output_limit: u64,
}

/// A step that ended.
pub(crate) struct StepEnd {
    /// Why it did not do what it should; nothing where it exited with 0.
    pub trouble: Option<String>,
    /// What it printed on standard output.
    pub stdout: Capture,
    /// What it printed on both outputs, as it came.
    pub printed: Capture,
}

impl Step<'_> {
    /// Runs it to its end, in a namespace that `isolate` makes. Nothing of it is left when this returns. `home` is its home
    /// and its directory for temporary files.
    pub(crate) fn run(
        &self,
        account: &Account,
        isolate: &[OsString],
        stop: &AtomicBool,
        home: &Path,
    ) -> StepEnd {
        let start = Instant::now();
        let mut spec = account.spec(self.argv.to_vec(), home);
        spec.env.extend(self.env.iter().cloned());
        spec.dir = self.dir.to_string_lossy().into_owned();
        let program = Member { part: Part::Subject, spec, files: Vec::new(), waits: Vec::new() };
        let mut printed =
            Printed { stdout: Capture::default(), both: Capture::default(), limit: self.output_limit };
        let members = vec![program];
        let supervised = supervise(isolate, members, Vec::new(), start, self.deadline, stop, &mut printed);
        let trouble = match &supervised.ending {
            Ending::Exited(Exit::Code(0)) => None,
            Ending::Exited(Exit::Code(code)) => Some(format!("it exited with status {code}")),
            Ending::Exited(Exit::Signal(signal)) => {
                Some(format!("it was killed by {}", signal_name(*signal)))
            }
            Ending::Cut(Cut::Deadline(limit)) => {
                Some(format!("it was not done within its deadline of {} s", limit.as_secs_f64()))
            }
            Ending::Cut(Cut::Flood(limit)) => Some(format!("it printed more than {limit} bytes")),
            Ending::Cut(_) => Some("the run was stopped".into()),
            Ending::NotStarted(why) => Some(why.clone()),
        };
        StepEnd { trouble, stdout: printed.stdout, printed: printed.both }
    }
}

/// What a step printed.
struct Printed {
    stdout: Capture,
    both: Capture,
    limit: u64,
}

impl Observer for Printed {
    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stdout {
            self.stdout.take(bytes);
        }
        self.both.take(bytes);
    }

    fn cut(&self) -> Option<(Cut, Duration)> {
        (self.both.total > self.limit).then_some((Cut::Flood(self.limit), Duration::ZERO))
    }

    fn questions(&mut self, _: Cut) -> Option<(Vec<u8>, Duration)> {
        None
    }

    fn has_answers(&self) -> bool {
        true
    }

    fn has_seen(&self, _: &Sign) -> bool {
        false
    }
}
