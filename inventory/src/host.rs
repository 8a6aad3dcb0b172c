use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Transport;

/// A machine that toril can be told to work on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// What the user calls it; every message about the host begins with this.
    pub name: String,
    /// The way to it.
    pub reach: Reach,
    /// A throwaway host made by toril: changed without asking, TCG allowed.
    pub sandbox: bool,
}

/// How a host is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// It is the machine that this program was started on.
    Local,
    /// Over ssh.
    Ssh(Ssh),
}

/// Where an ssh host is. What is `None` here is left to the user's ssh configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssh {
    /// Host name, address, or an alias of the user's ssh configuration.
    pub host: String,
    /// Login name.
    pub user: Option<String>,
    /// TCP port.
    pub port: Option<u16>,
    /// The only private key file to offer.
    pub identity: Option<PathBuf>,
    /// A known_hosts file used in place of the user's.
    pub known_hosts: Option<PathBuf>,
    /// A file of ssh's configuration that is read in place of the user's.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// SHA-256 fingerprints of the only host keys that are accepted, as `SHA256:…`; known_hosts do not count then.
    #[serde(default)]
    pub host_key: Vec<String>,
    /// What carries the connection.
    #[serde(default)]
    pub transport: Option<Transport>,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
