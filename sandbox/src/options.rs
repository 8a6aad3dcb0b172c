use std::path::PathBuf;

use crate::{Error, Kind, Machine, Release};

/// What a new sandbox is to be like. Not looked at when the sandbox is up already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The Debian release. Without it, the snapshot's, else Debian 12.
    pub release: Option<Release>,
    /// A file of apt sources in the deb822 format to make it from, instead of those of this machine: what it says of
    /// suites, keys and dates is taken as it is. For releases that left the mirrors, and for mirrors of one's own.
    pub sources: Option<PathBuf>,
    /// The virtual machine to make; without it, a container.
    pub machine: Option<Machine>,
    /// How many bytes a container may write in all; they are kept in memory. Without it, as many as the disk has.
    pub disk_limit: Option<u64>,
    /// The snapshot to begin from; without it, a fresh Debian.
    pub from: Option<String>,
}

impl Options {
    pub(crate) fn kind(&self) -> Kind {
        Kind::of(self.machine.as_ref())
    }

    /// Whether a sandbox like this can be asked for at all.
    ///
    /// # Errors
    /// A release that is only in Debian's archive, and no sources for it; a virtual machine of a release before
    /// Debian 12, or with a disk limit.
    pub fn check(&self) -> Result<(), Error> {
        if self.machine.is_some() && self.disk_limit.is_some() {
            return Err(Error::NoDiskLimit);
        }
        match self.release {
            Some(release) if self.machine.is_some() && !release.takes_credentials() => {
                Err(Error::NoMachine { release })
            }
            Some(release) if release.is_archived() && self.sources.is_none() && self.from.is_none() => {
                Err(Error::Archived { release })
            }
            _ => Ok(()),
        }
    }
}

/// What `up` is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Another process is building the base that this one needs.
    WaitingForBase,
    /// A pocket that a release can do without (updates, backports) is not on the mirror, and is left out.
    SuiteGone {
        /// Such as `bullseye-backports`.
        suite: String,
    },
    /// The base is being built: once for a machine and a release, about half a minute.
    BuildingBase {
        /// What the builder says, such as `installing essential packages...`.
        step: String,
    },
    /// The sandbox is being started.
    Starting,
    /// The port was taken in the meantime; another one is tried.
    PortTaken {
        /// The one that was taken.
        port: u16,
    },
}
