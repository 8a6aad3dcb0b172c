use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::options::Progress;
use crate::sources::Apt;
use crate::{Error, files, shift, tools};

const CODENAME: &str = "bookworm";
/// Changes whenever something else here does that makes another base.
const RECIPE: &str = "2";
/// What a small cloud image has beyond `apt` and the essential packages, and what of it the work here meets: sshd,
/// sudo, and udev, whose installation makes the group kvm.
const PACKAGES: &str = "ca-certificates,iproute2,kmod,openssh-server,procps,sudo,udev";
/// The user that cloud images log in as, in the groups that cloud-init gives it.
const USER: &str = "chroot \"$1\" useradd --create-home --shell /bin/bash --uid 1000 \
     --groups adm,audio,cdrom,dialout,dip,floppy,plugdev,sudo,video debian";

/// A read-only Debian that sandboxes stand on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `debian-12-` and a hash of all that it was made from.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
}

/// Written last: a base without it is none.
#[derive(Serialize, Deserialize)]
struct Stamp {
    packages: String,
    sources: String,
    settings: Vec<String>,
}

impl Base {
    /// Its file system.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    fn is_complete(&self) -> Result<bool, Error> {
        Ok(files::read_json::<Stamp>(&self.path.join("base.json"))?.is_some())
    }

    pub(crate) fn list(dir: &Path) -> Result<Vec<Base>, Error> {
        let names = files::list(dir)?.into_iter().filter(|name| name.starts_with("debian-"));
        let mut bases: Vec<_> = names.map(|name| Base { path: dir.join(&name), name }).collect();
        let mut result = Ok(());
        bases.retain(|base| match base.is_complete() {
            Ok(complete) => complete,
            Err(error) => {
                result = Err(error);
                false
            }
        });
        result.map(|()| bases)
    }

    /// The base for this machine's apt set-up, built now if it is not there. Others who want it at the same time wait.
    pub(crate) fn ensure(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Base, Error> {
        let apt = Apt::of_this_machine(CODENAME)?;
        let name = format!("debian-12-{}", hash(&apt)?);
        let base = Base { path: dir.join(&name), name };
        if base.is_complete()? {
            return Ok(base);
        }
        files::make_private_dir(dir)?;
        let lock_path = dir.join("lock");
        let lock = files::open_private(&lock_path)?;
        if files::try_lock(&lock).map_err(Error::io("lock", &lock_path))?.is_none() {
            progress(Progress::WaitingForBase);
            rustix::fs::flock(&lock, FlockOperation::LockExclusive)
                .map_err(Error::sys(format!("lock {}", lock_path.display())))?;
        }
        if !base.is_complete()? {
            // Nobody else is building: what looks so was killed.
            for debris in files::list(dir)?.iter().filter(|name| name.starts_with("building-")) {
                files::remove(&dir.join(debris))?;
            }
            build(dir, &base, &apt, &lock, progress)?;
        }
        Ok(base)
    }
}

fn hash(apt: &Apt) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let settings = apt.settings.join("\n");
    for part in [RECIPE, CODENAME, PACKAGES, USER, &apt.sources, &settings] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    for keyring in &apt.keyrings {
        hash.update(fs::read(keyring).map_err(Error::io("read", keyring))?);
    }
    Ok(hex::encode(&hash.finalize()[..6]))
}

fn build(
    dir: &Path,
    base: &Base,
    apt: &Apt,
    lock: &File,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let work = dir.join(format!("building-{}", std::process::id()));
    files::make_private_dir(&work)?;
    let built = build_in(&work, dir, base, apt, lock, progress);
    let removed = files::remove(&work);
    built.and(removed)
}

fn build_in(
    work: &Path,
    dir: &Path,
    base: &Base,
    apt: &Apt,
    lock: &File,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let new = work.join("base");
    let rootfs = new.join("rootfs");
    files::make_private_dir(&new)?;
    let sources = work.join("debian.sources");
    fs::write(&sources, &apt.sources).map_err(Error::io("write", &sources))?;
    let log = dir.join("build.log");
    mmdebstrap(work, &rootfs, apt, lock, &log, progress)?;
    progress(Progress::BuildingBase { step: "making it a cloud image".to_owned() });
    customize(&rootfs, apt)?;
    shift::tree(&rootfs)?;
    let stamp =
        Stamp { packages: PACKAGES.to_owned(), sources: apt.sources.clone(), settings: apt.settings.clone() };
    files::write_json(&new.join("base.json"), &stamp)?;
    // All of it must be on the disk before the name is.
    let opened = File::open(&new).map_err(Error::io("open", &new))?;
    rustix::fs::syncfs(&opened).map_err(Error::sys(format!("write out {}", new.display())))?;
    // A base without a stamp has this name only if somebody took the stamp away.
    files::remove(&base.path)?;
    fs::rename(&new, &base.path).map_err(Error::io("put in place", &base.path))
}

/// Runs mmdebstrap so that nothing of it outlives this thread: it ends with its parent, its processes with it, and
/// its mounts with them. It keeps the lock as its standard input, so that nobody sweeps below it.
fn mmdebstrap(
    work: &Path,
    rootfs: &Path,
    apt: &Apt,
    lock: &File,
    log_path: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let stdin = lock.try_clone().map_err(Error::io("duplicate the lock of", work))?;
    let mut log = File::create(log_path).map_err(Error::io("write", log_path))?;
    let stdout = log.try_clone().map_err(Error::io("duplicate", log_path))?;
    let failed = |how: String| Error::Build { how, tail: files::tail(log_path), log: log_path.to_owned() };
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--pid", "--fork"])
        .args(["--kill-child=KILL", "--mount-proc", "mmdebstrap", "--mode=root", "--variant=minbase"])
        .args(["--format=directory", &format!("--include={PACKAGES}"), &format!("--customize-hook={USER}")])
        .args(apt.settings.iter().map(|line| format!("--aptopt={}", line.trim_end_matches(';'))))
        .arg(CODENAME)
        .arg(rootfs)
        .arg("./debian.sources")
        .current_dir(work)
        .env("PATH", tools::search_path())
        .env("TMPDIR", work)
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(format!("could not be started: {error}")))?;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line.map_err(Error::io("read what mmdebstrap says in", work))?;
            let line = String::from_utf8_lossy(&line);
            writeln!(log, "{line}").map_err(Error::io("write", log_path))?;
            if let Some(step) = line.strip_prefix("I: ") {
                progress(Progress::BuildingBase { step: step.to_owned() });
            }
        }
    }
    let status = child.wait().map_err(|error| failed(format!("was lost: {error}")))?;
    if status.success() { Ok(()) } else { Err(failed(format!("ended with {status}"))) }
}

/// What makes it a cloud image, and no copy of this machine. Nothing foreign has run in there, so links are Debian's.
fn customize(rootfs: &Path, apt: &Apt) -> Result<(), Error> {
    let ssh = rootfs.join("etc/ssh");
    for key in files::list(&ssh)?.iter().filter(|name| name.starts_with("ssh_host_")) {
        files::remove(&ssh.join(key))?;
    }
    for machine in ["etc/hostname", "etc/resolv.conf"] {
        files::remove(&rootfs.join(machine))?;
    }
    for keyring in &apt.keyrings {
        let inside = rootfs.join(keyring.strip_prefix("/").unwrap_or(keyring));
        if !inside.exists() {
            write(&inside, &fs::read(keyring).map_err(Error::io("read", keyring))?, 0o644)?;
        }
    }
    let parts = rootfs.join("etc/apt/sources.list.d");
    files::remove_content(&parts)?;
    write(&parts.join("debian.sources"), apt.sources.as_bytes(), 0o644)?;
    let settings: String = apt.settings.iter().flat_map(|line| [line, "\n"]).collect();
    files::remove(&rootfs.join("etc/apt/apt.conf.d/99mmdebstrap"))?;
    if !settings.is_empty() {
        write(&rootfs.join("etc/apt/apt.conf.d/90mirror"), settings.as_bytes(), 0o644)?;
    }
    write(&rootfs.join("etc/machine-id"), b"", 0o444)?;
    write(&rootfs.join("etc/sudoers.d/90-cloud-init-users"), b"debian ALL=(ALL) NOPASSWD:ALL\n", 0o440)?;
    // No service manager runs here: packages are not to start services.
    write(&rootfs.join("usr/sbin/policy-rc.d"), b"#!/bin/sh\nexit 101\n", 0o755)
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("make the directory", parent))?;
    }
    files::remove(path)?;
    fs::write(path, content).map_err(Error::io("write", path))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("change the mode of", path))
}
