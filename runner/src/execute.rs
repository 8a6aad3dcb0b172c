use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use toril_machine::Machine;

use crate::accelerator::Accelerator;
use crate::account::Account;
use crate::artifacts::Artifact;
use crate::case::Case;
use crate::event::Event;
use crate::folder::Folder;
use crate::gate::Gate;
use crate::guest::{self, Cid, Patience, Sandbox, Setting, ShareFolder, Tools};
use crate::kept::remove_sockets;
use crate::observe::{Heard, Symptoms, Transcript};
use crate::plan::Plan;
use crate::run::Options;
use crate::run_directory::RunDirectory;
use crate::shell::{by_hand, quoted};
use crate::suite::{Action, CommandTest, GuestSettings, Late, Test};
use crate::supervise::{Member, Part, Supervised, supervise};
use crate::verdict::{
    Cut, Ending, Evidence, Exit, GuestEvidence, HelperEvidence, Outcome, Subject, Verdict, judge,
};

/// How often another CID is tried where somebody else has the one that was chosen.
const MOST_CIDS: u32 = 20;

/// What every test of a run needs: the user, the run's folder, the user's wish to stop.
pub(crate) struct Stage<'r> {
    pub(crate) options: &'r Options,
    pub(crate) account: Account,
    pub(crate) directory: RunDirectory,
    pub(crate) stop: &'r AtomicBool,
    /// Where the tree is that is tested, if there is one.
    pub(crate) source: Option<PathBuf>,
    /// Why QEMU refuses its sandbox on this host, once it has.
    no_sandbox: OnceLock<String>,
    pub(crate) tools: Tools,
}

/// A test that was run and judged. Its folder is removed when this is dropped: after the verdict is on record.
pub(crate) struct Executed {
    pub verdict: Verdict,
    /// Whether its verdict is that it was not done in time, or not even ready.
    pub timed_out: bool,
    pub cases: Vec<Case>,
    /// What was measured for each gate of the test, in its unit; or why it was not.
    pub readings: Vec<Result<f64, String>>,
    pub last_lines: Vec<String>,
    /// What was learnt of it where it did not end in time.
    pub diagnosis: Vec<String>,
    /// What was not as the suite wants it, though the test ran.
    pub warnings: Vec<String>,
    pub qemu: Vec<String>,
    pub reproduce: Option<String>,
    pub times: Times,
    /// What is kept of it once its verdict is on record.
    pub artifacts: Vec<Artifact>,
    /// Its own, if something was started.
    pub folder: Option<Folder>,
    /// What its guest shared, if it did.
    pub share: Option<ShareFolder>,
}

/// How long parts of it took; nothing where they were not seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// From the start to the first byte that was printed.
    pub first_output: Option<Duration>,
    /// How long the guest ran: from QEMU's RESUME to its SHUTDOWN, or to the guest's last line.
    pub ran: Option<Duration>,
    /// From the start to the end.
    pub wall: Duration,
}

/// How a test is to be tried again, because of something that only a try could show.
enum Again {
    /// Which QEMU refuses, for this reason.
    WithoutSandbox(String),
    WithAnotherCid(u32),
}

impl<'r> Stage<'r> {
    /// Looks the user up and makes the run's folder. An error is why no test can be run.
    pub(crate) fn set_up(
        options: &'r Options,
        run_as: &str,
        stop: &'r AtomicBool,
    ) -> Result<Stage<'r>, String> {
        let account = Account::look_up(&Machine::this(), run_as).map_err(|error| error.to_string())?;
        let directory = RunDirectory::create(&options.state).map_err(|error| error.to_string())?;
        let (no_sandbox, tools) = (OnceLock::new(), Tools::default());
        Ok(Stage { options, account, directory, stop, source: None, no_sandbox, tools })
    }

    /// The user whom tests run as.
    pub(crate) fn user(&self) -> &str {
        &self.account.name
    }

    /// Is done with the folders of a test or build: they are removed, or left there without their sockets where the run's is
    /// kept.
    pub(crate) fn leave(&self, mut folder: Folder, share: Option<ShareFolder>) {
        if self.options.keep.is_some() {
            if let Some(share) = share {
                share.keep();
            }
            // With its user's rights: only that user could have made them, and nobody is led anywhere else.
            let _ = self.account.act(|| remove_sockets(folder.path()));
            folder.keep();
        }
    }

    /// Runs a test and judges it; `accelerator` is for guests.
    pub(crate) fn execute(
        &self,
        test: &Test,
        accelerator: Option<Accelerator>,
        sink: &mut dyn FnMut(Event),
    ) -> Executed {
        let mut tries = 0;
        loop {
            match self.attempt(test, accelerator, sink) {
                Ok((_, Some(Again::WithoutSandbox(why)))) => {
                    self.no_sandbox.get_or_init(|| why);
                }
                Ok((_, Some(Again::WithAnotherCid(cid)))) if tries < MOST_CIDS => {
                    tries += 1;
                    self.tools.is_taken(cid);
                }
                Ok((executed, _)) => return executed,
                Err(verdict) => return Executed::not_started(verdict),
            }
        }
    }

    /// The test, and how it is to be tried again, if so. An error is the verdict where nothing was started.
    fn attempt(
        &self,
        test: &Test,
        accelerator: Option<Accelerator>,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(Executed, Option<Again>), Verdict> {
        let folder = self.directory.for_test(&self.account);
        let folder = folder.map_err(|error| Verdict {
            outcome: Outcome::Error,
            reason: format!("cannot make the test's folder: {error}"),
        })?;
        // What another test learns meanwhile does not change how this one was started.
        let no_sandbox = self.no_sandbox.get();
        let sandbox = if no_sandbox.is_some() { Sandbox::Off } else { Sandbox::On };
        let plan = match &test.action {
            Action::Command(command) => self.plan_command(command, folder.path()),
            Action::Guest(guest) => self.plan_guest(test, guest, accelerator, sandbox, folder.path())?,
        };
        let is_guest = matches!(test.action, Action::Guest(_));
        let parts: Vec<Part> = plan.members.iter().map(|member| member.part).collect();
        if let Some(port) = plan.debugger {
            sink(Event::AwaitsDebugger { test: test.name.clone(), port });
        }
        let (start, began) = (Instant::now(), SystemTime::now());
        let mut transcript = Transcript::new(test, is_guest, self.options.live, start, plan.heard, sink);
        let supervised = supervise(
            &self.options.isolate,
            plan.members,
            plan.channels,
            start,
            test.deadline,
            self.stop,
            &mut transcript,
        );
        transcript.finish();
        let helpers = helpers(&plan.names, &parts, &supervised, &transcript);
        let telling = |member: usize| {
            helpers.get(member - 1).is_some_and(|helper| helper.part != Part::Support || helper.ended_badly())
        };
        let last_lines = transcript.last_lines(telling);
        let subject = supervised.members.first();
        let argv = subject.map(|end| end.argv.clone()).unwrap_or_default();
        let mut warnings = plan.warnings;
        if let Some(why) = no_sandbox.filter(|_| is_guest) {
            warnings.push(format!("QEMU ran without its seccomp sandbox, which it refuses here: {why}"));
        }
        if let Some(why) = subject.and_then(|end| end.not_realtime.as_ref()) {
            warnings.push(format!("no real-time priority, which is not permitted here: {why}"));
        }
        if matches!(supervised.ending, Ending::Exited(_)) {
            warnings.extend(helpers.iter().filter_map(HelperEvidence::had_to_be_ended));
        }
        let again = (is_guest && transcript.monitor.resumed.is_none())
            .then(|| again(&transcript, sandbox, plan.cid.as_ref()))
            .flatten();
        let ended = supervised.members.first().is_some_and(|subject| subject.ending.is_some());
        let verdict = judge(&evidence(test, &supervised, &transcript, helpers));
        let times = Times {
            first_output: transcript.found.first_output,
            // A guest that ends QEMU by a port is seen by its last line only.
            ran: transcript.monitor.ran().or_else(|| {
                let last = began.checked_add(transcript.found.last_output?)?;
                let resumed = UNIX_EPOCH + Duration::from_micros(transcript.monitor.resumed?);
                last.duration_since(resumed).ok()
            }),
            wall: supervised.elapsed,
        };
        let mut artifacts = vec![Artifact::of_json("end.json", &End::of(times, &plan.names, &supervised))];
        if is_guest && !argv.is_empty() {
            artifacts.push(Artifact::new("qemu.sh", by_hand("root", &[], &argv, None) + "\n"));
        }
        artifacts.push(Artifact::new("by-hand.sh", plan.reproduce.clone() + "\n"));
        let mut executed = Executed {
            times,
            last_lines,
            diagnosis: transcript.diagnosis(ended),
            readings: transcript.readings(),
            cases: take(&mut transcript.found.cases.cases),
            timed_out: matches!(supervised.ending, Ending::Cut(Cut::Deadline(_) | Cut::CaseDeadline(_))),
            verdict,
            warnings,
            artifacts,
            qemu: if is_guest { argv } else { Vec::new() },
            reproduce: Some(plan.reproduce),
            folder: Some(folder),
            share: plan.share,
        };
        let streams = transcript.into_streams();
        let streams = streams.into_iter().filter(|(_, printed)| printed.total > 0);
        executed.artifacts.extend(streams.map(|(name, printed)| Artifact::of_stream(&name, printed)));
        Ok((executed, again))
    }

    fn plan_command(&self, command: &CommandTest, folder: &Path) -> Plan {
        let source = self.source.as_deref();
        let CommandTest { argv, env } = Late::of(folder, source).command(command);
        let by_hand = by_hand(&self.account.name, &env, &argv, None);
        let reproduce = match source {
            Some(source) => format!("cd {} && {by_hand}", quoted(&source.to_string_lossy())),
            None => by_hand,
        };
        let mut spec = self.account.spec(argv, folder);
        spec.env.extend(env);
        if let Some(source) = source {
            spec.dir = source.to_string_lossy().into_owned();
        }
        let subject = Member { part: Part::Subject, spec, files: Vec::new(), waits: Vec::new() };
        Plan {
            members: vec![subject],
            channels: Vec::new(),
            heard: Heard::default(),
            names: Vec::new(),
            reproduce,
            warnings: Vec::new(),
            cid: None,
            share: None,
            debugger: None,
        }
    }

    fn plan_guest(
        &self,
        test: &Test,
        settings: &GuestSettings,
        accelerator: Option<Accelerator>,
        sandbox: Sandbox,
        folder: &Path,
    ) -> Result<Plan, Verdict> {
        let none =
            || Verdict { outcome: Outcome::Error, reason: "there is nothing for guests to run under".into() };
        let setting = Setting {
            options: self.options,
            account: &self.account,
            tools: &self.tools,
            accelerator: accelerator.ok_or_else(none)?,
            sandbox,
            directory: &self.directory,
            folder,
            source: self.source.as_deref(),
            deadline: test.deadline,
            patience: Patience::from_now(self.stop, test.deadline),
        };
        guest::plan(setting, settings, test.companion.as_ref())
    }
}

impl Executed {
    fn not_started(verdict: Verdict) -> Executed {
        Executed {
            verdict,
            timed_out: false,
            warnings: Vec::new(),
            cases: Vec::new(),
            readings: Vec::new(),
            diagnosis: Vec::new(),
            last_lines: Vec::new(),
            qemu: Vec::new(),
            reproduce: None,
            times: Times::default(),
            artifacts: Vec::new(),
            folder: None,
            share: None,
        }
    }
}

/// What QEMU said that another try can do something about.
fn again(transcript: &Transcript<'_>, sandbox: Sandbox, cid: Option<&Cid>) -> Option<Again> {
    let lines = transcript.last_lines(|_| false);
    // Asking QEMU beforehand would cost every run its start.
    if sandbox == Sandbox::On
        && let Some(why) = lines.iter().find_map(|line| Sandbox::refusal(line))
    {
        return Some(Again::WithoutSandbox(why.to_owned()));
    }
    let is_taken = lines.iter().any(|line| line.contains("unable to set guest cid"));
    cid.filter(|_| is_taken).map(|cid| Again::WithAnotherCid(cid.number))
}

/// How a test ended, as it is kept.
#[derive(Debug, Serialize)]
struct End<'t> {
    /// From its start, in milliseconds.
    wall_ms: f64,
    first_output_ms: Option<f64>,
    /// How long the guest ran.
    guest_ms: Option<f64>,
    /// What is tested first.
    processes: Vec<ProcessEnd<'t>>,
}

/// How a process of a test ended; without an exit status and a signal it was ended with the test.
#[derive(Debug, Serialize)]
struct ProcessEnd<'t> {
    name: &'t str,
    arguments: &'t [String],
    exit_status: Option<i32>,
    signal: Option<i32>,
    /// Why it did not start.
    trouble: Option<&'t str>,
}

impl<'t> End<'t> {
    fn of(times: Times, names: &'t [String], supervised: &'t Supervised) -> End<'t> {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let names = std::iter::once("the test").chain(names.iter().map(String::as_str));
        let processes = names.zip(&supervised.members).map(|(name, end)| {
            let mut process =
                ProcessEnd { name, arguments: &end.argv, exit_status: None, signal: None, trouble: None };
            match &end.ending {
                Some(Ending::Exited(Exit::Code(code))) => process.exit_status = Some(*code),
                Some(Ending::Exited(Exit::Signal(signal))) => process.signal = Some(*signal),
                Some(Ending::NotStarted(why)) => process.trouble = Some(why),
                Some(Ending::Cut(_)) | None => {}
            }
            process
        });
        End {
            wall_ms: milliseconds(times.wall),
            first_output_ms: times.first_output.map(milliseconds),
            guest_ms: times.ran.map(milliseconds),
            processes: processes.collect(),
        }
    }
}

/// What became of the processes beside the one that is tested.
fn helpers(
    names: &[String],
    parts: &[Part],
    supervised: &Supervised,
    transcript: &Transcript<'_>,
) -> Vec<HelperEvidence> {
    let told = names.iter().zip(parts.iter().skip(1)).zip(supervised.members.iter().skip(1));
    let told = told.zip(&transcript.helpers);
    told.map(|(((name, part), end), channel)| HelperEvidence {
        name: name.clone(),
        part: *part,
        begun: !end.argv.is_empty() || end.ending.is_some(),
        ending: end.ending.clone(),
        last_line: channel.last_line.clone(),
    })
    .collect()
}

fn evidence<'t>(
    test: &'t Test,
    supervised: &Supervised,
    transcript: &'t Transcript<'_>,
    helpers: Vec<HelperEvidence>,
) -> Evidence<'t> {
    let (found, monitor, asked) = (&transcript.found, &transcript.monitor, transcript.asked.as_ref());
    let Symptoms { panic_line, exceptions, broken, shutdown, panicked } = transcript.symptoms();
    let last_words = found.last_words(matches!(test.action, Action::Guest(_)));
    let subject = match &test.action {
        Action::Command(_) => Subject::Command,
        Action::Guest(guest) => Subject::Guest(GuestEvidence {
            ends: guest.ends,
            started: monitor.resumed.is_some(),
            shutdown,
            panicked,
            broken,
        }),
    };
    let begun = supervised.members.first().is_some_and(|subject| !subject.argv.is_empty());
    let ending = match &supervised.ending {
        // What `unshare` says, such as that it is not permitted.
        Ending::NotStarted(why) if !begun && !last_words.is_empty() => {
            Ending::NotStarted(format!("{why}: {last_words}"))
        }
        ending => ending.clone(),
    };
    Evidence {
        subject,
        ending,
        // What was still printed after QEMU was asked does not make it less silent.
        elapsed: asked.map_or(supervised.elapsed, |asked| asked.at),
        last_output: asked.map_or(found.last_output, |asked| asked.last_output),
        printed: transcript.printed(),
        panic_line,
        exceptions,
        last_error_line: last_words.to_owned(),
        rules: test.cases.as_ref(),
        cases: &found.cases,
        expected_exceptions: test.exceptions,
        unprinted: found.unprinted(test),
        begun,
        helpers,
        awaited: test
            .companion
            .as_ref()
            .and_then(|companion| companion.ready.as_ref())
            .filter(|ready| !transcript.has_found(ready)),
        may_be_silent: test.gates.iter().any(Gate::notices_a_short_life),
    }
}
