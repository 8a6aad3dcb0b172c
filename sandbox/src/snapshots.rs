use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host_dir::HostDir;
use crate::plan::Plan;
use crate::{Dirs, Error, Kind, files, vm};

/// What a sandbox had written when it was taken down, for others to begin from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    path: PathBuf,
    below: Below,
}

/// What a snapshot stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Below {
    /// The topmost first.
    lowers: Vec<PathBuf>,
    /// The snapshot among them that is directly below.
    from: Option<String>,
    /// The Debian release's version.
    #[serde(default = "crate::plan::before_there_was_a_choice")]
    release: String,
    #[serde(default)]
    kind: Kind,
}

/// What a snapshot keeps of a sandbox's directory, and what that is called in the snapshot's.
fn kept(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Container => ("upper", "layer"),
        Kind::VirtualMachine => (vm::DISK, vm::DISK),
    }
}

impl Snapshot {
    pub(crate) fn find(dirs: &Dirs, name: &str) -> Result<Snapshot, Error> {
        crate::name::check(name)?;
        let path = dirs.snapshots().join(name);
        let below = files::read_json(&path.join("below.json"))?;
        let below = below.ok_or_else(|| Error::NoSuchSnapshot(name.to_owned()))?;
        Ok(Snapshot { name: name.to_owned(), path, below })
    }

    /// The Debian release's version, such as `12`.
    pub fn release(&self) -> &str {
        &self.below.release
    }

    /// What the sandbox was, and what those made from it are.
    pub fn kind(&self) -> Kind {
        self.below.kind
    }

    pub(crate) fn list(dirs: &Dirs) -> Result<Vec<Snapshot>, Error> {
        let names = files::list(&dirs.snapshots())?;
        names.iter().filter(|name| !name.starts_with('.')).map(|name| Snapshot::find(dirs, name)).collect()
    }

    /// The layers of a sandbox made from this, the topmost first.
    pub(crate) fn layers(&self) -> Result<Vec<PathBuf>, Error> {
        let layers: Vec<_> =
            [self.path.join(kept(self.kind()).1)].into_iter().chain(self.below.lowers.clone()).collect();
        match layers.iter().find(|layer| !layer.exists()) {
            Some(gone) => Err(Error::LayerGone { snapshot: self.name.clone(), layer: gone.clone() }),
            None => Ok(layers),
        }
    }
}

/// Turns a sandbox into a snapshot: moved, not copied, so this takes no time and no room.
pub(crate) fn take(dirs: &Dirs, host_dir: HostDir, plan: &Plan, save_as: &str) -> Result<Snapshot, Error> {
    if plan.disk_limit.is_some() {
        return Err(Error::InMemory(plan.name.clone()));
    }
    let path = dirs.snapshots().join(save_as);
    if path.exists() {
        return Err(Error::SnapshotExists(save_as.to_owned()));
    }
    match plan.kind() {
        Kind::Container => host_dir.kill()?,
        Kind::VirtualMachine => vm::off(&host_dir)?,
    }
    // Complete before it has its name. One that is left from a killed process is nobody's.
    let new = dirs.snapshots().join(format!(".new-{save_as}"));
    files::remove(&new)?;
    files::make_private_dir(&new)?;
    let (upper, layer) = kept(plan.kind());
    let (upper, layer) = (host_dir.path.join(upper), new.join(layer));
    fs::rename(&upper, &layer).map_err(Error::io("keep", &upper))?;
    if plan.kind() == Kind::Container {
        // A start of a host empties it.
        files::remove_content_of_real_dir(&layer.join("tmp"))?;
    }
    let below = Below {
        lowers: plan.lowers.clone(),
        from: plan.from.clone(),
        release: plan.release.clone(),
        kind: plan.kind(),
    };
    files::write_json(&new.join("below.json"), &below)?;
    sync(&new)?;
    fs::rename(&new, &path).map_err(Error::io("put in place", &path))?;
    host_dir.remove()?;
    Snapshot::find(dirs, save_as)
}

/// A sandbox writes nothing to the disk for certain; a snapshot has to be there.
fn sync(path: &Path) -> Result<(), Error> {
    let opened = File::open(path).map_err(Error::io("open", path))?;
    rustix::fs::syncfs(&opened).map_err(Error::sys(format!("write out {}", path.display())))
}

pub(crate) fn remove(dirs: &Dirs, name: &str, in_use: Option<String>) -> Result<bool, Error> {
    let path = dirs.snapshots().join(name);
    if !path.exists() {
        return Ok(false);
    }
    let above = Snapshot::list(dirs)?.into_iter().find(|other| other.below.from.as_deref() == Some(name));
    let user = in_use.or_else(|| above.map(|above| format!("snapshot {}", above.name)));
    if let Some(user) = user {
        return Err(Error::SnapshotInUse { snapshot: name.to_owned(), user });
    }
    // Its name first: what is left by a killed process is no half of a snapshot.
    let old = dirs.snapshots().join(format!(".new-{name}"));
    files::remove(&old)?;
    fs::rename(&path, &old).map_err(Error::io("remove", &path))?;
    files::remove(&old)?;
    Ok(true)
}
