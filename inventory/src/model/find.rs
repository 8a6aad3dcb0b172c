//! From what users name to hosts, and what is said of these.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Inventory;
use crate::layer::{CONNECTION, Layer, Said};
use crate::read::is_reserved;
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

/// The hosts that an argument stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Those that can be used, at least one.
    pub hosts: Vec<Chosen>,
    /// Why others of the group cannot be.
    pub left_out: Vec<AddressError>,
}

/// A host by the inventory's name for it, or by its address, and all that is said of it.
struct Named {
    name: String,
    layer: Layer,
}

/// The place of what the argument itself says.
const GIVEN: &str = "as it is named";

impl Inventory {
    /// What an argument stands for: a host of this inventory, if need be with another user or port, `local`, `sandbox`,
    /// `sandbox:NAME`, an address, or all hosts of a group (`all` is the group of all), each once.
    ///
    /// # Errors
    /// It is none of these, a host that cannot be used, or a group without one that can.
    pub fn resolve(&self, argument: &str) -> Result<Resolved, AddressError> {
        let members = if self.is_group(argument) { self.members(argument) } else { Vec::new() };
        if !self.is_group(argument) || self.is_host(argument) && members == [argument] {
            return Ok(Resolved { hosts: vec![self.one(argument)?], ..Resolved::default() });
        }
        if self.is_host(argument) {
            let reason =
                "a host and a group are called so: put the one that is meant into a group of another name";
            return Err(AddressError::unusable(argument, reason));
        }
        if members.is_empty() {
            return Err(AddressError::new(argument, "the group has no hosts"));
        }
        let hidden = self.secret_variables();
        let mut resolved = Resolved::default();
        for host in members {
            match self.host(&host, &hidden) {
                Ok(chosen) => resolved.hosts.push(chosen),
                Err(error) => resolved.left_out.push(error),
            }
        }
        if resolved.hosts.is_empty() {
            let reasons: Vec<String> = resolved.left_out.iter().map(ToString::to_string).collect();
            return Err(AddressError::unusable(argument, reasons.join("; ")));
        }
        Ok(resolved)
    }

    /// The host that an argument stands for, as [`Inventory::resolve`] takes it, where no group can be meant.
    ///
    /// # Errors
    /// It is none, or cannot be used.
    pub fn one(&self, argument: &str) -> Result<Chosen, AddressError> {
        self.host(argument, &self.secret_variables())
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

    fn host(&self, argument: &str, hidden: &Arc<[String]>) -> Result<Chosen, AddressError> {
        let named = self.named(argument)?;
        let target = match argument {
            "local" => Target::Host(Host { name: argument.into(), reach: Reach::Local, sandbox: false }),
            "sandbox" => Target::Sandbox(argument.into()),
            _ => match argument.strip_prefix("sandbox:") {
                Some(sandbox) => Target::Sandbox(sandbox_name(argument, sandbox)?),
                None => Target::Host(Host {
                    name: argument.into(),
                    reach: named.reach(argument)?,
                    sandbox: false,
                }),
            },
        };
        Ok(Chosen {
            name: argument.into(),
            target,
            sudo_password: named.layer.sudo_password(),
            vars: named.layer.vars,
            set: named.layer.set,
            hidden: Arc::clone(hidden),
            machines: Arc::default(),
        })
    }

    /// What holds for an argument that is a host's name, a host's name with a user or a port, or an address. What it says
    /// itself is stronger than what the inventory says.
    fn named(&self, argument: &str) -> Result<Named, AddressError> {
        let special = is_reserved(argument) && argument != "all";
        if special || self.hosts.contains_key(argument) {
            return Ok(Named { name: argument.to_owned(), layer: self.layer(argument) });
        }
        let given = Ssh::parse(argument)?;
        let is_known = self.hosts.contains_key(&given.host);
        let mut layer = self.layer(if is_known { &given.host } else { argument });
        let mut say = |key, value| layer.keys.insert(key, Said { value, place: GIVEN.into() });
        if !is_known {
            // What the inventory says of all hosts holds, but it does not say which one this is.
            say("address", Setting::Text(given.host.clone()));
            say(CONNECTION, Setting::Text("ssh".into()));
        }
        let is_more = given.user.is_some() || given.port.is_some();
        if let Some(user) = given.user {
            say("user", Setting::Text(user));
        }
        if let Some(port) = given.port {
            say("port", Setting::Port(port));
        }
        if layer.is_local() && is_more {
            let reason = format!("`{}` is this machine, for which there is no user and no port", given.host);
            return Err(AddressError::unusable(argument, reason));
        }
        Ok(Named { name: given.host, layer })
    }

    /// What is said of a host, and where.
    ///
    /// # Errors
    /// It is no host.
    pub fn explain(&self, host: &str) -> Result<Explained, AddressError> {
        let named = self.named(host)?;
        let unusable = named.layer.unusable();
        if unusable.is_none() {
            self.one(host)?;
        }
        Ok(Explained {
            groups: self.groups_of(&named.name).into_iter().map(str::to_owned).collect(),
            keys: named.layer.told_keys(),
            vars: named.layer.vars,
            set: named.layer.set,
            unusable,
        })
    }
}

impl Named {
    fn reach(&self, argument: &str) -> Result<Reach, AddressError> {
        if let Some(said) = self.layer.unusable() {
            return Err(AddressError::unusable(argument, format!("{} ({})", said.value, said.place)));
        }
        Ok(if self.layer.is_local() { Reach::Local } else { Reach::Ssh(self.layer.ssh(&self.name)) })
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
