//! Ways to a host.

mod again;
mod choose;
mod classify;
mod error;
mod local;
mod log;
mod master;
mod meaning;
mod russh;
mod standing;
mod terminal;
mod user;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toril_inventory::{Host, Reach, Ssh, Transport};

use crate::channel::Channel;
use crate::image::AgentImage;
use crate::start::{Limits, NotStarted, StartError, Stored, Sudo, drive};

pub use self::russh::{KEY_VARIABLE, PASSPHRASE_VARIABLE, Route, route, take_secrets};
pub use choose::chosen;
pub use error::{ConnectError, OfferedKey};
pub use log::ConnectionInfo;
pub use standing::disconnect;
pub use user::login_name;

use local::Local;
use master::Master;

/// What a login may take beyond the connection, when nobody is asked anything.
const LOGIN: Duration = Duration::from_secs(60);

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
    /// What carries connections, whatever a host's entry says.
    pub transport: Option<Transport>,
    /// What carries connections where a host's entry does not say it either.
    pub usual_transport: Option<Transport>,
    /// Fingerprints of the only host keys that are accepted, in place of those of a host's entry. Of a jump host they are
    /// accepted beside what else is known of it.
    pub host_keys: Vec<String>,
    /// How the hosts of the inventory are reached, by name: jump hosts are looked up here by russh.
    pub machines: Arc<BTreeMap<String, Ssh>>,
    /// Environment variables that hold secrets, which the processes that connect are not to inherit.
    pub hidden: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interactive: false,
            connect_timeout: Duration::from_secs(15),
            ssh_options: Vec::new(),
            standing: None,
            transport: None,
            usual_transport: None,
            host_keys: Vec::new(),
            machines: Arc::default(),
            hidden: Vec::new(),
        }
    }
}

/// A way to a host, over which agents can be started. Dropping it closes it once the last [`Channel`] on it
/// is gone.
#[derive(Debug)]
pub struct Connection {
    way: Way,
    /// How many the host had closed before, before the login.
    closed_before: u32,
}

#[derive(Debug)]
enum Way {
    Local(Local),
    Openssh(Box<Master>),
    Russh(Box<self::russh::Client>),
}

/// Opens the way to a host; where the host closes it before the login, a few times within the time that it has to answer. It
/// needs a tokio runtime with time and I/O, of any flavour.
///
/// # Errors
/// [`ConnectError`], which says what to try.
pub async fn connect(host: &Host, options: &Options) -> Result<Connection, ConnectError> {
    let attempt =
        async |left: Duration| once(host, &Options { connect_timeout: left, ..options.clone() }).await;
    let (way, closed_before) =
        again::until_it_stays_open(options.connect_timeout, again::FIRST_PAUSE, attempt).await?;
    Ok(Connection { way, closed_before })
}

async fn once(host: &Host, options: &Options) -> Result<Way, ConnectError> {
    Ok(match &host.reach {
        Reach::Local => Way::Local(Local { hidden: options.hidden.clone() }),
        Reach::Ssh(ssh) => match chosen(ssh, options)? {
            Transport::Openssh => Way::Openssh(Box::new(Master::start(ssh, options).await?)),
            Transport::Russh => {
                let interactive = options.interactive && std::io::stdin().is_terminal();
                Way::Russh(Box::new(self::russh::Client::start(ssh, options, interactive).await?))
            }
        },
    })
}

impl Connection {
    /// Starts the agent as root, after putting it on the host if it is not there. It may be called several
    /// times; each agent has a channel of its own.
    ///
    /// # Errors
    /// [`StartError`], which says what to try.
    pub async fn start_agent(&self, image: &AgentImage, sudo: &Sudo) -> Result<Channel, StartError> {
        match self.try_agent(image, sudo, Stored::Run).await {
            // What the host had may have been damaged since it was put there; what is sent is checked.
            Err(NotStarted { error, stored: true }) if self.delivers() && error.may_be_damage() => {
                self.try_agent(image, sudo, Stored::Replace).await
            }
            started => started,
        }
        .map_err(|failed| failed.error)
    }

    async fn try_agent(
        &self,
        image: &AgentImage,
        sudo: &Sudo,
        stored: Stored,
    ) -> Result<Channel, NotStarted> {
        let process = match &self.way {
            Way::Local(local) => local.start(image, sudo),
            Way::Openssh(master) => master.start_command(image, sudo, stored).await,
            Way::Russh(client) => client.start_command(image, sudo, stored).await,
        };
        let process = process.map_err(|error| NotStarted { error, stored: false })?;
        drive(process, image, sudo, &Limits::default()).await
    }

    fn delivers(&self) -> bool {
        !matches!(self.way, Way::Local(_))
    }

    /// What is known about the connection.
    #[must_use]
    pub fn facts(&self) -> ConnectionInfo {
        let info = match &self.way {
            Way::Local(_) => ConnectionInfo { transport: "local", ..ConnectionInfo::default() },
            Way::Openssh(master) => master.facts(),
            Way::Russh(client) => client.facts(),
        };
        ConnectionInfo { closed_before: self.closed_before, ..info }
    }

    /// The control socket of the ssh process that holds the connection, to be used with `ssh -S`, if one does.
    #[must_use]
    pub fn control_socket(&self) -> Option<&Path> {
        match &self.way {
            Way::Local(_) | Way::Russh(_) => None,
            Way::Openssh(master) => Some(master.control_socket()),
        }
    }

    /// Whether it was there already, so that it may have been lost while nobody used it.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        matches!(&self.way, Way::Openssh(master) if master.is_reused())
    }

    /// Closes the connection. Channels that are still open keep it until they are gone.
    pub async fn close(self) {
        match self.way {
            Way::Local(_) => {}
            Way::Openssh(master) => master.close().await,
            Way::Russh(client) => client.close().await,
        }
    }
}
