use std::io;
use std::path::PathBuf;

/// Why a tree could not be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file grew or shrank while it was being read.
    #[error("{} changed while it was being read; try again when nothing writes to it", .0.display())]
    Changed(PathBuf),
    /// A symbolic link leads out of the tree.
    #[error(
        "the symbolic link {} leads to {}, which is not in the tree that is sent: links must be relative and stay inside",
        path.display(), target.display()
    )]
    LeadsOut {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// Something else than a file, a directory or a symbolic link.
    #[error("{} is neither a file nor a directory nor a symbolic link", .0.display())]
    Special(PathBuf),
    /// A path that no archive can have.
    #[error("{} cannot be sent: {why}", path.display())]
    Name {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The archive itself could not be written.
    #[error("cannot write the archive into the directory for temporary files: {0}")]
    Write(io::Error),
}

/// Why an archive was refused, or could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// It is no archive, or is cut off.
    #[error("the archive cannot be read: {0}")]
    Read(io::Error),
    /// It ends before its end.
    #[error("the archive is cut off")]
    Cut,
    /// A path that may not be in it.
    #[error("the archive has the path {path:?}: {why}")]
    Name {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An entry of a kind that may not be in it.
    #[error("the archive has {what} at {path:?}, which is not taken")]
    Kind {
        /// The path.
        path: String,
        /// Such as `a hard link`.
        what: &'static str,
    },
    /// A symbolic link that leads out of the tree.
    #[error("the archive has a symbolic link from {path:?} to {target:?}, which leads out of it")]
    LeadsOut {
        /// The link.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// A hard link to something else than a file that came before.
    #[error("the archive has a hard link from {path:?} to {target:?}, which is no file that came before")]
    LinksTo {
        /// The path.
        path: String,
        /// What it is a link to.
        target: String,
    },
    /// The same path twice, or a path below something that is no directory.
    #[error("the archive has the path {0:?} twice, or has it below something that is no directory")]
    Twice(String),
    /// It is larger than what is taken.
    #[error("the archive holds more than the {limit} {what} that are taken")]
    TooMuch {
        /// How many are taken.
        limit: u64,
        /// Bytes or entries.
        what: &'static str,
    },
    /// A file could not be made.
    #[error("cannot make {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
