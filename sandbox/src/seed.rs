//! The files that make one sandbox differ from the next, put into its empty upper layer before anything runs there.
//! Only there: below it may lie what root of another sandbox left, links to anywhere included.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use crate::Error;
use crate::plan::Plan;
use crate::shift;

/// The id that `debian` has in a sandbox.
const DEBIAN: u32 = 1000;

pub(crate) struct Seed {
    /// Below the root directory.
    pub path: &'static str,
    pub content: Vec<u8>,
    pub mode: u32,
    /// User and group id in the sandbox.
    pub owner: u32,
}

impl Seed {
    fn root(path: &'static str, content: Vec<u8>, mode: u32) -> Seed {
        Seed { path, content, mode, owner: 0 }
    }
}

/// The files for this sandbox: its own keys, and how this machine finds names.
pub(crate) fn seeds(host_dir: &Path, plan: &Plan) -> Result<Vec<Seed>, Error> {
    let read = |path: &Path| fs::read(path).map_err(Error::io("read", path));
    let hosts =
        [read(Path::new("/etc/hosts"))?, format!("\n127.0.1.1 {}\n", plan.name).into_bytes()].concat();
    let host_key = read(&host_dir.join("ssh_host_ed25519_key"))?;
    let host_key_public = read(&host_dir.join("ssh_host_ed25519_key.pub"))?;
    let mut seeds = vec![
        Seed::root("etc/hostname", format!("{}\n", plan.name).into_bytes(), 0o644),
        Seed::root("etc/hosts", hosts, 0o644),
        Seed::root("etc/ssh/ssh_host_ed25519_key", host_key, 0o600),
        Seed::root("etc/ssh/ssh_host_ed25519_key.pub", host_key_public, 0o644),
        Seed {
            path: "home/debian/.ssh/authorized_keys",
            content: read(&host_dir.join("id_ed25519.pub"))?,
            mode: 0o600,
            owner: DEBIAN,
        },
    ];
    let resolver = Path::new("/etc/resolv.conf");
    if resolver.exists() {
        seeds.push(Seed::root("etc/resolv.conf", read(resolver)?, 0o644));
    }
    Ok(seeds)
}

/// Writes them, with the directories above them as they are in the layers below.
pub(crate) fn write(upper: &Path, lowers: &[PathBuf], seeds: &[Seed]) -> Result<(), Error> {
    for seed in seeds {
        let relative = Path::new(seed.path);
        let mut directory = PathBuf::new();
        for component in relative.parent().into_iter().flat_map(Path::components) {
            if let Component::Normal(name) = component {
                directory.push(name);
                make_like_below(upper, lowers, &directory, seed.owner)?;
            }
        }
        let path = upper.join(relative);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("make", &path))?;
        file.write_all(&seed.content).map_err(Error::io("write", &path))?;
        give(&path, shift::ROOT + seed.owner, shift::ROOT + seed.owner, seed.mode)?;
    }
    Ok(())
}

fn make_like_below(upper: &Path, lowers: &[PathBuf], relative: &Path, owner: u32) -> Result<(), Error> {
    let path = upper.join(relative);
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(0o700).create(&path).map_err(Error::io("make the directory", &path))?;
    let below = lowers.iter().find_map(|lower| lower.join(relative).symlink_metadata().ok());
    match below.filter(fs::Metadata::is_dir) {
        Some(meta) => give(&path, meta.uid(), meta.gid(), meta.mode() & 0o7777),
        None => give(&path, shift::ROOT + owner, shift::ROOT + owner, if owner == 0 { 0o755 } else { 0o700 }),
    }
}

/// Sets owner and mode, in the order that keeps set-id bits.
pub(crate) fn give(path: &Path, uid: u32, gid: u32, mode: u32) -> Result<(), Error> {
    chown(path, Some(uid), Some(gid)).map_err(Error::io("change the owner of", path))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("change the mode of", path))
}
