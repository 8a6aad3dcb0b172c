use std::path::PathBuf;
use std::time::Duration;

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
    /// What was asked for is of these, and they have nothing there.
    #[error("no run of {0} is at work on this host or waits for it, so there is nothing to cancel")]
    NoneOf(String),
    /// The connection broke in a run, and the run could not be found again.
    #[error("the connection was lost in the middle of run {run} and could not be had again: {last}")]
    Lost { host: String, run: String, last: String },
    /// The connection broke before the agent had named the run.
    #[error(
        "the connection was lost before the host said whether the run has begun, and could not be had again: {last}"
    )]
    LostBefore { host: String, last: String },
    /// The user has left while the connection was lost.
    #[error("interrupted while the connection was lost, so the run was not asked to end: {last}")]
    LeftLost { host: String, run: Option<String>, last: String },
    /// The host was asked to reboot, and was not seen again.
    #[error("the host did not come back within {} s after its reboot: {last}", deadline.as_secs())]
    NotBack { host: String, deadline: Duration, last: String },
    /// The host was asked to reboot, and answers as if nothing had been asked.
    #[error("the host was asked to reboot, and after {} s it still runs the boot that was to end", deadline.as_secs())]
    StillUp { host: String, deadline: Duration },
    /// The user has left while the host was rebooting.
    #[error("interrupted while the host was rebooting: what was to come after that was not begun")]
    LeftInReboot { host: String },
    /// What a run has kept could not be put here.
    #[error("cannot put the artifacts of run {run} into {}: {why}", below.display())]
    Artifacts { run: String, below: PathBuf, why: String },
    /// A file that belongs to the order could not be read any more.
    #[error("cannot send what belongs to the run: {0}")]
    Parcel(std::io::Error),
    /// The user did not want it any more, before anything was begun.
    #[error("interrupted before all that belongs to the run was sent")]
    Interrupted,
    /// An attempt to connect failed, and nobody tried again.
    #[error("there is no connection to the host")]
    NotConnected,
}

/// An error as the user is told of it.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) error: String,
    /// What to try, where there is something.
    pub(crate) remedy: Option<String>,
    /// Whether it is that the host was not reached.
    pub(crate) unreachable: bool,
}

impl From<String> for Trouble {
    fn from(error: String) -> Trouble {
        Trouble { error, remedy: None, unreachable: false }
    }
}

impl From<&ClientError> for Trouble {
    fn from(error: &ClientError) -> Trouble {
        let unreachable = matches!(error, ClientError::Connect(_));
        Trouble { error: chain(error), remedy: error.remedy(), unreachable }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Trouble {
        Trouble::from(&error)
    }
}

impl ClientError {
    /// What to try.
    fn remedy(&self) -> Option<String> {
        match self {
            ClientError::Connect(error) => Some(error.remedy()),
            ClientError::Start(error) => error.remedy().map(str::to_owned),
            ClientError::LostBefore { host, .. } => Some(format!(
                "`toril attach {host}` shows the host's newest run: if it is not this one, try again"
            )),
            ClientError::Channel(_) | ClientError::Unexpected | ClientError::NotConnected => Some(
                "try again; a run that was begun goes on by itself, and `toril attach HOST` shows it".into(),
            ),
            ClientError::Lost { host, run, .. } => {
                Some(format!("the run goes on by itself: `toril attach {host} {run}` shows how it ends"))
            }
            ClientError::LeftLost { host, run: Some(run), .. } => Some(format!(
                "the run goes on by itself: `toril cancel {host} {run}` ends it, `toril attach {host} {run}` shows how it ends"
            )),
            ClientError::LeftLost { host, run: None, .. } => Some(format!(
                "if the run has begun, it goes on by itself: `toril attach {host}` shows the host's newest"
            )),
            ClientError::NotBack { host, .. } => Some(format!(
                "look at the host's console, as its provider shows it; once it is up, the same command goes on with \
                 `{host}`; a host that only takes longer is given more time by --reboot-timeout"
            )),
            ClientError::StillUp { host, .. } => Some(format!(
                "something on {host} holds its shutdown up: `systemctl list-jobs` and `systemd-inhibit --list` name it; \
                 once it has rebooted, give the same command again"
            )),
            ClientError::LeftInReboot { .. } => {
                Some("once the host is back, the same command goes on from where it is".into())
            }
            ClientError::Artifacts { run, .. } => Some(format!(
                "the host keeps them as long as the run's journal: `toril attach HOST {run} --artifacts DIR` fetches them"
            )),
            // The agent's own words say it.
            ClientError::Refused(_)
            | ClientError::NoneOf(_)
            | ClientError::Parcel(_)
            | ClientError::Interrupted => None,
        }
    }

    /// Whether the agent or the connection to it is gone, which says nothing about the run.
    pub(super) fn is_loss(&self) -> bool {
        matches!(self, ClientError::Channel(ChannelError::Cut { .. } | ChannelError::Send(_)))
    }

    /// Whether the agent has said why, over a connection that is there.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self, ClientError::Refused(_))
    }

    /// Whether it says, where no run has been heard of yet, that none was begun.
    pub(crate) fn is_before_the_run(&self) -> bool {
        matches!(self, ClientError::Refused(_) | ClientError::Parcel(_) | ClientError::Interrupted)
    }

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
