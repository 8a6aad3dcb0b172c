use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use toril_machine::{CommandError, WriteError};

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

    /// The stage was called by somebody else than `up`.
    #[error("this is a step of `toril sandbox up` and nothing to call by hand: {0}")]
    NotStaged(&'static str),
}

impl Error {
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
