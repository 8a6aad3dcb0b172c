//! A program that was started on a host, whatever the way there is.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// Input of a process.
pub(crate) type Input = Box<dyn AsyncWrite + Send + Unpin>;
/// Output of a process.
pub(crate) type Output = Box<dyn AsyncRead + Send + Unpin>;
/// Resolves when the process has ended. While it lives, the way to the process stays open.
pub(crate) type Ending = Pin<Box<dyn Future<Output = Exit> + Send>>;

/// A started process with its three streams.
pub(crate) struct Process {
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) ending: Ending,
}

/// How a program on a host ended, as far as this side can know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// It exited with this status.
    Status(i32),
    /// It was killed by a signal.
    Killed,
    /// The connection to the host was lost; the program may still run.
    ConnectionLost {
        /// What ssh said about it, possibly nothing.
        reason: String,
    },
    /// It was not heard of in time.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "it exited with status {status}"),
            Exit::Killed => f.write_str("it was killed by a signal"),
            Exit::ConnectionLost { reason } if reason.is_empty() => f.write_str("the connection was lost"),
            Exit::ConnectionLost { reason } => write!(f, "the connection was lost: {reason}"),
            Exit::Unknown => f.write_str("it is not known how it ended"),
        }
    }
}
