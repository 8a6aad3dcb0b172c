use toril_transport::{ChannelError, ConnectError, StartError};

use crate::exit::Status;

/// Why something could not be done on a host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("the agent answered something else than was asked")]
    Unexpected,
    /// The agent says why.
    #[error("{0}")]
    Refused(String),
    /// The connection broke in a run, and the run could not be found again.
    #[error(
        "the connection was lost in the middle of run {run} and could not be had again: {last}\n  the run goes on by itself; `toril attach {host}` shows how it ends"
    )]
    Lost { host: String, run: String, last: String },
}

impl ClientError {
    /// What to exit with.
    pub(crate) fn status(&self) -> Status {
        Status::Operation
    }
}

/// An error and what it came from, as one text.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        // Some errors repeat their cause in their own words.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
