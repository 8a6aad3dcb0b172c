use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use toril_document::{Document, Problem, Problems, Source};

use crate::layer::{Layer, Said};
use crate::read::{self, is_reserved, meant};
use crate::{AddressError, Host, Imported, Reach, Secret, Setting, Ssh};

/// The hosts that a file names, and its groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    pub(crate) hosts: BTreeMap<String, Layer>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) feeds: Vec<Feed>,
    /// The file itself, for mistakes that show only when all of it is known.
    pub(crate) source: Option<Arc<Source>>,
}

/// Hosts that have something in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) layer: Layer,
    pub(crate) hosts: Vec<Member>,
    pub(crate) groups: Vec<Member>,
}

/// A host or a group by its name, and where it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) span: Range<usize>,
}

/// Something beside the file that tells of more hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// What it is.
    pub what: Feeding,
    /// The group that all of its hosts are in.
    pub(crate) group: Option<String>,
    pub(crate) span: Range<usize>,
}

/// Where hosts can come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feeding {
    /// A command that prints an inventory as Ansible's JSON.
    Command(Vec<String>),
    /// A file of ssh's configuration.
    SshConfig(std::path::PathBuf),
}

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
    /// Reads an inventory:
    ///
    /// ```toml
    /// [hosts.ovh-1]
    /// address = "203.0.113.7"   # without it, the host's name
    /// user = "debian"
    ///
    /// [groups.lab]
    /// hosts = ["ovh-1"]
    /// vars = { user = "builder" }
    /// ```
    ///
    /// Where it has sources, what they tell is to be added by [`Inventory::complete`].
    ///
    /// # Errors
    /// Every mistake in it, with its place.
    pub fn parse(name: &str, text: &str) -> Result<Inventory, Problems> {
        let inventory = Document::read(name, text, |table| Some(read::read(table)))?;
        match inventory.feeds.is_empty() {
            true => inventory.checked(),
            false => Ok(inventory),
        }
    }

    /// The JSON Schema of an inventory.
    pub fn schema() -> serde_json::Value {
        Document::shape(|table| drop(read::read(table))).json_schema()
    }

    /// What tells of more hosts.
    pub fn feeds(&self) -> &[Feed] {
        &self.feeds
    }

    /// Adds what the sources have told, in their order, or why one of them could not be asked. What the file itself says
    /// of a host is stronger, and so is what an earlier source says.
    ///
    /// # Errors
    /// A source that could not be asked, and what in the whole of it cannot be, each with its place.
    pub fn complete(mut self, told: Vec<Result<Imported, String>>) -> Result<Inventory, Problems> {
        let mut problems = Problems::default();
        for (feed, told) in self.feeds.clone().into_iter().zip(told) {
            match told {
                Ok(imported) => self.add(imported, &feed),
                Err(message) => problems.0.extend(self.problem("I006", &feed.span, message, None)),
            }
        }
        // What depends on a source that is not there would be no mistake of the file's.
        problems.or(())?;
        self.checked()
    }

    fn add(&mut self, imported: Imported, feed: &Feed) {
        let member = |name: String| Member { name, span: feed.span.clone() };
        if let Some(name) = &feed.group {
            let group = self.groups.entry(name.clone()).or_default();
            group.hosts.extend(imported.hosts.keys().cloned().map(member));
        }
        for (name, layer) in imported.hosts {
            let known = self.hosts.remove(&name).unwrap_or_default();
            self.hosts.insert(name, layer.under(&known));
        }
        for (name, more) in imported.groups {
            let group = self.groups.entry(name).or_default();
            group.layer = more.layer.under(&group.layer);
            group.hosts.extend(more.hosts.into_iter().map(member));
            group.groups.extend(more.groups.into_iter().map(member));
        }
    }

    fn problem(
        &self,
        code: &'static str,
        span: &Range<usize>,
        message: String,
        help: Option<String>,
    ) -> Option<Problem> {
        let source = self.source.clone()?;
        Some(Problem { code, message, source, span: span.clone(), help })
    }

    /// Sees that all that is named is there, and that no group is part of itself.
    fn checked(self) -> Result<Inventory, Problems> {
        let mut problems = Problems::default();
        for (name, group) in &self.groups {
            for member in &group.hosts {
                let special = is_reserved(&member.name) && member.name != "all";
                if special && Inventory::default().resolve(&member.name).is_ok() {
                    continue;
                }
                if self.groups.contains_key(&member.name) && !self.hosts.contains_key(&member.name) {
                    let help = "name it under `groups`".to_owned();
                    let message = format!("`{}` is a group, not a host", member.name);
                    problems.0.extend(self.problem("I003", &member.span, message, Some(help)));
                } else if !self.hosts.contains_key(&member.name) {
                    let help = meant(&member.name, self.hosts.keys().map(String::as_str));
                    let message = format!("group `{name}` names a host `{}` that is nowhere", member.name);
                    let help = help.or_else(|| Some(format!("write [hosts.{:?}]", member.name)));
                    problems.0.extend(self.problem("I003", &member.span, message, help));
                }
            }
            for member in group.groups.iter().filter(|member| !self.groups.contains_key(&member.name)) {
                let help = meant(&member.name, self.groups.keys().map(String::as_str));
                let message = format!("group `{name}` names a group `{}` that is nowhere", member.name);
                problems.0.extend(self.problem("I003", &member.span, message, help));
            }
            if self.hosts.contains_key(name) {
                let span = group.hosts.first().or(group.groups.first()).map_or(0..0, |m| m.span.clone());
                let message = format!("`{name}` is the name of a host and of a group");
                problems.0.extend(self.problem("I005", &span, message, None));
            }
        }
        self.cycles(&mut problems);
        problems.or(()).map(|()| self)
    }

    /// Groups that are part of themselves, each ring once.
    fn cycles(&self, problems: &mut Problems) {
        let mut done = BTreeSet::new();
        for name in self.groups.keys() {
            self.follow(name, &mut Vec::new(), &mut done, problems);
        }
    }

    fn follow<'i>(
        &'i self,
        name: &'i str,
        path: &mut Vec<(&'i str, &'i Member)>,
        done: &mut BTreeSet<&'i str>,
        problems: &mut Problems,
    ) {
        let Some((name, group)) = self.groups.get_key_value(name) else { return };
        if done.contains(name.as_str()) {
            return;
        }
        for member in &group.groups {
            path.push((name, member));
            if let Some(start) = path.iter().position(|(of, _)| *of == member.name) {
                let steps = path.iter().skip(start).map(|(of, member)| match &self.source {
                    Some(source) => format!("`{of}` (line {})", source.line_column(member.span.start).0),
                    None => format!("`{of}`"),
                });
                let ring = steps.collect::<Vec<_>>().join(" has ");
                let message = format!("group `{0}` is part of itself: {ring} has `{0}`", member.name);
                problems.0.extend(self.problem("I004", &member.span, message, None));
            } else {
                self.follow(&member.name, path, done, problems);
            }
            path.pop();
        }
        done.insert(name);
    }

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
        let over_ssh = layers.filter(|(_, layer)| !layer.is_local() && layer.unusable.is_none());
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

    /// The names of all groups, but that of all hosts.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str).filter(|name| *name != "all")
    }

    /// Whether there is a group of this name. That of all hosts is always there.
    pub fn is_group(&self, name: &str) -> bool {
        name == "all" || self.groups.contains_key(name)
    }

    /// The names of a group's hosts, those of the groups in it included, each once.
    pub fn members(&self, group: &str) -> Vec<String> {
        let mut hosts: Vec<String> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut add = |name: &str| {
            if seen.insert(name.to_owned()) {
                hosts.push(name.to_owned());
            }
        };
        if group == "all" {
            self.hosts.keys().for_each(|name| add(name));
            // Such as sandboxes, which no table describes.
            self.groups.values().flat_map(|group| &group.hosts).for_each(|member| add(&member.name));
            return hosts;
        }
        for name in self.below(group) {
            self.groups.get(name).iter().flat_map(|group| &group.hosts).for_each(|member| add(&member.name));
        }
        hosts
    }

    /// A group and all groups in it.
    fn below<'i>(&'i self, group: &'i str) -> Vec<&'i str> {
        let mut found = vec![group];
        let mut next = 0;
        while let Some(name) = found.get(next).copied() {
            next += 1;
            for member in self.groups.get(name).iter().flat_map(|group| &group.groups) {
                if !found.contains(&member.name.as_str()) {
                    found.push(&member.name);
                }
            }
        }
        found
    }

    /// The groups that a host is in, the outermost first; of equally far ones by name. `all` is not among them.
    fn groups_of(&self, host: &str) -> Vec<&str> {
        let direct = self.groups.iter().filter(|(_, group)| group.hosts.iter().any(|m| m.name == host));
        let mut found: Vec<&str> = direct.map(|(name, _)| name.as_str()).collect();
        let mut next = 0;
        while let Some(name) = found.get(next).copied() {
            next += 1;
            for (above, group) in &self.groups {
                if group.groups.iter().any(|member| member.name == name) && !found.contains(&above.as_str()) {
                    found.push(above);
                }
            }
        }
        // The longest way down to a group decides, as in Ansible.
        let mut depths: BTreeMap<&str, usize> = found.iter().map(|name| (*name, 0)).collect();
        for _ in 0..found.len() {
            for above in &found {
                let Some(depth) = depths.get(above).copied() else { continue };
                for member in self.groups.get(*above).iter().flat_map(|group| &group.groups) {
                    if let Some(below) = depths.get_mut(member.name.as_str()) {
                        *below = (*below).max(depth + 1);
                    }
                }
            }
        }
        found.retain(|name| *name != "all");
        found.sort_by_key(|name| (depths.get(name).copied(), *name));
        found
    }

    /// All that is said of a host: of all hosts, then of its groups, then of itself.
    fn layer(&self, host: &str) -> Layer {
        let groups = ["all"].into_iter().chain(self.groups_of(host));
        let layers = groups.filter_map(|name| self.groups.get(name)).map(|group| &group.layer);
        layers.chain(self.hosts.get(host)).fold(Layer::default(), Layer::under)
    }

    fn host(&self, name: &str, hidden: &Arc<[String]>) -> Result<Chosen, AddressError> {
        let mut layer = self.layer(name);
        let target = match name {
            "local" => Target::Host(Host { name: name.into(), reach: Reach::Local, sandbox: false }),
            "sandbox" => Target::Sandbox(name.into()),
            _ => match name.strip_prefix("sandbox:") {
                Some(sandbox) => Target::Sandbox(sandbox_name(name, sandbox)?),
                None => Target::Host(self.reached(name, &mut layer)?),
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

    fn reached(&self, name: &str, layer: &mut Layer) -> Result<Host, AddressError> {
        if let Some(said) = &layer.unusable {
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
        if layer.unusable.is_none() {
            self.host(host, &self.secret_variables())?;
        }
        Ok(Explained {
            groups: self.groups_of(host).into_iter().map(str::to_owned).collect(),
            keys: layer.keys.into_iter().collect(),
            vars: layer.vars,
            set: layer.set,
            unusable: layer.unusable,
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

#[cfg(test)]
mod tests;
