use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::process::Process;
use crate::{Error, Kind, Machine, Release, files};

/// What a sandbox is made of: written by `up`, read by the stage and by everyone who asks later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub name: String,
    pub address: Ipv4Addr,
    pub port: u16,
    /// The read-only file systems under it, the topmost first.
    pub lowers: Vec<PathBuf>,
    pub disk_limit: Option<u64>,
    pub from: Option<String>,
    /// The Debian release's version.
    #[serde(default = "before_there_was_a_choice")]
    pub release: String,
    /// The virtual machine that it is; without it, a container.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// The mount namespace of who called `up`, where nothing may be mounted.
    pub home: u64,
}

/// What plans and snapshots of earlier versions were of.
pub(crate) fn before_there_was_a_choice() -> String {
    Release::default().version.to_owned()
}

/// The number of the mount namespace that this process is in.
pub(crate) fn mount_namespace() -> Result<u64, Error> {
    let path = Path::new("/proc/self/ns/mnt");
    path.metadata().map(|meta| meta.ino()).map_err(Error::io("look at", path))
}

/// The processes that a sandbox lives and dies with: written by its stage, with their numbers on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// The first process of the outer PID namespace.
    pub init: Process,
    /// The parent of that one, which keeps the outer mount namespace alive.
    pub supervisor: Process,
}

impl Plan {
    pub fn kind(&self) -> Kind {
        Kind::of(self.machine.as_ref())
    }

    pub fn read(host_dir: &Path) -> Result<Option<Plan>, Error> {
        files::read_json(&host_dir.join("plan.json"))
    }

    pub fn write(&self, host_dir: &Path) -> Result<(), Error> {
        files::write_json(&host_dir.join("plan.json"), self)
    }
}

impl Running {
    pub fn read(host_dir: &Path) -> Result<Option<Running>, Error> {
        files::read_json(&host_dir.join("running.json"))
    }

    pub fn write(&self, host_dir: &Path) -> Result<(), Error> {
        files::write_json(&host_dir.join("running.json"), self)
    }

    /// Both, because one without the other is a sandbox that is just dying.
    pub fn is_alive(&self) -> Result<bool, Error> {
        Ok(self.init.is_alive()? && self.supervisor.is_alive()?)
    }
}
