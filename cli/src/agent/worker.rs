use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use toril_machine::{FIGURES, Fingerprint, HostLock, LockError, LockHolder, Machine, RECIPE};
use toril_provisioner::{Bundle, HostInfo, LAST_RUN};
use toril_runner::{
    AcceleratorPolicy, Control, ExpectedEnd, Forward, GuestSettings, Kernel, OwnKernel, Probe, ProbeResult,
    Share, SourceInfo, Suite, Supply,
};

use super::front::read_recipe;
use super::journal::JournalWriter;
use super::run_directory::RunDirectory;
use super::{Ended, Job, Order, Reboot, RunEvent};

/// The unprivileged user that the recipe makes for tests.
pub(crate) const TEST_USER: &str = "toril";

/// The lock of which a host has one. /run is empty after a boot.
pub(super) const LOCK: &str = "/run/toril/lock";

/// How long a run that is to be attended goes on by itself: a client that has only lost its connection is back by then.
const UNATTENDED: Duration = Duration::from_secs(4);

/// How often it is told that a run still waits: there are CIs that end a job which prints nothing for ten minutes.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Tests to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TestJob {
    /// Where the suite came from, as messages name it.
    pub(crate) suite: String,
    pub(crate) tests: Tests,
    pub(crate) policy: AcceleratorPolicy,
    /// Only tests that one of these means; all of them where there is none.
    pub(crate) filter: Vec<String>,
    /// Which part of them, how many side by side, how often again.
    pub(crate) control: Control,
    /// Whether the guests' output is wanted as it comes.
    pub(crate) live: bool,
    /// Whether the run's folder stays on the host.
    pub(crate) keep: bool,
    /// Where the tree comes from that is tested, if there is one.
    pub(crate) source: Option<SourceOrder>,
}

/// Where a tree comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum SourceOrder {
    /// It came with the order.
    Sent(SourceInfo),
    /// The host fetches it.
    Fetch { url: String, reference: String },
}

/// What the tests are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Tests {
    /// A suite's text and the variables set by the caller.
    Suite { text: String, vars: BTreeMap<String, String> },
    /// One guest, whose kernel came with the order.
    Kernel(KernelTest),
}

/// A guest that is a test by itself: it has no cases, and any end it brings about is a good one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KernelTest {
    /// Its command line.
    pub(crate) append: String,
    /// Its memory in bytes.
    pub(crate) memory: u64,
    pub(crate) cpus: u32,
    pub(crate) deadline: Duration,
    /// What the tree that comes along is called by the guest, where one does.
    pub(crate) share: Option<String>,
    pub(crate) vsock: bool,
    pub(crate) forward: Vec<Forward>,
    /// Whether its serial port reads what the client sends.
    pub(crate) console: bool,
    /// Whether it waits for a debugger.
    pub(crate) debugger: bool,
}

impl KernelTest {
    /// `name` is what the caller calls the kernel.
    fn suite(&self, name: &str, kernel: PathBuf) -> Suite {
        let guest = GuestSettings {
            memory: self.memory,
            cpus: self.cpus,
            append: self.append.clone(),
            share: self.share.as_ref().map(|tag| Share {
                dir: ".".into(),
                tag: tag.clone(),
                in_place: false,
                virtiofsd: None,
            }),
            vsock: self.vsock,
            forward: self.forward.clone(),
            ..GuestSettings::new(Kernel::File(kernel), ExpectedEnd::Any)
        };
        let mut suite = Suite::of_kernel(guest, TEST_USER, self.deadline);
        let file = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
        suite.tests.iter_mut().for_each(|test| test.name = file.clone().into_owned());
        Suite { name: name.to_owned(), ..suite }
    }
}

/// Does what a run's order says and writes its journal. Nobody waits for it: whatever happens is in the journal.
pub(crate) fn worker(directory: PathBuf) -> io::Result<()> {
    let run = RunDirectory::at(directory);
    let _alive = run.hold_alive()?;
    super::watcher::start(&run)?;
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;
    for ignored in [SIGINT, SIGHUP] {
        signal_hook::flag::register(ignored, Arc::new(AtomicBool::new(false)))?;
    }
    let order: Order = serde_json::from_slice(&fs::read(run.order())?)?;
    let done = Arc::new(AtomicBool::new(false));
    if order.attended {
        let (run, stop, done) = (run.clone(), Arc::clone(&stop), Arc::clone(&done));
        thread::spawn(move || stop_unattended(&run, &stop, &done));
    }
    let mut worker = Worker { journal: JournalWriter::begin(&run)?, broken: None, stop };
    // It was the lock on the run's beginning, and would be handed on to all that is started here.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    worker.write(RunEvent::Began { pid: std::process::id() });
    let mut ended = Ended::default();
    let lock = match worker.lock(&order) {
        Err(error) => {
            ended.failed = true;
            worker.write(RunEvent::Failed { error });
            None
        }
        Ok(None) => {
            ended.stopped = true;
            None
        }
        Ok(Some(lock)) => {
            for job in &order.jobs {
                // A run that came to its own end was not stopped, whenever the wish came.
                ended.stopped |= worker.stop.load(Ordering::Relaxed);
                // A reboot may be all that an apply lacked, such as the modules of the installed kernel.
                let lacks = ended.converged == Some(false) && !matches!(job, Job::Reboot { .. });
                if ended.stopped || lacks {
                    break;
                }
                if let Err(error) = worker.job(job, &order.who, &run, &mut ended) {
                    ended.failed = true;
                    worker.write(RunEvent::Failed { error });
                }
                if ended.failed || ended.stopped || ended.reboot.is_some() {
                    break;
                }
            }
            Some(lock)
        }
    };
    let deadline = ended.reboot.as_ref().map(|reboot| Duration::from_secs(reboot.deadline));
    // Who hears of the end may begin the next run at once, and does not wait for the host.
    let lock = lock.filter(|_| deadline.is_some());
    // Where the tests were not come to, nobody has unpacked it.
    let _ = fs::remove_file(run.source());
    // What comes now is not to be stopped: a reboot takes away who follows.
    done.store(true, Ordering::Relaxed);
    worker.write(RunEvent::Ended { ended });
    if let Some(deadline) = deadline {
        worker.hold_until_down(deadline);
    }
    drop(lock);
    worker.broken.map_or(Ok(()), Err)
}

/// Stops a run that nobody follows any more.
fn stop_unattended(run: &RunDirectory, stop: &AtomicBool, done: &AtomicBool) {
    let mut seen = Instant::now();
    while !done.load(Ordering::Relaxed) {
        // What cannot be asked is no reason to end it.
        if run.is_followed().unwrap_or(true) {
            seen = Instant::now();
        } else if seen.elapsed() > UNATTENDED {
            return stop.store(true, Ordering::Relaxed);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// What was told of who holds the host, and after how long.
#[derive(Default)]
struct Told(Option<(Option<LockHolder>, Duration)>);

impl Told {
    /// Whether it is to be told now, which it is then.
    fn is_due(&mut self, holder: &Option<LockHolder>, waited: Duration) -> bool {
        let is_known =
            |(known, at): &(Option<LockHolder>, Duration)| known == holder && waited < *at + TELL_AGAIN;
        if self.0.as_ref().is_some_and(is_known) {
            return false;
        }
        self.0 = Some((holder.clone(), waited));
        true
    }
}

struct Worker {
    journal: JournalWriter,
    /// The first failure to write the journal: the run goes on, so that the host is not left half-way.
    broken: Option<io::Error>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn write(&mut self, event: RunEvent) {
        if let Err(error) = self.journal.write(event) {
            self.broken.get_or_insert(error);
        }
    }

    /// Takes the host, waiting as long as the order says. `None`: the run was stopped while it waited.
    fn lock(&mut self, order: &Order) -> Result<Option<HostLock>, String> {
        let what = order.jobs.iter().map(|job| match job {
            Job::Apply { bundle, .. } => format!("apply {}", bundle.origin()),
            Job::Test(job) => format!("test {}", job.suite),
            Job::Verify { .. } => "verify".into(),
            Job::Reboot { .. } => "reboot".into(),
        });
        let holder = LockHolder {
            who: order.who.clone(),
            what: what.collect::<Vec<_>>().join(", "),
            since: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            pid: std::process::id(),
        };
        let begun = Instant::now();
        let mut told = Told::default();
        loop {
            let error = match HostLock::try_acquire(Path::new(LOCK), &holder) {
                Ok(lock) => return Ok(Some(lock)),
                Err(error @ LockError::Io { .. }) => return Err(error.to_string()),
                Err(error) => error,
            };
            let waited = begun.elapsed();
            if waited >= order.wait {
                return Err(format!("{error}; try again later, or wait for it with --wait 10m"));
            }
            let holder = match error {
                LockError::Held(holder) => Some(holder),
                _ => None,
            };
            if told.is_due(&holder, waited) {
                self.write(RunEvent::Waiting { holder, waited: waited.as_secs() });
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn job(&mut self, job: &Job, who: &str, run: &RunDirectory, ended: &mut Ended) -> Result<(), String> {
        match job {
            Job::Apply { bundle, host } => self.apply(bundle, host, ended),
            Job::Test(job) => self.test(job, who, run, ended),
            Job::Verify { emulation, own_kernel, required } => {
                self.verify(*emulation, *own_kernel, required, ended)
            }
            Job::Reboot { deadline } => self.reboot(*deadline, ended),
        }
    }

    fn apply(&mut self, bundle: &Bundle, host: &HostInfo, ended: &mut Ended) -> Result<(), String> {
        let (recipe, facts) = read_recipe(bundle, host)?;
        let stop = Arc::clone(&self.stop);
        let mut sink = |event| self.write(RunEvent::Provision { event });
        let applied = toril_provisioner::apply(&recipe, &Machine::this(), &facts, &mut sink, &stop)
            .map_err(|error| error.to_string())?;
        ended.applied = Some(applied.counts);
        ended.stopped |= applied.stopped;
        ended.converged = Some(applied.converged());
        if applied.converged() {
            let line = format!("{} {}\n", bundle.origin(), bundle.hash());
            self.keep(RECIPE, line.as_bytes());
        }
        ended.reboot_due = Machine::this().reboot_pending();
        Ok(())
    }

    fn test(
        &mut self,
        job: &TestJob,
        who: &str,
        run: &RunDirectory,
        ended: &mut Ended,
    ) -> Result<(), String> {
        let suite = match &job.tests {
            Tests::Suite { text, vars } => {
                Suite::parse(&job.suite, text, vars).map_err(|problems| problems.to_string())?
            }
            Tests::Kernel(kernel) => kernel.suite(&job.suite, run.kernel()),
        };
        let stop = Arc::clone(&self.stop);
        // What a killed run's apt is still changing would be measured half-way.
        self.wait_for_packages()?;
        let (console, debugger) = match &job.tests {
            Tests::Kernel(kernel) => (kernel.console, kernel.debugger),
            Tests::Suite { .. } => (false, false),
        };
        let input = console.then(|| run.input());
        // Held open, for those who write to it before the guest is there.
        let _input = input.as_ref().map(|path| File::options().read(true).write(true).open(path));
        let options = toril_runner::Options {
            input,
            debugger,
            accelerator: job.policy,
            filter: job.filter.clone(),
            control: job.control.clone(),
            live: job.live,
            source: job.source.clone().map(|source| match source {
                SourceOrder::Sent(info) => Supply::Archive { file: run.source(), info },
                SourceOrder::Fetch { url, reference } => Supply::Fetch { url, reference },
            }),
            artifacts: Some(run.artifacts()),
            keep: job.keep.then(|| who.to_owned()),
            // What one user can do says nothing of another.
            verified: ended.verified.as_deref().filter(|_| suite.run_as == TEST_USER).cloned(),
            ..toril_runner::Options::default()
        };
        let mut sink = |event| self.write(RunEvent::Test { event });
        let summary = toril_runner::run(&suite, &options, &mut sink, &stop);
        // After the verdicts: it takes longer than some tests.
        let machine = Machine::this();
        if let Ok(facts) = machine.facts() {
            let print = Fingerprint::take(&machine, &facts, true);
            self.keep(LAST_RUN, &serde_json::to_vec(&print).unwrap_or_default());
            ended.fingerprint = Some(print);
        }
        ended.stopped |= summary.stopped;
        ended.tested = Some(summary);
        Ok(())
    }

    fn verify(
        &mut self,
        emulation: bool,
        own_kernel: OwnKernel,
        required: &[Probe],
        ended: &mut Ended,
    ) -> Result<(), String> {
        let stop = Arc::clone(&self.stop);
        self.wait_for_packages()?;
        let mut sink = |result: &ProbeResult| self.write(RunEvent::Verify { result: result.clone() });
        let verified = super::verify::verify(emulation, own_kernel, required, &mut sink, &stop)?;
        self.keep(FIGURES, &serde_json::to_vec(&verified.figures).unwrap_or_default());
        ended.stopped |= verified.stopped;
        ended.verified = Some(Box::new(verified));
        Ok(())
    }

    /// Keeps what later runs and checks compare with. What it is about is done, whether it can be kept or not.
    fn keep(&mut self, path: &str, content: &[u8]) {
        if let Err(error) = toril_machine::write_atomically(Path::new(path), content, None) {
            self.broken.get_or_insert(io::Error::other(error));
        }
    }

    fn wait_for_packages(&mut self) -> Result<(), String> {
        let stop = Arc::clone(&self.stop);
        let mut waiting = |line: &str| {
            let event = toril_provisioner::Event::Progress { resource: "packages".into(), line: line.into() };
            self.write(RunEvent::Provision { event });
        };
        toril_provisioner::wait_for_packages(&stop, &mut waiting)
    }

    /// Has the machine rebooted, if that is due, while nobody is at work on it.
    fn reboot(&mut self, deadline: Duration, ended: &mut Ended) -> Result<(), String> {
        let machine = Machine::this();
        let Some(reason) = machine.reboot_pending() else { return Ok(()) };
        self.wait_for_packages()?;
        if let Some(packages) = toril_provisioner::unfinished_packages(&machine)? {
            return Err(format!(
                "a reboot is due ({reason}), and the host is not rebooted: dpkg has not finished ({packages}), and it might not come up; \
                 see to that first: `dpkg --configure --pending` goes on with it"
            ));
        }
        let boot = machine.boot_id()?;
        // Told before it is asked for: the connection may not live long enough to tell of it afterwards.
        let deadline = deadline.as_secs();
        self.write(RunEvent::Rebooting { reason, deadline });
        machine.ask_for_reboot().map_err(|error| format!("the host is not rebooted: {error}"))?;
        ended.reboot_due = None;
        ended.reboot = Some(Reboot { boot, deadline });
        Ok(())
    }

    /// Keeps the host to itself until it goes down, so that nobody begins what the reboot would end. Going down begins
    /// with the signal that is otherwise a wish to stop.
    fn hold_until_down(&self, deadline: Duration) {
        let until = Instant::now() + deadline;
        while !self.stop.load(Ordering::Relaxed) && Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_the_host_is_told_at_once_and_then_every_minute() {
        let holder = |pid| {
            let (who, what) = ("ci@builder".to_owned(), "verify".to_owned());
            Some(LockHolder { who, what, since: 0, pid })
        };
        let mut told = Told::default();
        let due = [(1, 0), (1, 59), (1, 60), (1, 61), (2, 62), (2, 121), (2, 122), (2, 130)]
            .map(|(pid, seconds)| told.is_due(&holder(pid), Duration::from_secs(seconds)));
        assert_eq!(due, [true, false, true, false, true, false, true, false]);
    }
}
