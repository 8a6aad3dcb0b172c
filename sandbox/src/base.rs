use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bootstrap::{Bootstrap, PACKAGES, USER};
use crate::options::Progress;
use crate::sources::Apt;
use crate::{Error, Release, files, shift, vm};

/// How the bases of one kind of sandbox differ from another's.
pub(crate) struct Flavour {
    /// What their names begin with, before the release.
    pub prefix: &'static str,
    /// Changes whenever something else does that makes another base.
    pub recipe: &'static str,
    /// Beyond `apt` and the essential ones.
    pub packages: &'static str,
    /// What of a base's directory is the lowest layer of sandboxes.
    pub lowest: &'static str,
    /// The release that it is made of, where that is another one.
    pub made_of: Option<Release>,
    /// A script that is run on the file system while its packages can be had; its argument is the file system.
    pub hook: Option<&'static str>,
    /// Turns the file system, the second path, into what sandboxes stand on, in the first one.
    pub finish: fn(&Path, &Path) -> Result<(), Error>,
}

impl Flavour {
    /// What containers stand on.
    pub const CONTAINER: Flavour = Flavour {
        prefix: "debian-",
        recipe: "2",
        packages: PACKAGES,
        lowest: "rootfs",
        made_of: None,
        hook: None,
        finish: finish_container,
    };
}

/// A read-only Debian that sandboxes stand on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `debian-`, the release, and a hash of all that it was made from.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
}

/// What a base is made of.
struct Wanted<'w> {
    flavour: &'w Flavour,
    release: Release,
    apt: Apt,
}

/// Written last: a base without it is none.
#[derive(Serialize, Deserialize)]
struct Stamp {
    packages: String,
    sources: String,
    settings: Vec<String>,
}

impl Base {
    /// What sandboxes stand on.
    pub(crate) fn lowest(&self, flavour: &Flavour) -> PathBuf {
        self.path.join(flavour.lowest)
    }

    fn is_complete(&self) -> Result<bool, Error> {
        Ok(files::read_json::<Stamp>(&self.path.join("base.json"))?.is_some())
    }

    pub(crate) fn list(dir: &Path) -> Result<Vec<Base>, Error> {
        let names = files::list(dir)?.into_iter().filter(|name| is_name(name));
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

    /// The base of a release from these sources, else from those of this machine's apt; built now if it is not there.
    /// Others who want one at the same time wait.
    pub(crate) fn ensure(
        dir: &Path,
        flavour: &Flavour,
        release: Release,
        sources: Option<&Path>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Base, Error> {
        let release = flavour.made_of.unwrap_or(release);
        let apt = match sources {
            Some(file) => Apt::of_file(file, release)?,
            None => Apt::of_this_machine(release)?,
        };
        let wanted = Wanted { flavour, release, apt };
        let name = format!("{}{}-{}", flavour.prefix, release.version, wanted.hash()?);
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
            build(dir, &base, &wanted, &lock, progress)?;
        }
        Ok(base)
    }
}

fn is_name(name: &str) -> bool {
    [Flavour::CONTAINER.prefix, vm::IMAGE.prefix].iter().any(|prefix| name.starts_with(prefix))
}

impl Wanted<'_> {
    fn hash(&self) -> Result<String, Error> {
        let Wanted { flavour, release, apt } = self;
        let mut hash = Sha256::new();
        let settings = apt.settings.join("\n");
        for part in [
            flavour.recipe,
            release.codename,
            flavour.packages,
            USER,
            &apt.sources,
            &settings,
            flavour.hook.unwrap_or_default(),
        ] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        for keyring in &apt.keyrings {
            hash.update(fs::read(keyring).map_err(Error::io("read", keyring))?);
        }
        Ok(hex::encode(&hash.finalize()[..6]))
    }
}

fn build(
    dir: &Path,
    base: &Base,
    wanted: &Wanted<'_>,
    lock: &File,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let work = dir.join(format!("building-{}", std::process::id()));
    files::make_private_dir(&work)?;
    let built = build_in(&work, dir, base, wanted, lock, progress);
    let removed = files::remove(&work);
    built.and(removed)
}

fn build_in(
    work: &Path,
    dir: &Path,
    base: &Base,
    wanted: &Wanted<'_>,
    lock: &File,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let Wanted { flavour, release, apt } = wanted;
    let release = *release;
    let new = work.join("base");
    let rootfs = new.join("rootfs");
    files::make_private_dir(&new)?;
    let log = dir.join("build.log");
    let bootstrap =
        Bootstrap { release, packages: flavour.packages, hook: flavour.hook, work, lock, log: &log };
    let apt = bootstrap.run(&rootfs, apt, progress)?;
    progress(Progress::BuildingBase { step: format!("{release}: making it a cloud image") });
    check_release(&rootfs, release)?;
    customize(&rootfs, &apt)?;
    (flavour.finish)(&new, &rootfs)?;
    let stamp = Stamp {
        packages: flavour.packages.to_owned(),
        sources: apt.sources.clone(),
        settings: apt.settings.clone(),
    };
    files::write_json(&new.join("base.json"), &stamp)?;
    // All of it must be on the disk before the name is.
    let opened = File::open(&new).map_err(Error::io("open", &new))?;
    rustix::fs::syncfs(&opened).map_err(Error::sys(format!("write out {}", new.display())))?;
    // A base without a stamp has this name only if somebody took the stamp away.
    files::remove(&base.path)?;
    fs::rename(&new, &base.path).map_err(Error::io("put in place", &base.path))
}

/// Sources that somebody wrote may say anything.
fn check_release(rootfs: &Path, release: Release) -> Result<(), Error> {
    let path = rootfs.join("usr/lib/os-release");
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let version = text.lines().find_map(|line| line.strip_prefix("VERSION_ID=")).unwrap_or_default();
    match version.trim_matches('"') {
        version if version == release.version => Ok(()),
        found => Err(Error::WrongRelease { wanted: release, found: format!("debian {found}") }),
    }
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
    write(&rootfs.join("etc/sudoers.d/90-cloud-init-users"), b"debian ALL=(ALL) NOPASSWD:ALL\n", 0o440)
}

fn finish_container(_: &Path, rootfs: &Path) -> Result<(), Error> {
    // No service manager runs here: packages are not to start services.
    write(&rootfs.join("usr/sbin/policy-rc.d"), b"#!/bin/sh\nexit 101\n", 0o755)?;
    shift::tree(rootfs)
}

pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("make the directory", parent))?;
    }
    files::remove(path)?;
    fs::write(path, content).map_err(Error::io("write", path))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("change the mode of", path))
}
