use std::env;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use toril_inventory::{Host, Reach, Ssh};

use crate::base::{Base, Flavour};
use crate::host_dir::HostDir;
use crate::launch::{self, Launched};
use crate::options::{Options, Progress};
use crate::plan::{self, Plan, Running};
use crate::snapshots::{self, Snapshot};
use crate::{Dirs, Error, Kind, Machine, Release, files, fixture, name, ports, tools, vm};

/// The sandboxes of this machine.
#[derive(Debug, Clone)]
pub struct Sandboxes {
    dirs: Dirs,
    stage_exe: Vec<OsString>,
}

/// A sandbox, as it was when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    name: String,
    state: State,
    dir: PathBuf,
    address: Ipv4Addr,
    port: u16,
    from: Option<String>,
    release: String,
    machine: Option<Machine>,
    init: Option<u32>,
}

/// Whether a sandbox is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its processes run.
    Running,
    /// They were killed, or the machine was started anew; `up` begins afresh, `down` clears it away.
    Dead,
}

impl Sandbox {
    /// Its name, which is its host name too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it runs.
    pub fn state(&self) -> State {
        self.state
    }

    /// The loopback address of its sshd.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The port of its sshd.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The snapshot that it was made from.
    pub fn from(&self) -> Option<&str> {
        self.from.as_deref()
    }

    /// The version of the Debian release that it is, such as `12`.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        Kind::of(self.machine.as_ref())
    }

    /// The virtual machine; `None` for a container.
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// The process on this machine with which the whole sandbox ends; `None` for a dead one.
    pub fn init_pid(&self) -> Option<u32> {
        self.init
    }

    /// What its sshd, and before that its start, said; a virtual machine's serial console.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The way in: as `debian`, who may sudo without a password.
    pub fn host(&self) -> Host {
        Host {
            name: self.name.clone(),
            sandbox: true,
            reach: Reach::Ssh(Ssh {
                host: self.address.to_string(),
                user: Some("debian".to_owned()),
                port: Some(self.port),
                identity: Some(self.dir.join("id_ed25519")),
                known_hosts: Some(self.dir.join("known_hosts")),
                ..Ssh::default()
            }),
        }
    }

    /// Itself, unless the options name another release, or ask for a virtual machine where it is none.
    fn if_like(self, options: &Options) -> Result<Sandbox, Error> {
        let of = format!("sandbox {}", self.name);
        of_release(&of, &self.release, options.release)?;
        if options.machine.is_some() {
            of_kind(&of, self.kind(), options.kind())?;
        }
        Ok(self)
    }

    /// `None` while `up` has only begun.
    fn read(dir: &Path, name: &str) -> Result<Option<Sandbox>, Error> {
        let Some(plan) = Plan::read(dir)? else { return Ok(None) };
        let running = match Running::read(dir)? {
            Some(running) if running.is_alive()? => Some(running),
            _ => None,
        };
        Ok(Some(Sandbox {
            name: name.to_owned(),
            state: if running.is_some() { State::Running } else { State::Dead },
            dir: dir.to_owned(),
            address: plan.address,
            port: plan.port,
            from: plan.from,
            release: plan.release,
            machine: plan.machine,
            init: running.map(|running| running.init.pid),
        }))
    }
}

impl Sandboxes {
    /// Those in [`Dirs::system`]; this program's command `sandbox-stage` is their stage.
    ///
    /// # Errors
    /// This program's own path cannot be found out.
    pub fn system() -> Result<Sandboxes, Error> {
        let exe = env::current_exe().map_err(Error::io("find", Path::new("/proc/self/exe")))?;
        Ok(Sandboxes::at(Dirs::system(), vec![exe.into(), "sandbox-stage".into()]))
    }

    /// Those in `dirs`. `stage_exe` is a program and its first arguments that calls [`stage`](crate::stage()) with the
    /// arguments that are put after these.
    pub fn at(dirs: Dirs, stage_exe: Vec<OsString>) -> Sandboxes {
        Sandboxes { dirs, stage_exe }
    }

    /// Makes a sandbox and waits until its sshd answers. One that runs already is returned as it is, whatever
    /// `options` says, if it is of the release that they name; a dead one of that name is cleared away, files and all, and made anew.
    ///
    /// # Errors
    /// Not root, programs missing, no mirror, disk full; a sandbox that did not answer is killed.
    pub fn up(
        &self,
        name: &str,
        options: &Options,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Sandbox, Error> {
        name::check(name)?;
        options.check()?;
        tools::check("making a sandbox", options.kind())?;
        if let Some(sandbox) = self.get(name)?.filter(|sandbox| sandbox.state == State::Running) {
            let host_dir = HostDir::lock(&sandbox.dir, name)?;
            if let Some(host_dir) = host_dir
                && let Some(sandbox) = wait_if_running(&host_dir)?
            {
                return sandbox.if_like(options);
            }
        }
        let (lowers, release) = self.layers(options, progress)?;
        let host_dir = HostDir::make_and_lock(&self.host_path(name), name)?;
        if let Some(sandbox) = wait_if_running(&host_dir)? {
            return sandbox.if_like(options);
        }
        progress(Progress::Starting);
        let started = self.start(&host_dir, options, &lowers, &release, progress);
        if started.is_err() {
            // The log stays for the reader; nothing runs.
            host_dir.kill()?;
        }
        started
    }

    /// What a sandbox stands on, the topmost first, and the release that this is.
    fn layers(
        &self,
        options: &Options,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Vec<PathBuf>, String), Error> {
        let Some(name) = &options.from else {
            let release = options.release.unwrap_or_default();
            let flavour = match options.kind() {
                Kind::Container if release.is_fixture => &fixture::DEBIAN_10,
                Kind::Container => &Flavour::CONTAINER,
                Kind::VirtualMachine => &vm::IMAGE,
            };
            let sources = options.sources.as_deref();
            let base = Base::ensure(&self.dirs.base, flavour, release, sources, progress)?;
            return Ok((vec![base.lowest(flavour)], release.name()));
        };
        let snapshot = Snapshot::find(&self.dirs, name)?;
        let of = format!("snapshot {name}");
        of_release(&of, snapshot.release(), options.release)?;
        of_kind(&of, snapshot.kind(), options.kind())?;
        Ok((snapshot.layers()?, snapshot.release().to_owned()))
    }

    fn start(
        &self,
        host_dir: &HostDir,
        options: &Options,
        lowers: &[PathBuf],
        release: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Sandbox, Error> {
        const TRIES: u32 = 5;
        for attempt in 1..=TRIES {
            host_dir.clear()?;
            let (address, port) = ports::free(&host_dir.name)?;
            let plan = Plan {
                name: host_dir.name.clone(),
                address,
                port,
                lowers: lowers.to_vec(),
                disk_limit: options.disk_limit,
                from: options.from.clone(),
                release: release.to_owned(),
                machine: options.machine.clone(),
                home: plan::mount_namespace()?,
            };
            plan.write(&host_dir.path)?;
            launch::make_keys(&host_dir.path, &plan)?;
            if let (Kind::VirtualMachine, Some(below)) = (plan.kind(), lowers.first()) {
                vm::write_credential(&host_dir.path, &plan)?;
                vm::make_overlay(below, &host_dir.path)?;
            }
            match launch::launch(host_dir, &plan, &self.stage_exe)? {
                Launched::Up => break,
                Launched::PortTaken if attempt < TRIES => progress(Progress::PortTaken { port }),
                Launched::PortTaken => return Err(Error::NoPort(host_dir.name.clone())),
            }
        }
        Sandbox::read(&host_dir.path, &host_dir.name)?
            .ok_or_else(|| Error::NoSuchSandbox(host_dir.name.clone()))
    }

    /// The sandbox of that name, running or dead.
    ///
    /// # Errors
    /// Not root; a state file that cannot be understood.
    pub fn get(&self, name: &str) -> Result<Option<Sandbox>, Error> {
        name::check(name)?;
        need_root_to("looking for sandboxes")?;
        Sandbox::read(&self.host_path(name), name)
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// Not root; a state file that cannot be understood.
    pub fn list(&self) -> Result<Vec<Sandbox>, Error> {
        need_root_to("looking for sandboxes")?;
        let read = |name: &String| Sandbox::read(&self.host_path(name), name).transpose();
        files::list(&self.dirs.hosts())?.iter().filter_map(read).collect()
    }

    /// Kills every process of a sandbox and removes its files. Whether there was one.
    ///
    /// # Errors
    /// Not root; a process that does not end, or a file that cannot be removed.
    pub fn down(&self, name: &str) -> Result<bool, Error> {
        name::check(name)?;
        need_root_to("taking a sandbox down")?;
        let Some(host_dir) = HostDir::lock(&self.host_path(name), name)? else { return Ok(false) };
        host_dir.remove().map(|()| true)
    }

    /// The same for all; their names. Goes on after an error and returns the first one.
    ///
    /// # Errors
    /// As [`Sandboxes::down`].
    pub fn down_all(&self) -> Result<Vec<String>, Error> {
        need_root_to("taking sandboxes down")?;
        let mut gone = Vec::new();
        let mut first_error = None;
        for name in files::list(&self.dirs.hosts())? {
            match self.down(&name) {
                Ok(true) => gone.push(name),
                Ok(false) => {}
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(gone), Err)
    }

    /// Takes a sandbox down and keeps what it had written, for [`Options::from`]. A virtual machine shuts down for it.
    ///
    /// # Errors
    /// No such sandbox, one with a disk limit (its files are in memory), a name that is taken; a virtual machine that
    /// does not run, or does not shut down.
    pub fn snapshot(&self, name: &str, save_as: &str) -> Result<Snapshot, Error> {
        name::check(name)?;
        name::check(save_as)?;
        need_root_to("keeping a snapshot")?;
        let no_such = || Error::NoSuchSandbox(name.to_owned());
        let host_dir = HostDir::lock(&self.host_path(name), name)?.ok_or_else(no_such)?;
        let plan = Plan::read(&host_dir.path)?.ok_or_else(no_such)?;
        snapshots::take(&self.dirs, host_dir, &plan, save_as)
    }

    /// The snapshots, by name.
    ///
    /// # Errors
    /// Not root; a state file that cannot be understood.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        need_root_to("looking for snapshots")?;
        Snapshot::list(&self.dirs)
    }

    /// Removes a snapshot. Whether there was one.
    ///
    /// # Errors
    /// A sandbox or another snapshot stands on it.
    pub fn remove_snapshot(&self, name: &str) -> Result<bool, Error> {
        name::check(name)?;
        need_root_to("removing a snapshot")?;
        let users = self.list()?.into_iter().filter(|sandbox| sandbox.from() == Some(name));
        let in_use = users.map(|sandbox| format!("sandbox {}", sandbox.name())).next();
        snapshots::remove(&self.dirs, name, in_use)
    }

    /// The cached bases.
    ///
    /// # Errors
    /// Not root; a state file that cannot be understood.
    pub fn bases(&self) -> Result<Vec<Base>, Error> {
        need_root_to("looking for the bases of sandboxes")?;
        Base::list(&self.dirs.base)
    }

    fn host_path(&self, name: &str) -> PathBuf {
        self.dirs.hosts().join(name)
    }
}

fn of_kind(of: &str, is: Kind, wanted: Kind) -> Result<(), Error> {
    if is == wanted { Ok(()) } else { Err(Error::OtherKind { of: of.to_owned(), is, wanted }) }
}

fn of_release(of: &str, is: &str, wanted: Option<Release>) -> Result<(), Error> {
    match wanted {
        Some(wanted) if wanted.name() != is => {
            Err(Error::OtherRelease { of: of.to_owned(), is: is.to_owned(), wanted })
        }
        _ => Ok(()),
    }
}

/// A sandbox that runs, once it answers: its `up` may have been killed half-way.
fn wait_if_running(host_dir: &HostDir) -> Result<Option<Sandbox>, Error> {
    if host_dir.running()?.is_none() {
        return Ok(None);
    }
    let Some(plan) = Plan::read(&host_dir.path)? else { return Ok(None) };
    launch::wait(host_dir, &plan)?;
    Ok(Sandbox::read(&host_dir.path, &host_dir.name)?.filter(|sandbox| sandbox.state == State::Running))
}

fn need_root_to(doing: &'static str) -> Result<(), Error> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NeedsRoot { doing }) }
}
