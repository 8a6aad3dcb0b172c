use std::ffi::OsString;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use crate::accelerator::{AcceleratorPolicy, Choice, choose, probe_on};
use crate::artifacts::Artifacts;
use crate::attempts::{Attempts, SoFar, Until, is_guest};
use crate::control::{Control, chosen};
use crate::event::{Event, Summary, all_guests_skipped};
use crate::execute::Stage;
use crate::kept::{Purpose, RunFolder};
use crate::schedule::do_all;
use crate::source::Supply;
use crate::suite::{Build, Suite};
use crate::verify::Verified;

/// toril's own folder on a machine, where nothing else is said.
pub const STATE: &str = "/var/lib/toril";

/// How a suite is run here.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the user says of the accelerator.
    pub accelerator: AcceleratorPolicy,
    /// Only tests that one of these means ([`crate::is_wanted`]); every test where there are none.
    pub filter: Vec<String>,
    /// Which part of them, how many side by side, how often again.
    pub control: Control,
    /// The user that tests run as, whatever the suite says.
    pub run_as: Option<String>,
    /// Whether what tests print is told as it comes ([`Event::Output`]).
    pub live: bool,
    /// What a guest reads from its first serial port: a named pipe that is fed while the guest runs. Without it the guest
    /// reads nothing.
    pub input: Option<PathBuf>,
    /// Whether guests wait for a debugger before they run ([`Event::AwaitsDebugger`]).
    pub debugger: bool,
    /// Where the tree comes from that is tested, if there is one. Relative paths of the suite start in it.
    pub source: Option<Supply>,
    /// Where what builds and tests print is kept, for root only; nothing is where nothing is named.
    pub artifacts: Option<PathBuf>,
    /// Who wants the run's folder to stay after the run; it is removed where nobody does.
    pub keep: Option<String>,
    /// What this machine was just seen to be able to do for the user whom tests run as; it is not tried again.
    pub verified: Option<Verified>,
    /// toril's own folder on this machine; the runs' folders are made in it. Others must be able to pass through it.
    pub state: PathBuf,
    /// The QEMU for guests: a path, or a name on the standard search path.
    pub qemu: String,
    /// The command line that gets to [`crate::isolate`].
    pub isolate: Vec<OsString>,
}

impl Default for Options {
    fn default() -> Options {
        // This very program, even where its file has been replaced or removed since it was started.
        let program = format!("/proc/{}/exe", process::id());
        Options {
            accelerator: AcceleratorPolicy::default(),
            filter: Vec::new(),
            control: Control::default(),
            run_as: None,
            live: false,
            input: None,
            debugger: false,
            source: None,
            artifacts: None,
            keep: None,
            verified: None,
            state: PathBuf::from(STATE),
            qemu: "qemu-system-x86_64".into(),
            isolate: vec![program.into(), "isolate".into()],
        }
    }
}

/// Runs a suite on this machine, as root: tells what happens as it happens, and what came of it. When `stop` becomes
/// true the running tests are ended and the others are skipped. Nothing that a test started is left afterwards.
pub fn run(
    suite: &Suite,
    options: &Options,
    sink: &mut (dyn FnMut(Event) + Send),
    stop: &AtomicBool,
) -> Summary {
    let (sink, control) = (Mutex::new(sink), &options.control);
    let tell = |event: Event| (sink.lock().unwrap_or_else(PoisonError::into_inner))(event);
    let run_as = options.run_as.as_deref().unwrap_or(&suite.run_as);
    let tests = chosen(suite, &options.filter, control.shard);
    tell(Event::RunStarted {
        suite: suite.name.clone(),
        tests: tests.iter().map(|test| test.name.clone()).collect(),
        left_out: suite.tests.len() - tests.len(),
        run_as: run_as.to_owned(),
        shard: control.shard,
    });
    let mut source = None;
    let mut stage = Stage::set_up(options, run_as, stop).and_then(|mut stage| {
        if let Some(supply) = &options.source {
            let mut sink = |event: Event| {
                if let Event::SourceReady { source: info, .. } = &event {
                    source = Some(info.clone());
                }
                tell(event);
            };
            stage.source = Some(stage.lay_out(supply, &mut sink)?);
        }
        Ok(stage)
    });
    let needed = |build: &&Build| tests.iter().any(|test| test.needs_build.contains(&build.name));
    let builds: Vec<&Build> = suite.builds.iter().filter(needed).collect();
    let artifacts = Artifacts::new(
        options.artifacts.clone(),
        builds.iter().map(|build| build.name.as_str()),
        tests.iter().map(|test| test.name.as_str()),
    );
    let builds =
        stage.as_ref().map_or_else(|_| Vec::new(), |stage| stage.build_all(&builds, &artifacts, &tell));
    let choice = match &stage {
        Ok(stage) if tests.iter().any(|test| is_guest(test)) => {
            let choice = choose(options.accelerator, suite.accelerator, || {
                let seen = options.verified.as_ref().and_then(|verified| verified.kvm.clone());
                seen.unwrap_or_else(|| probe_on(stage))
            });
            tell(Event::AcceleratorChosen { accelerator: choice.accelerator, reason: choice.reason.clone() });
            choice
        }
        _ => Choice { accelerator: None, reason: String::new() },
    };
    let until = suite.deadline.map(Until::from_now);
    let attempts = Attempts {
        stage: stage.as_ref().map_err(String::as_str),
        choice: &choice,
        artifacts: &artifacts,
        builds: &builds,
        retries: control.retries,
        fail_fast: suite.fail_fast || control.fail_fast,
        until,
        stop,
        tell: &tell,
        so_far: SoFar::default(),
    };
    let jobs = usize::try_from(control.jobs).unwrap_or(usize::MAX);
    let results =
        do_all(&tests, jobs, |test| test.alone || !test.gates.is_empty(), |test| attempts.run(test));
    let no_accelerator = choice.accelerator.is_none() && tests.iter().any(|test| is_guest(test));
    let no_guests = no_accelerator || all_guests_skipped(&results);
    let stopped = attempts.was_stopped();
    let folder = stage.as_mut().ok().map(|stage| Box::new(stage.keep_or_not(&suite.name)));
    let summary = Summary {
        results,
        accelerator: choice.accelerator,
        no_guests,
        stopped,
        builds: builds.clone(),
        artifacts: artifacts.kept(),
        folder,
        source,
        flaky_fails: suite.flaky_fails || control.fail_on_flaky,
    };
    if let Some(kept) = &summary.artifacts {
        tell(Event::ArtifactsKept(kept.clone()));
    }
    if let Some(folder) = summary.folder.as_ref().filter(|folder| folder.kept || folder.trouble.is_some()) {
        tell(Event::FolderKept((**folder).clone()));
    }
    tell(Event::RunEnded(summary.counts()));
    summary
}

impl Stage<'_> {
    /// What becomes of the run's folder.
    fn keep_or_not(&mut self, suite: &str) -> RunFolder {
        let directory = self.directory.path().to_string_lossy().into_owned();
        let keep = self.options.keep.as_deref().map(|who| self.directory.keep(&Purpose::now(who, suite)));
        let trouble = keep
            .as_ref()
            .and_then(|kept| kept.as_ref().err())
            .map(|why| format!("cannot keep the run's folder {directory}: {why}"));
        RunFolder { kept: matches!(keep, Some(Ok(()))), directory, trouble }
    }
}
