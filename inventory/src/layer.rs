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
    /// What toril cannot do, and why: the host cannot be used, unless what is stronger says something else.
    Unusable(String),
    /// Nothing, whatever a weaker place says.
    Unset,
}

/// The key under which it stands by what a host is reached: `ssh`, `local`, or something that toril cannot use.
pub(crate) const CONNECTION: &str = "connection";

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Text(text) => f.write_str(text),
            Setting::Port(port) => write!(f, "{port}"),
            Setting::Path(path) => write!(f, "{}", path.display()),
            Setting::Secret(secret) => write!(f, "*** ({secret})"),
            Setting::Unusable(reason) => write!(f, "cannot be used: {reason}"),
            Setting::Unset => f.write_str("not set"),
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
}

impl Layer {
    /// With what a stronger layer says; where both say something, the stronger one counts.
    pub(crate) fn under(mut self, stronger: &Layer) -> Layer {
        self.keys.extend(stronger.keys.iter().map(|(key, said)| (*key, said.clone())));
        self.vars.extend(stronger.vars.iter().map(|(name, said)| (name.clone(), said.clone())));
        self.set.extend(stronger.set.iter().map(|(name, said)| (name.clone(), said.clone())));
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
        matches!(self.keys.get(CONNECTION), Some(Said { value: Setting::Text(way), .. }) if way == "local")
    }

    /// Why toril cannot reach it, if it cannot.
    pub(crate) fn unusable(&self) -> Option<Said<String>> {
        // This machine has no address that could be wrong.
        let mut keys = self.keys.values().filter(|_| !self.is_local());
        keys.find_map(|said| match &said.value {
            Setting::Unusable(reason) => Some(Said { value: reason.clone(), place: said.place.clone() }),
            _ => None,
        })
    }

    /// How it is reached, by key. That it is by ssh goes without saying, and why it cannot be is told apart from these.
    pub(crate) fn told_keys(&self) -> Vec<(&'static str, Said<Setting>)> {
        let is_told = |(key, said): &(&&'static str, &Said<Setting>)| match &said.value {
            Setting::Unusable(_) | Setting::Unset => false,
            Setting::Text(way) => **key != CONNECTION || way != "ssh",
            _ => true,
        };
        self.keys.iter().filter(is_told).map(|(key, said)| (*key, said.clone())).collect()
    }

    /// Where the password of sudo is, if that is said.
    pub(crate) fn sudo_password(&self) -> Option<Secret> {
        match self.keys.get("sudo-password").map(|said| &said.value) {
            Some(Setting::Secret(secret)) => Some(secret.clone()),
            _ => None,
        }
    }
}
