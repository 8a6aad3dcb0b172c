use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::{Secret, Ssh, Transport};

/// A value, and where it is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<T> {
    /// What is said.
    pub value: T,
    /// Where, such as `inventory.toml:12`.
    pub place: String,
}

/// One of the things that decide how a host is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// A word, such as a login name.
    Text(String),
    /// A TCP port.
    Port(u16),
    /// A file.
    Path(PathBuf),
    /// Where a secret is, which is not read before it is needed.
    Secret(Secret),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Text(text) => f.write_str(text),
            Setting::Port(port) => write!(f, "{port}"),
            Setting::Path(path) => write!(f, "{}", path.display()),
            Setting::Secret(secret) => write!(f, "*** ({secret})"),
        }
    }
}

/// What one place says of a host: the host's own table, or that of a group that it is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    /// How it is reached, by the key of `inventory.toml`.
    pub(crate) keys: BTreeMap<&'static str, Said<Setting>>,
    /// Variables of recipes.
    pub(crate) vars: BTreeMap<String, Said<String>>,
    /// Variables of suites.
    pub(crate) set: BTreeMap<String, Said<String>>,
    /// Why toril cannot reach it.
    pub(crate) unusable: Option<Said<String>>,
}

impl Layer {
    /// With what a stronger layer says; where both say something, the stronger one counts.
    pub(crate) fn under(mut self, stronger: &Layer) -> Layer {
        self.keys.extend(stronger.keys.iter().map(|(key, said)| (*key, said.clone())));
        self.vars.extend(stronger.vars.iter().map(|(name, said)| (name.clone(), said.clone())));
        self.set.extend(stronger.set.iter().map(|(name, said)| (name.clone(), said.clone())));
        self.unusable = stronger.unusable.clone().or(self.unusable);
        self
    }

    /// The way that the layer describes to a host of this name.
    pub(crate) fn ssh(&self, name: &str) -> Ssh {
        let text = |key| match self.keys.get(key).map(|said| &said.value) {
            Some(Setting::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let path = |key| match self.keys.get(key).map(|said| &said.value) {
            Some(Setting::Path(path)) => Some(path.clone()),
            _ => None,
        };
        let port = match self.keys.get("port").map(|said| &said.value) {
            Some(Setting::Port(port)) => Some(*port),
            _ => None,
        };
        Ssh {
            host: text("address").unwrap_or_else(|| name.to_owned()),
            user: text("user"),
            port,
            identity: path("identity"),
            known_hosts: path("known-hosts"),
            config: path("ssh-config"),
            host_key: text("host-key").iter().flat_map(|keys| keys.split(' ')).map(str::to_owned).collect(),
            transport: text("transport").and_then(|name| Transport::parse(&name)),
        }
    }

    /// Whether it is the machine that this program was started on.
    pub(crate) fn is_local(&self) -> bool {
        self.keys.contains_key("connection")
    }

    /// Where the password of sudo is, if that is said.
    pub(crate) fn sudo_password(&self) -> Option<Secret> {
        match self.keys.get("sudo-password").map(|said| &said.value) {
            Some(Setting::Secret(secret)) => Some(secret.clone()),
            _ => None,
        }
    }
}
