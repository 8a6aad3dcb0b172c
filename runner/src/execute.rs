use std::cell::Cell as Memory;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use tempfile::TempDir;
use toril_machine::{FileAttributes, Machine, write_atomically};

use crate::accelerator::Accelerator;
use crate::account::Account;
use crate::case::Case;
use crate::event::Event;
use crate::guest::{Channels, GO, QemuCommand, Sandbox};
use crate::isolation::{Cell, Spec, file_placeholder};
use crate::observe::Transcript;
use crate::run::Options;
use crate::run_directory::RunDirectory;
use crate::shell::by_hand;
use crate::suite::{Action, CommandTest, GuestSettings, Kernel, Test};
use crate::supervise::{Supervised, supervise};
use crate::toolkit;
use crate::verdict::{Ending, Evidence, GuestEvidence, Subject, Verdict, judge};

/// Larger files are no kernels, in bytes.
const KERNEL_LIMIT: u64 = 1 << 30;

/// What every test of a run needs: the user, the run's folder, the user's wish to stop.
pub(crate) struct Stage<'r> {
    options: &'r Options,
    account: Account,
    directory: RunDirectory,
    stop: &'r AtomicBool,
    sandbox: Memory<Sandbox>,
}

/// A test that was run and judged. Its folder is removed when this is dropped: after the verdict is on record.
pub(crate) struct Executed {
    pub verdict: Verdict,
    pub cases: Vec<Case>,
    pub last_lines: Vec<String>,
    pub qemu: Vec<String>,
    pub reproduce: Option<String>,
    _folder: Option<TempDir>,
}

/// What is to be started for a test.
struct Plan {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    /// QEMU's side of its monitor, and ours.
    monitor: Option<(UnixStream, UnixStream)>,
    reproduce: String,
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
        Ok(Stage { options, account, directory, stop, sandbox: Memory::new(Sandbox::On) })
    }

    /// The user whom tests run as.
    pub(crate) fn user(&self) -> &str {
        &self.account.name
    }

    /// Runs a test and judges it; `accelerator` is for guests.
    pub(crate) fn execute(
        &self,
        test: &Test,
        accelerator: Option<Accelerator>,
        sink: &mut dyn FnMut(Event),
    ) -> Executed {
        let attempt = self.attempt(test, accelerator, sink);
        let lacks_seccomp = |line: &str| line.contains("sandbox") || line.contains("seccomp");
        match attempt {
            // A QEMU built without seccomp refuses the option; asking it beforehand would cost every run its start.
            Ok((executed, true)) if executed.last_lines.iter().any(|line| lacks_seccomp(line)) => {
                self.sandbox.set(Sandbox::Off);
                self.attempt(test, accelerator, sink).map_or_else(Executed::error, |(executed, _)| executed)
            }
            Ok((executed, _)) => executed,
            Err(why) => Executed::error(why),
        }
    }

    /// The test, and whether it may be tried again without QEMU's sandbox. An error is why nothing was started.
    fn attempt(
        &self,
        test: &Test,
        accelerator: Option<Accelerator>,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(Executed, bool), String> {
        let start = Instant::now();
        let folder = self.directory.for_test(&self.account);
        let folder = folder.map_err(|error| format!("cannot make the test's folder: {error}"))?;
        let plan = match &test.action {
            Action::Command(command) => self.plan_command(command, folder.path()),
            Action::Guest(guest) => {
                let accelerator = accelerator.ok_or("there is nothing for guests to run under")?;
                self.plan_guest(guest, accelerator, folder.path(), test.deadline)?
            }
        };
        let is_guest = plan.monitor.is_some();
        let spec = self.spec(&plan, folder.path());
        let (theirs, ours) = plan.monitor.unzip();
        let files: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
        let cell = Cell::start(&self.options.isolate, &spec, &files).map_err(|error| error.to_string())?;
        drop(files);
        // Else the monitor's end would not be seen.
        drop(theirs);
        let mut transcript = Transcript::new(test, is_guest, self.options.live, start, sink);
        let supervised = supervise(cell, ours, start, test.deadline, self.stop, &mut transcript);
        transcript.finish();
        let argv = supervised.argv.clone();
        let verdict = judge(&evidence(test, &supervised, &transcript));
        let retry = is_guest && transcript.monitor.resumed.is_none() && self.sandbox.get() == Sandbox::On;
        let executed = Executed {
            last_lines: transcript.last_lines(),
            cases: transcript.found.cases.cases,
            verdict,
            qemu: if is_guest { argv } else { Vec::new() },
            reproduce: Some(plan.reproduce),
            _folder: Some(folder),
        };
        Ok((executed, retry))
    }

    fn spec(&self, plan: &Plan, folder: &Path) -> Spec {
        Spec {
            argv: plan.argv.clone(),
            env: plan.env.clone(),
            dir: folder.to_string_lossy().into_owned(),
            uid: self.account.uid,
            gid: self.account.gid,
            groups: self.account.groups.clone(),
            files: usize::from(plan.monitor.is_some()),
        }
    }

    fn plan_command(&self, command: &CommandTest, folder: &Path) -> Plan {
        let mut env = self.account.environment(&folder.to_string_lossy());
        env.extend(command.env.iter().cloned());
        Plan {
            argv: command.argv.clone(),
            env,
            monitor: None,
            reproduce: by_hand(&self.account.name, &command.env, &command.argv, None),
        }
    }

    fn plan_guest(
        &self,
        guest: &GuestSettings,
        accelerator: Accelerator,
        folder: &Path,
        limit: Duration,
    ) -> Result<Plan, String> {
        let kernel = self.kernel(&guest.kernel, folder)?;
        let mut command = QemuCommand {
            qemu: &self.options.qemu,
            guest,
            kernel: &kernel.used,
            accelerator,
            sandbox: self.sandbox.get(),
        };
        let monitor = UnixStream::pair().and_then(|(theirs, mut ours)| {
            ours.write_all(GO)?;
            Ok((theirs, ours))
        });
        let monitor = monitor.map_err(|error| format!("cannot make QEMU's monitor socket: {error}"))?;
        let argv = command.argv(Channels::Runner { monitor: &file_placeholder(0) });
        command.kernel = &kernel.original;
        let argv_by_hand = command.argv(Channels::ByHand);
        Ok(Plan {
            argv,
            env: self.account.environment(&folder.to_string_lossy()),
            monitor: Some(monitor),
            reproduce: by_hand(&self.account.name, &[], &argv_by_hand, Some(limit)),
        })
    }

    fn kernel(&self, kernel: &Kernel, folder: &Path) -> Result<KernelFile, String> {
        match kernel {
            Kernel::Toolkit => {
                let path = install_toolkit(&self.options.state).map_err(|error| {
                    format!("cannot put the built-in guest into {}: {error}", self.options.state.display())
                })?;
                Ok(KernelFile { used: path.clone(), original: path })
            }
            Kernel::File(path) => {
                let original = self.options.base.join(path);
                let used = folder.join("kernel");
                // The user's way to it may be closed, though the file itself is for it.
                copy_kernel(&original, &used, &self.account)
                    .map_err(|error| format!("cannot read the kernel {}: {error}", original.display()))?;
                Ok(KernelFile { used, original })
            }
        }
    }
}

/// Copies a kernel, as root, for a user who could read it: nothing else, however it is named.
fn copy_kernel(original: &Path, used: &Path, account: &Account) -> io::Result<()> {
    // A pipe must not hold this up; where a link leads is judged by the file that was opened.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(original, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    let mode = metadata.mode();
    let readable = mode & 0o004 != 0
        || (mode & 0o040 != 0 && account.groups.contains(&metadata.gid()))
        || (mode & 0o400 != 0 && metadata.uid() == account.uid)
        || account.uid == 0;
    if !metadata.is_file() || metadata.len() > KERNEL_LIMIT {
        return Err(io::Error::other("it is no regular file of at most 1 GiB"));
    }
    if !readable {
        return Err(io::Error::other(format!("user {} may not read it", account.name)));
    }
    let mut copy = fs::File::create_new(used)?;
    io::copy(&mut file.take(KERNEL_LIMIT), &mut copy)?;
    copy.set_permissions(Permissions::from_mode(0o444))
}

/// A kernel where QEMU opens it, and where a person finds it.
struct KernelFile {
    used: PathBuf,
    original: PathBuf,
}

/// Makes the built-in guest a file that stays, so that what reproduces a failure works after the run.
fn install_toolkit(state: &Path) -> io::Result<PathBuf> {
    let folder = state.join("kernels");
    let path = folder.join(concat!("toolkit-", env!("CARGO_PKG_VERSION"), ".elf"));
    if fs::read(&path).is_ok_and(|content| content == toolkit::IMAGE) {
        return Ok(path);
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
    let everybody = FileAttributes { uid: 0, gid: 0, mode: 0o644 };
    write_atomically(&path, toolkit::IMAGE, Some(everybody)).map_err(io::Error::other)?;
    Ok(path)
}

impl Executed {
    fn error(why: String) -> Executed {
        Executed {
            verdict: Verdict { outcome: crate::Outcome::Error, reason: why },
            cases: Vec::new(),
            last_lines: Vec::new(),
            qemu: Vec::new(),
            reproduce: None,
            _folder: None,
        }
    }
}

fn evidence<'t>(test: &'t Test, supervised: &Supervised, transcript: &'t Transcript<'_>) -> Evidence<'t> {
    let (found, monitor) = (&transcript.found, &transcript.monitor);
    let last_words = found.last_words(matches!(test.action, Action::Guest(_)));
    let subject = match &test.action {
        Action::Command(_) => Subject::Command,
        Action::Guest(guest) => Subject::Guest(GuestEvidence {
            ends: guest.ends,
            started: monitor.resumed.is_some(),
            shutdown: monitor.shutdown.clone(),
            panicked: monitor.panicked,
            broken: found.broken.clone(),
        }),
    };
    let ending = match &supervised.ending {
        // What `unshare` says, such as that it is not permitted.
        Ending::NotStarted(why) if supervised.argv.is_empty() && !last_words.is_empty() => {
            Ending::NotStarted(format!("{why}: {last_words}"))
        }
        ending => ending.clone(),
    };
    Evidence {
        subject,
        ending,
        elapsed: supervised.elapsed,
        last_output: found.last_output,
        printed: transcript.stdout.total,
        panic_line: found.panic_line.clone(),
        exceptions: found.exceptions.clone(),
        last_error_line: last_words.to_owned(),
        rules: test.cases.as_ref(),
        cases: &found.cases,
        expected_exceptions: test.exceptions,
        unprinted: found.unprinted(test),
    }
}
