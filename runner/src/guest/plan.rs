use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

use super::by_hand::{ByHand, Helper};
use super::devices::{ConsoleDevice, OtherSide, ShareDevice, VsockDevice};
use super::forward::{self, LISTENING, port_is_free};
use super::kernel::KernelFile;
use super::share::{PreparedShare, ShareFolder};
use super::virtiofsd::{Channel as DaemonChannel, Kind};
use super::vsock::Vsock;
use super::{Channels, Cid, Devices, GO, GREET, Patience, QemuCommand, Sandbox, Tools};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::accelerator::Accelerator;
use crate::account::Account;
use crate::isolation::{Spec, file_placeholder};
use crate::observe::{Awaited, Channel, Heard};
use crate::plan::Plan;
use crate::run::Options;
use crate::run_directory::RunDirectory;
use crate::step::{Step, StepEnd};
use crate::suite::{CommandTest, Companion, Forward, GuestSettings, Late, Pattern, Share};
use crate::supervise::{Member, Part, Sign, Stream};
use crate::verdict::{Outcome, Verdict};

/// What a guest is planned from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'s> {
    pub options: &'s Options,
    pub account: &'s Account,
    pub tools: &'s Tools,
    pub accelerator: Accelerator,
    pub sandbox: Sandbox,
    /// The run's.
    pub directory: &'s RunDirectory,
    /// The test's own.
    pub folder: &'s Path,
    /// The tree that is tested, if there is one.
    pub source: Option<&'s Path>,
    pub deadline: Duration,
    /// For what is copied.
    pub patience: Patience<'s>,
}

impl Setting<'_> {
    /// Where relative paths start; without a tree there are none.
    fn base(&self) -> &Path {
        self.source.unwrap_or(Path::new("/"))
    }

    /// Has a program, which a suite may have named, say what it can do; held like a test, for it may do anything.
    fn ask(&self, program: &Path) -> StepEnd {
        let argv = [program.to_string_lossy().into_owned(), "--help".into()];
        let (env, output_limit) = (&[], 1 << 20);
        let step = Step { argv: &argv, env, dir: self.folder, deadline: HELP_DEADLINE, output_limit };
        // QEMU's virtiofsd gives up its groups before it says anything, which only root may; of none, there is nothing to give up.
        let account = Account { groups: Vec::new(), ..self.account.clone() };
        step.run(&account, &self.options.isolate, self.patience.stop(), self.folder)
    }
}

/// How long a program may take to say what it can do.
const HELP_DEADLINE: Duration = Duration::from_secs(10);

/// Makes everything of a guest ready that does not run yet. An error is the verdict, where it cannot be started.
pub(crate) fn plan(
    setting: Setting<'_>,
    guest: &GuestSettings,
    companion: Option<&Companion>,
) -> Result<Plan, Verdict> {
    let Setting { options, account, folder, patience, .. } = setting;
    let kernel = KernelFile::prepare(&guest.kernel, setting.base(), options, account, folder, &patience)?;
    let mut draft = Draft::new(setting);
    if let Some(share) = &guest.share {
        draft.add_share(share)?;
    }
    if guest.vsock {
        draft.add_vsock()?;
    }
    for forward in &guest.forward {
        draft.add_forward(*forward)?;
    }
    if let Some(companion) = companion {
        draft.add_companion(companion)?;
    }
    draft.finish(guest, &kernel)
}

/// A plan in the making.
struct Draft<'s> {
    setting: Setting<'s>,
    devices: Devices,
    late: Late,
    by_hand: ByHand,
    helpers: Vec<Member>,
    names: Vec<String>,
    heard: Heard,
    /// What QEMU's start waits for.
    waits: Vec<Sign>,
    cid: Option<Cid>,
    share: Option<ShareFolder>,
    warnings: Vec<String>,
    /// Where a vsock that is not the kernel's takes connections of the host.
    vsock_socket: PathBuf,
}

impl<'s> Draft<'s> {
    fn new(setting: Setting<'s>) -> Draft<'s> {
        Draft {
            setting,
            devices: Devices::default(),
            late: Late::of(setting.folder, setting.source),
            by_hand: ByHand::new(&setting.account.name, setting.folder, setting.source, setting.deadline),
            helpers: Vec::new(),
            names: Vec::new(),
            heard: Heard::default(),
            waits: Vec::new(),
            cid: None,
            share: None,
            warnings: Vec::new(),
            vsock_socket: PathBuf::new(),
        }
    }

    /// Adds a process, and returns its number among the members.
    fn add(&mut self, member: Member, name: String, channel: &str) -> usize {
        self.helpers.push(member);
        self.names.push(name);
        self.heard.helpers.push(Channel::named(channel));
        self.helpers.len()
    }

    /// What is seen when the pattern is found in what a member prints.
    fn sign(&mut self, pattern: &Pattern, member: usize) -> Sign {
        self.heard.awaited.push(Awaited { pattern: pattern.clone(), member, seen: false });
        Sign::Pattern(self.heard.awaited.len() - 1)
    }

    fn add_share(&mut self, share: &Share) -> Result<(), Verdict> {
        let Setting { account, tools, directory, folder, patience, .. } = self.setting;
        let daemon =
            tools.virtiofsd(share.virtiofsd.as_deref(), account, |program| self.setting.ask(program));
        let daemon = daemon.map_err(error)?;
        let prepared =
            PreparedShare::prepare(share, daemon, self.setting.base(), account, directory, &patience)?;
        self.late.set("guest.tag", &share.tag);
        self.late.set("guest.share", prepared.dir.to_string_lossy());
        let socket = prepared.folder.socket();
        self.devices.share = Some(ShareDevice { socket, tag: share.tag.clone() });

        let hand = &mut self.by_hand;
        let as_root = prepared.daemon.kind == Kind::C;
        let place = hand.place(as_root);
        let dir = match share.in_place {
            true => prepared.original.clone(),
            false => hand.copy_of(&prepared.original, &place),
        };
        let socket = place.join("virtiofsd.sock");
        hand.late.set("guest.tag", &share.tag);
        hand.late.set("guest.share", dir.to_string_lossy());
        hand.helper(Helper {
            argv: prepared.daemon.argv(&dir, DaemonChannel::Socket(&socket)),
            as_root,
            makes: Some(socket.clone()),
            ..Helper::default()
        });
        hand.devices.share = Some(ShareDevice { socket, tag: share.tag.clone() });
        let (member, folder) = prepared.member(account, folder);
        self.share = Some(folder);
        self.add(member, "virtiofsd".into(), "virtiofsd");
        Ok(())
    }

    fn add_vsock(&mut self) -> Result<(), Verdict> {
        let Setting { account, tools, folder, .. } = self.setting;
        let vsock = Vsock::find(account, tools.first_cid())
            .map_err(|reason| Verdict { outcome: Outcome::Skipped, reason })?;
        let cid = vsock.cid();
        for late in [&mut self.late, &mut self.by_hand.late] {
            late.set("guest.cid", cid.to_string());
            late.set("guest.vsock", "");
        }
        match vsock {
            Vsock::Vhost(lock) => {
                self.devices.vsock = Some(VsockDevice::Vhost { cid });
                self.by_hand.devices.vsock = Some(VsockDevice::Vhost { cid });
                self.cid = Some(lock);
            }
            Vsock::User { program } => {
                let paths = |path: &dyn Fn(&str) -> PathBuf| (path("vsock-device.sock"), path("vsock.sock"));
                let argv = |device: &Path, host: &Path| {
                    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
                    let program = program.to_string_lossy().into_owned();
                    vec![
                        program,
                        format!("--guest-cid={cid}"),
                        option("socket", device),
                        option("uds-path", host),
                    ]
                };
                let (device, host) = paths(&|name| self.by_hand.path(name));
                self.by_hand.late.set("guest.vsock", host.to_string_lossy());
                let argv_by_hand = argv(&device, &host);
                let makes = Some(device.clone());
                let helper = Helper { argv: argv_by_hand, makes, stays: true, ..Helper::default() };
                self.by_hand.helper(helper);
                self.by_hand.devices.vsock = Some(VsockDevice::User { socket: device });

                let (device, host) = paths(&|name| folder.join(name));
                self.late.set("guest.vsock", host.to_string_lossy());
                let spec = account.spec(argv(&device, &host), folder);
                self.devices.vsock = Some(VsockDevice::User { socket: device.clone() });
                self.waits.push(Sign::Socket(device));
                self.vsock_socket = host;
                let member = Member { part: Part::Support, spec, files: Vec::new(), waits: Vec::new() };
                self.add(member, "vhost-device-vsock".into(), "vhost-device-vsock");
            }
        }
        Ok(())
    }

    fn add_forward(&mut self, forward: Forward) -> Result<(), Verdict> {
        let Setting { account, tools, folder, .. } = self.setting;
        let Some(vsock) = self.devices.vsock.clone() else { return Ok(()) };
        tools.socat(account).map_err(error)?;
        port_is_free(forward, account).map_err(error)?;
        let cid = self.cid.as_ref().map_or(0, |cid| cid.number);
        let by_hand = forward::argv(forward, cid, &vsock, &self.by_hand.path("vsock.sock"));
        self.by_hand.helper(Helper { argv: by_hand, stays: true, ..Helper::default() });
        let spec = account.spec(forward::argv(forward, cid, &vsock, &self.vsock_socket), folder);
        let member = Member { part: Part::Support, spec, files: Vec::new(), waits: Vec::new() };
        let index = self.add(member, format!("socat for port {}", forward.from), "socat");
        let listening = Pattern::parse(LISTENING).map_err(error)?;
        let sign = self.sign(&listening, index);
        self.waits.push(sign);
        Ok(())
    }

    fn add_companion(&mut self, companion: &Companion) -> Result<(), Verdict> {
        let Setting { account, folder, .. } = self.setting;
        let root = Account::root();
        let account = if companion.as_root { &root } else { account };
        if companion.as_root && self.setting.account.uid != 0 {
            self.warnings.push("the companion runs as root".into());
        }
        let CommandTest { argv, env } = self.by_hand.late.command(&companion.command);
        let (as_root, after) = (companion.as_root, companion.after);
        let heard = companion.ready.as_ref().filter(|_| after).map(|ready| ready.as_str().to_owned());
        self.by_hand.helper(Helper { argv, env, as_root, after, heard, stays: !after, ..Helper::default() });

        let CommandTest { argv, env } = self.late.command(&companion.command);
        let mut spec = account.spec(argv, folder);
        spec.env.extend(env);
        let part = Part::Companion { leaves: (!companion.after).then_some(companion.wait) };
        let waits = if companion.after { vec![Sign::Resumed] } else { Vec::new() };
        let index =
            self.add(Member { part, spec, files: Vec::new(), waits }, "the companion".into(), "companion");
        if let Some(ready) = &companion.ready {
            let sign = self.sign(ready, if companion.after { 0 } else { index });
            match self.helpers.last_mut().filter(|_| companion.after) {
                Some(member) => member.waits.push(sign),
                None => self.waits.push(sign),
            }
        }
        Ok(())
    }

    fn finish(mut self, guest: &GuestSettings, kernel: &KernelFile) -> Result<Plan, Verdict> {
        let Setting { options, account, accelerator, sandbox, folder, .. } = self.setting;
        let (mut files, mut channels) = (Vec::<OwnedFd>::new(), Vec::new());
        let monitor = UnixStream::pair().and_then(|(theirs, mut ours)| {
            ours.write_all(if options.debugger { GREET } else { GO })?;
            Ok((theirs, ours))
        });
        let (theirs, ours) =
            monitor.map_err(|why| error(format!("cannot make QEMU's monitor socket: {why}")))?;
        files.push(theirs.into());
        channels.push((Stream::Monitor, OwnedFd::from(ours).into()));
        for (index, name) in guest.consoles.iter().enumerate() {
            let (ours, theirs) =
                console_pipe().map_err(|why| error(format!("cannot make a console's pipe: {why}")))?;
            let other_side = OtherSide::Pipe(file_placeholder(files.len()));
            self.devices.consoles.push(ConsoleDevice { name: name.clone(), other_side });
            files.push(theirs);
            channels.push((Stream::Console(index), ours.into()));
            self.heard.consoles.push(Channel::named(name));
            self.by_hand.console(name);
        }
        let debugger = options.debugger.then(free_port).transpose();
        let debugger = debugger.map_err(|why| error(format!("cannot find a port for a debugger: {why}")))?;
        (self.devices.debugger, self.by_hand.devices.debugger) = (debugger, debugger);
        let mut warnings = self.warnings;
        let realtime = guest.realtime.filter(|_| match no_cpu_to_spare(guest) {
            Some(why) => {
                warnings.push(why);
                false
            }
            None => true,
        });
        let command = |kernel, devices, late| QemuCommand {
            qemu: &options.qemu,
            guest,
            kernel,
            accelerator,
            sandbox,
            devices,
            late,
        };
        let argv = command(&kernel.used, &self.devices, &self.late)
            .argv(Channels::Runner { monitor: &file_placeholder(0) });
        let argv_by_hand =
            command(&kernel.original, &self.by_hand.devices, &self.by_hand.late).argv(Channels::ByHand);
        let input = match &options.input {
            Some(path) => {
                // For writing too: else there would be an end between two who write.
                let pipe = File::options().read(true).write(true).open(path);
                let pipe = pipe.map_err(|why| error(format!("cannot open the guest's input: {why}")))?;
                files.push(pipe.into());
                Some(files.len() - 1)
            }
            None => None,
        };
        let spec = Spec {
            files: files.len(),
            input,
            pin: guest.pin.clone(),
            realtime,
            ..account.spec(argv, folder)
        };
        let subject = Member { part: Part::Subject, spec, files, waits: self.waits };
        Ok(Plan {
            members: std::iter::once(subject).chain(self.helpers).collect(),
            channels,
            heard: self.heard,
            names: self.names,
            reproduce: self.by_hand.script(&argv_by_hand, &guest.pin, realtime),
            warnings,
            cid: self.cid,
            share: self.share,
            debugger,
        })
    }
}

/// What a guest may write to a console while nobody has time to read, in bytes: as much as the system lets anybody have.
const CONSOLE_PIPE: usize = 1 << 20;

/// The reader's and the writer's end.
fn console_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // One of the usual size does as well, if its reader keeps up.
    let _ = fcntl_setpipe_size(&writer, CONSOLE_PIPE);
    Ok((reader, writer))
}

/// A port of 127.0.0.1 that nobody has at this moment.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

pub(super) fn error(reason: String) -> Verdict {
    Verdict { outcome: Outcome::Error, reason }
}

/// Why a guest gets no real-time priority, where it would leave the host no CPU for anything else.
fn no_cpu_to_spare(guest: &GuestSettings) -> Option<String> {
    let host = available_parallelism().map_or_else(|_: io::Error| 1, usize::from);
    let used = match guest.pin.len() {
        0 => usize::try_from(guest.cpus).unwrap_or(usize::MAX),
        pinned => pinned,
    };
    (used >= host).then(|| {
        format!("no real-time priority: the guest may use {used} CPUs, and the host has {host}, so none would be to spare")
    })
}

#[cfg(test)]
mod tests {
    use rustix::io::{ioctl_fionbio, write};

    use super::*;

    /// As QEMU writes for Toro, which prints its whole report at its end: each letter by itself, and what is not taken at
    /// once is lost.
    #[test]
    fn nothing_is_lost_that_is_written_letter_by_letter_before_anybody_reads() {
        let (_reader, writer) = console_pipe().unwrap();
        ioctl_fionbio(&writer, true).unwrap();
        for number in 0..60_000 {
            assert_eq!(write(&writer, b"x"), Ok(1), "letter {number}");
        }
    }
}
