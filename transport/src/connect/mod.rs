//! Ways to a host.

mod classify;
mod error;
mod local;
mod log;
mod master;
mod standing;

use std::path::Path;
use std::time::Duration;

use toril_inventory::{Host, Reach};

use crate::channel::Channel;
use crate::image::AgentImage;
use crate::start::{Limits, StartError, Sudo, drive};

pub use error::{ConnectError, OfferedKey};
pub use log::ConnectionInfo;
pub use standing::disconnect;

use local::Local;
use master::Master;

/// How to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether ssh may ask on the terminal: about an unknown host key, for a passphrase. It is only let to
    /// when standard input is a terminal.
    pub interactive: bool,
    /// How long the host may take to answer; whole seconds.
    pub connect_timeout: Duration,
    /// Further options for ssh, each as in `-o`: `Name=value`. They come before toril's defaults, so they win.
    pub ssh_options: Vec<String>,
    /// How long a connection stays that nobody uses, for the next program; nothing: it ends with this one. OpenSSH only.
    pub standing: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interactive: false,
            connect_timeout: Duration::from_secs(15),
            ssh_options: Vec::new(),
            standing: None,
        }
    }
}

/// A way to a host, over which agents can be started. Dropping it closes it once the last [`Channel`] on it
/// is gone.
#[derive(Debug)]
pub struct Connection(Way);

#[derive(Debug)]
enum Way {
    Local(Local),
    Ssh(Box<Master>),
}

/// Opens the way to a host. It needs a tokio runtime with time and I/O, of any flavour.
///
/// # Errors
/// [`ConnectError`], which says what to try.
pub async fn connect(host: &Host, options: &Options) -> Result<Connection, ConnectError> {
    Ok(Connection(match &host.reach {
        Reach::Local => Way::Local(Local),
        Reach::Ssh(ssh) => Way::Ssh(Box::new(Master::start(ssh, options).await?)),
    }))
}

impl Connection {
    /// Starts the agent as root, after putting it on the host if it is not there. It may be called several
    /// times; each agent has a channel of its own.
    ///
    /// # Errors
    /// [`StartError`], which says what to try.
    pub async fn start_agent(&self, image: &AgentImage, sudo: &Sudo) -> Result<Channel, StartError> {
        let process = match &self.0 {
            Way::Local(local) => local.start(image, sudo)?,
            Way::Ssh(master) => master.start_command(image, sudo).await?,
        };
        drive(process, image, sudo, &Limits::default()).await
    }

    /// What is known about the connection.
    #[must_use]
    pub fn facts(&self) -> ConnectionInfo {
        match &self.0 {
            Way::Local(_) => ConnectionInfo { transport: "local", ..ConnectionInfo::default() },
            Way::Ssh(master) => master.facts(),
        }
    }

    /// The control socket of the ssh process that holds the connection, to be used with `ssh -S`.
    #[must_use]
    pub fn control_socket(&self) -> Option<&Path> {
        match &self.0 {
            Way::Local(_) => None,
            Way::Ssh(master) => Some(master.control_socket()),
        }
    }

    /// Whether it was there already, so that it may have been lost while nobody used it.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        matches!(&self.0, Way::Ssh(master) if master.is_reused())
    }

    /// Closes the connection. Channels that are still open keep it until they are gone.
    pub async fn close(self) {
        if let Way::Ssh(master) = self.0 {
            master.close().await;
        }
    }
}
