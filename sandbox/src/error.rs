use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use toril_machine::{CommandError, WriteError};

use crate::{Kind, Release};

/// Why something could not be done with a sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller is not root.
    #[error("{doing} needs root (namespaces, mounts, owners of files): run it again with sudo")]
    NeedsRoot {
        /// What was being done.
        doing: &'static str,
    },

    /// Programs that sandboxes are made with are not on this machine.
    #[error("sandboxes are made with programs that are missing here: {}", .0.join(", "))]
    MissingTools(Vec<&'static str>),

    /// A sandbox or snapshot cannot be called this.
    #[error("{0:?} cannot be the name of a sandbox: use 1 to 32 of a-z, 0-9 and -, not beginning with -")]
    BadName(String),

    /// A file or directory could not be used.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done, and to what.
        doing: String,
        /// Why not.
        source: io::Error,
    },

    /// A state file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),

    /// A state file is not what this program writes.
    #[error("cannot understand {}: {problem}; `toril sandbox down` removes the sandbox it belongs to", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// apt's configuration of this machine could not be understood.
    #[error("cannot understand {}: {problem}; mend it, `apt-get update` reads it too", path.display())]
    AptConfiguration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// There is no such release, or toril does not know it.
    #[error("{0:?} is no Debian release that sandboxes can be made of: these are {known}", known = known_releases())]
    UnknownRelease(String),

    /// A release that is only in Debian's archive.
    #[error(
        "{release} left Debian's mirrors, and this machine's apt knows only these: name a file of apt sources with \
         --sources, for http://archive.debian.org/debian (or a mirror of it) with `Suites: {}` and with \
         `Check-Valid-Until: no`", release.codename
    )]
    Archived {
        /// The release.
        release: Release,
    },

    /// The mirror does not have a release, or not its security updates.
    #[error(
        "the mirror that this machine's apt uses does not have {}: {release} cannot be made from it; name a file of \
         apt sources for a mirror that has it with --sources", suites.join(", ")
    )]
    SuiteGone {
        /// The release.
        release: Release,
        /// The suites that are missing.
        suites: Vec<String>,
    },

    /// This machine does not have the keys that a release is signed with.
    #[error(
        "this machine does not know the keys that {release} is signed with ({keys}): bring its package \
         debian-archive-keyring up to date"
    )]
    UnknownKeys {
        /// The release.
        release: Release,
        /// What apt calls them.
        keys: String,
    },

    /// The base that these sources gave is of another release.
    #[error("the sources give {found}, and not {wanted}: look at their suites")]
    WrongRelease {
        /// What was asked for.
        wanted: Release,
        /// What they give.
        found: String,
    },

    /// A sandbox of that name is up, or a snapshot was taken, with another release.
    #[error("{of} is debian {is}, and not {wanted}: take another name, or leave --release out")]
    OtherRelease {
        /// The sandbox or snapshot.
        of: String,
        /// Its version.
        is: String,
        /// What was asked for.
        wanted: Release,
    },

    /// This machine's apt has no source that a Debian base could come from.
    #[error(
        "apt on this machine knows no Debian source to make a sandbox from (no suite {codename} with component main): \
         add one to /etc/apt/sources.list.d"
    )]
    NoSources {
        /// The code name that was looked for.
        codename: String,
    },

    /// The base could not be built.
    #[error("cannot build the base of sandboxes: mmdebstrap {how}; its last words (all are in {}):\n{tail}", log.display())]
    Build {
        /// How the program ended.
        how: String,
        /// What it said at the end.
        tail: String,
        /// Where everything that it said is.
        log: PathBuf,
    },

    /// A sandbox did not come up.
    #[error("sandbox {name} did not come up: {problem}; its log ({}) ends with:\n{tail}", log.display())]
    Start {
        /// The sandbox.
        name: String,
        /// What was seen.
        problem: String,
        /// The end of its log.
        tail: String,
        /// Its log.
        log: PathBuf,
    },

    /// A sandbox's processes did not end after they were killed.
    #[error(
        "sandbox {name} does not go away: process {pid} was killed and is still there after {seconds} seconds"
    )]
    StillAlive {
        /// The sandbox.
        name: String,
        /// The process on this machine.
        pid: u32,
        /// How long it was waited for.
        seconds: u64,
    },

    /// A virtual machine could not be made of a release.
    #[error(
        "virtual machines are made of debian 12 and newer, and not of {release}: leave --vm out for a container"
    )]
    NoMachine {
        /// The release.
        release: Release,
    },

    /// A virtual machine's disk has one size.
    #[error("the disk of a virtual machine cannot be limited: leave --disk out")]
    NoDiskLimit,

    /// A sandbox of that name is up, or a snapshot was taken, of another kind.
    #[error("{of} is a {is}, and not a {wanted}: take another name, or change --vm")]
    OtherKind {
        /// The sandbox or snapshot.
        of: String,
        /// What it is.
        is: Kind,
        /// What was asked for.
        wanted: Kind,
    },

    /// A virtual machine did not shut down.
    #[error(
        "sandbox {name} cannot be kept, because it does not shut down: {problem}; its log ({}) ends with:\n{tail}",
        log.display()
    )]
    Shutdown {
        /// The sandbox.
        name: String,
        /// What was seen.
        problem: String,
        /// The end of its log.
        tail: String,
        /// Its log.
        log: PathBuf,
    },

    /// There is no such sandbox.
    #[error("there is no sandbox {0}: `toril sandbox list` shows those that exist")]
    NoSuchSandbox(String),

    /// There is no such snapshot.
    #[error("there is no snapshot {0}")]
    NoSuchSnapshot(String),

    /// A snapshot's name is taken.
    #[error("there is a snapshot {0} already: remove it, or choose another name")]
    SnapshotExists(String),

    /// A snapshot is needed by a sandbox.
    #[error("snapshot {snapshot} is what {user} stands on: take that away first")]
    SnapshotInUse {
        /// The snapshot.
        snapshot: String,
        /// The sandbox or snapshot that uses it.
        user: String,
    },

    /// A base that a snapshot was taken on is gone.
    #[error("snapshot {snapshot} stands on {}, which is gone: remove the snapshot and make it anew", layer.display())]
    LayerGone {
        /// The snapshot.
        snapshot: String,
        /// What is missing.
        layer: PathBuf,
    },

    /// A sandbox with a disk limit lives in memory.
    #[error("sandbox {0} has a disk limit, so its files are in memory and cannot become a snapshot")]
    InMemory(String),

    /// No free port was found.
    #[error("found no free port for sandbox {0} on a loopback address in 100 tries")]
    NoPort(String),

    /// The program that a sandbox consists of ended.
    #[error("{program} ended with {status}")]
    Ended {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
    },

    /// The stage was called by somebody else than `up`.
    #[error("this is a step of `toril sandbox up` and nothing to call by hand: {0}")]
    NotStaged(&'static str),
}

impl Error {
    /// Whether sandboxes like the one asked for cannot be made on this machine, whatever is tried again.
    pub fn is_not_possible_here(&self) -> bool {
        matches!(
            self,
            Error::NeedsRoot { .. }
                | Error::MissingTools(_)
                | Error::Archived { .. }
                | Error::SuiteGone { .. }
                | Error::UnknownKeys { .. }
                | Error::NoSources { .. }
        )
    }

    /// For `map_err`: names the action and the path.
    pub(crate) fn io(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let doing = format!("{action} {}", path.display());
        move |source| Error::Io { doing, source }
    }

    /// The same for a system call of rustix.
    pub(crate) fn sys(doing: impl Display) -> impl FnOnce(rustix::io::Errno) -> Error {
        let doing = doing.to_string();
        move |errno| Error::Io { doing, source: errno.into() }
    }
}

/// Such as `11 (bullseye), 12 (bookworm)`.
fn known_releases() -> String {
    let known = Release::ALL.map(|release| format!("{} ({})", release.version, release.codename));
    known.join(", ")
}
