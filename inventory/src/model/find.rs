//! From what users name to hosts, and what is said of these.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Inventory;
use crate::layer::{Layer, Said};
use crate::{AddressError, Host, Reach, Secret, Setting, Ssh};

/// What a host on the command line stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A host as it is.
    Host(Host),
    /// The sandbox of this name, whose address is not known before it is up.
    Sandbox(String),
}

/// A host that was chosen, with what the inventory says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// What the user calls it.
    pub name: String,
    /// What it is.
    pub target: Target,
    /// Variables of recipes, as far as recipes have them.
    pub vars: BTreeMap<String, Said<String>>,
    /// Variables of suites, as far as suites have them.
    pub set: BTreeMap<String, Said<String>>,
    /// Where the password of sudo is.
    pub sudo_password: Option<Secret>,
    /// The environment variables that hold secrets of whatever host of the inventory.
    pub hidden: Arc<[String]>,
    /// How all hosts of the inventory are reached, some of which may be on the way to this one; filled in by who asks for
    /// [`Inventory::machines`].
    pub machines: Arc<BTreeMap<String, Ssh>>,
}

/// What an inventory says of one host, and where it says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The groups that it is in, the outermost first; what a later one says wins.
    pub groups: Vec<String>,
    /// How it is reached, by key.
    pub keys: Vec<(&'static str, Said<Setting>)>,
    /// Variables of recipes.
    pub vars: BTreeMap<String, Said<String>>,
    /// Variables of suites.
    pub set: BTreeMap<String, Said<String>>,
    /// Why toril cannot reach it, if it cannot.
    pub unusable: Option<Said<String>>,
}

impl Inventory {
    /// What an argument stands for: a host of this inventory, `local`, `sandbox`, `sandbox:NAME`, an address, or all
    /// hosts of a group (`all` is the group of all), each once.
    ///
    /// # Errors
    /// It is none of these, or a group without hosts.
    pub fn resolve(&self, argument: &str) -> Result<Vec<Chosen>, AddressError> {
        if !self.hosts.contains_key(argument) && (argument == "all" || self.groups.contains_key(argument)) {
            let hosts = self.members(argument);
            if hosts.is_empty() {
                return Err(AddressError::new(argument, "the group has no hosts"));
            }
            let hidden = self.secret_variables();
            return hosts.iter().map(|host| self.host(host, &hidden)).collect();
        }
        Ok(vec![self.host(argument, &self.secret_variables())?])
    }

    /// How the hosts that have a table or that a source tells of are reached over ssh, by name.
    pub fn machines(&self) -> BTreeMap<String, Ssh> {
        let layers = self.hosts.keys().map(|name| (name, self.layer(name)));
        let over_ssh = layers.filter(|(_, layer)| !layer.is_local() && layer.unusable().is_none());
        over_ssh.map(|(name, layer)| (name.clone(), layer.ssh(name))).collect()
    }

    fn secret_variables(&self) -> Arc<[String]> {
        let layers = self.groups.values().map(|group| &group.layer).chain(self.hosts.values());
        let names = layers.filter_map(|layer| match layer.sudo_password() {
            Some(Secret::Environment(name)) => Some(name),
            _ => None,
        });
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn host(&self, name: &str, hidden: &Arc<[String]>) -> Result<Chosen, AddressError> {
        let layer = self.layer(name);
        let target = match name {
            "local" => Target::Host(Host { name: name.into(), reach: Reach::Local, sandbox: false }),
            "sandbox" => Target::Sandbox(name.into()),
            _ => match name.strip_prefix("sandbox:") {
                Some(sandbox) => Target::Sandbox(sandbox_name(name, sandbox)?),
                None => Target::Host(self.reached(name, &layer)?),
            },
        };
        let sudo_password = layer.sudo_password();
        let hidden = Arc::clone(hidden);
        Ok(Chosen {
            name: name.into(),
            target,
            vars: layer.vars,
            set: layer.set,
            sudo_password,
            hidden,
            machines: Arc::default(),
        })
    }

    fn reached(&self, name: &str, layer: &Layer) -> Result<Host, AddressError> {
        if let Some(said) = layer.unusable() {
            return Err(AddressError::new(name, format!("{} ({})", said.value, said.place)));
        }
        let reach = match self.hosts.contains_key(name) {
            true if layer.is_local() => Reach::Local,
            true => Reach::Ssh(layer.ssh(name)),
            // Of an address, what the inventory says of all hosts holds where the address says nothing.
            false => {
                let given = Ssh::parse(name)?;
                let general = layer.ssh(name);
                Reach::Ssh(Ssh {
                    host: given.host,
                    user: given.user.or(general.user),
                    port: given.port.or(general.port),
                    ..general
                })
            }
        };
        Ok(Host { name: name.to_owned(), reach, sandbox: false })
    }

    /// What is said of a host, and where.
    ///
    /// # Errors
    /// It is no host.
    pub fn explain(&self, host: &str) -> Result<Explained, AddressError> {
        let layer = self.layer(host);
        let unusable = layer.unusable();
        if unusable.is_none() {
            self.host(host, &self.secret_variables())?;
        }
        Ok(Explained {
            groups: self.groups_of(host).into_iter().map(str::to_owned).collect(),
            keys: layer.told_keys(),
            vars: layer.vars,
            set: layer.set,
            unusable,
        })
    }
}

fn sandbox_name(argument: &str, name: &str) -> Result<String, AddressError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !(1..=32).contains(&name.len()) || name.starts_with('-') || !name.chars().all(allowed) {
        let reason = "a sandbox's name is 1 to 32 of a-z, 0-9 and -, not beginning with -";
        return Err(AddressError::new(argument, reason));
    }
    Ok(name.to_owned())
}
