//! The step between `up` and the container: the first process of the outer namespaces, which makes every mount that
//! the container needs and then becomes the container's runtime; for a virtual machine it waits for QEMU.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use rustix::mount::{MountFlags, mount, mount_bind};

use crate::oci::{self, Places};
use crate::plan::{self, Plan, Running};
use crate::process::Process;
use crate::{Error, files, seed, shift, vm};

/// Hides this machine's directory of the same name, for this mount namespace only. It exists everywhere, and the
/// container's root, who must walk down to its file system, may pass it, unlike the directories of the state.
const STAGE: &str = "/tmp";
/// Enough for device nodes, `/run` and the runtime's own state.
const STAGE_SIZE: u64 = 64 << 20;

/// Becomes the sandbox whose directory is the only argument: what the program that was named to
/// [`Sandboxes::at`](crate::Sandboxes::at) does with the arguments that it is given.
///
/// # Errors
/// It was not started by `up`, or a mount or a device node could not be made; the sandbox's log is the place for it.
pub fn stage(args: &[OsString]) -> Result<Infallible, Error> {
    let [host_dir] = args else { return Err(Error::NotStaged("its argument is the directory of a sandbox")) };
    let host_dir = Path::new(host_dir);
    let plan = Plan::read(host_dir)?.ok_or(Error::NotStaged("there is no sandbox in that directory"))?;
    let supervisor = own_namespaces(&plan)?;
    let own = fs::read_link("/proc/self").map_err(Error::io("read", Path::new("/proc/self")))?;
    let own = own
        .to_str()
        .and_then(|pid| pid.parse().ok())
        .ok_or(Error::NotStaged("/proc is not this machine's"))?;
    let gone = Error::NotStaged("its parent is gone");
    let (Some(init), Some(supervisor)) = (Process::of(own)?, Process::of(supervisor)?) else {
        return Err(gone);
    };
    Running { init, supervisor }.write(host_dir)?;
    if let Some(machine) = &plan.machine {
        return vm::run(host_dir, &plan, machine);
    }

    rustix::process::umask(Mode::from_raw_mode(0o022));
    let seeds = seed::seeds(host_dir, &plan)?;
    // Opened before the stage hides them, if they happen to be below it.
    let layers = Layers::open(host_dir, &plan)?;
    let stage = Path::new(STAGE);
    tmpfs(stage, STAGE_SIZE, MountFlags::NOSUID)?;
    let root = layers.mount(stage, &plan, &seeds)?;
    let run = make_run(stage)?;
    let (dev, kvm) = make_devices(stage)?;
    let sealed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Not by the runtime: what the user namespace finds mounted below its root is locked, so that not even root inside
    // can make it writable or look below it.
    let sys = root.join("sys");
    if !sys.symlink_metadata().map_err(Error::io("look at", &sys))?.is_dir() {
        return Err(Error::NotStaged("/sys of the snapshot is no directory"));
    }
    mount("sysfs", &sys, "sysfs", sealed | MountFlags::RDONLY, None)
        .map_err(Error::sys(format!("mount sysfs on {}", sys.display())))?;

    let bundle = make_dir(stage, "bundle", 0o700)?;
    let kvm = kvm.then(|| Path::new("/dev/kvm"));
    let config = oci::config(&plan, &Places { root: &root, run: &run, kvm });
    files::write_json(&bundle.join("config.json"), &config)?;

    mount("proc", "/proc", "proc", sealed, None).map_err(Error::sys("mount proc on /proc"))?;
    // The runtime binds its devices from here, and makes its standard input the container's: never this machine's.
    mount_bind(&dev, "/dev").map_err(Error::sys("put the sandbox's devices on /dev"))?;
    // The runtime looks for cgroups even when told to leave them, and refuses machines that have both versions.
    if Path::new("/sys/fs/cgroup").is_dir() {
        tmpfs(Path::new("/sys/fs/cgroup"), 1 << 16, sealed)?;
    }
    let crun = make_dir(stage, "crun", 0o700)?;
    let stdin = File::open("/dev/null").map_err(Error::io("open", Path::new("/dev/null")))?;
    let mut command = Command::new("crun");
    command.arg("--root").arg(&crun).args(["--cgroup-manager=disabled", "run", "--bundle"]).arg(&bundle);
    let error = command.arg(&plan.name).stdin(stdin).current_dir(stage).exec();
    Err(Error::Io { doing: "start crun".to_owned(), source: error })
}

/// Makes sure that nothing below happens to the machine itself. The parent's number on this machine.
fn own_namespaces(plan: &Plan) -> Result<u32, Error> {
    if rustix::process::getpid().as_raw_nonzero().get() != 1 {
        return Err(Error::NotStaged("it is not the first process of a PID namespace"));
    }
    if plan::mount_namespace()? == plan.home {
        return Err(Error::NotStaged("it is not in a mount namespace of its own"));
    }
    // /proc is still the machine's, and so are the numbers in it.
    let path = Path::new("/proc/self/status");
    let status = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
    parent.ok_or_else(|| Error::Corrupt { path: path.to_owned(), problem: "no PPid".to_owned() })
}

/// The directories of an overlay, as descriptors: valid whatever is mounted over their paths.
struct Layers {
    lowers: Vec<OwnedFd>,
    /// Has `upper` and `work`, unless the disk is limited.
    host_dir: OwnedFd,
}

impl Layers {
    fn open(host_dir: &Path, plan: &Plan) -> Result<Layers, Error> {
        let open = |path: &Path| {
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(Error::sys(format!("open {}", path.display())))
        };
        let lowers: Result<_, _> = plan.lowers.iter().map(|lower| open(lower)).collect();
        Ok(Layers { lowers: lowers?, host_dir: open(host_dir)? })
    }

    fn mount(&self, stage: &Path, plan: &Plan, seeds: &[seed::Seed]) -> Result<PathBuf, Error> {
        let by_descriptor = |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let above = match plan.disk_limit {
            Some(limit) => {
                let disk = make_dir(stage, "disk", 0o700)?;
                tmpfs(&disk, limit, MountFlags::NOSUID | MountFlags::NODEV)?;
                disk
            }
            None => by_descriptor(&self.host_dir),
        };
        let upper = make_dir(&above, "upper", 0o755)?;
        seed::give(&upper, shift::ROOT, shift::ROOT, 0o755)?;
        let work = make_dir(&above, "work", 0o700)?;
        let lowers: Vec<_> = self.lowers.iter().map(by_descriptor).collect();
        seed::write(&upper, &lowers, seeds)?;
        let root = make_dir(stage, "root", 0o755)?;
        let joined = lowers.iter().map(|lower| lower.display().to_string()).collect::<Vec<_>>().join(":");
        let options = format!(
            "lowerdir={joined},upperdir={},workdir={},index=off,metacopy=off,redirect_dir=off",
            upper.display(),
            work.display()
        );
        // A sandbox does not outlive a crash of the machine, so nothing has to reach its disk. Kernels before 5.10
        // do not know the word.
        let overlay = |options: String| {
            let Ok(options) = CString::new(options) else { return Err(rustix::io::Errno::INVAL) };
            mount("overlay", &root, "overlay", MountFlags::empty(), options.as_c_str())
        };
        let mounted = match overlay(format!("{options},volatile")) {
            Err(rustix::io::Errno::INVAL) => overlay(options),
            result => result,
        };
        mounted.map_err(Error::sys(format!(
            "mount the sandbox's file system, an overlay in {}",
            above.display()
        )))?;
        Ok(root)
    }
}

fn tmpfs(target: &Path, size: u64, flags: MountFlags) -> Result<(), Error> {
    let doing = || format!("mount a tmpfs of {size} bytes on {}", target.display());
    let options = CString::new(format!("mode=0755,size={size}"))
        .map_err(|error| Error::Io { doing: doing(), source: error.into() })?;
    mount("tmpfs", target, "tmpfs", flags, options.as_c_str()).map_err(Error::sys(doing()))
}

fn make_dir(parent: &Path, name: &str, mode: u32) -> Result<PathBuf, Error> {
    let path = parent.join(name);
    DirBuilder::new().mode(mode).create(&path).map_err(Error::io("make the directory", &path))?;
    Ok(path)
}

/// `/run` as a boot leaves it. The file `container` is where systemd's interface has programs look for it.
fn make_run(stage: &Path) -> Result<PathBuf, Error> {
    let run = make_dir(stage, "run", 0o755)?;
    for (name, mode) in [("lock", 0o1777), ("sshd", 0o755), ("systemd", 0o755)] {
        seed::give(&make_dir(&run, name, 0o700)?, shift::ROOT, shift::ROOT, mode)?;
    }
    let container = run.join("systemd/container");
    fs::write(&container, "toril-sandbox\n").map_err(Error::io("write", &container))?;
    seed::give(&container, shift::ROOT, shift::ROOT, 0o644)?;
    seed::give(&run, shift::ROOT, shift::ROOT, 0o755)?;
    Ok(run)
}

/// Nodes of the sandbox's own, so that a change of owner or mode inside is no change of the machine's. Whether there
/// is a KVM among them.
fn make_devices(stage: &Path) -> Result<(PathBuf, bool), Error> {
    const DEVICES: [(&str, u32, u32); 6] =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    let dev = make_dir(stage, "dev", 0o755)?;
    for (name, major, minor) in DEVICES {
        make_device(&dev.join(name), makedev(major, minor), 0o666)?;
    }
    let kvm = Path::new("/dev/kvm");
    let is_there = match kvm.metadata() {
        Ok(meta) => {
            // As the kernel makes it: what udev would do about it is the provisioning's to do.
            make_device(&dev.join("kvm"), meta.rdev(), 0o600)?;
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(Error::io("look at", kvm)(error)),
    };
    // Where the runtime mounts more.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(dev.join("console"))
        .map_err(Error::io("make", &dev.join("console")))?;
    Ok((dev, is_there))
}

fn make_device(path: &Path, device: u64, mode: u32) -> Result<(), Error> {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(mode), device)
        .map_err(Error::sys(format!("make the device {}", path.display())))?;
    seed::give(path, shift::ROOT, shift::ROOT, mode)
}
