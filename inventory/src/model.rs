mod check;
mod find;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use toril_document::{Document, Problem, Problems, Source};

use crate::Imported;
use crate::layer::Layer;
use crate::read;

pub use find::{Chosen, Explained, Resolved, Target};

/// The hosts that a file names, and its groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    pub(crate) hosts: BTreeMap<String, Layer>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) feeds: Vec<Feed>,
    /// The hosts and groups that sources have told of.
    pub(crate) told: BTreeSet<String>,
    /// The file itself, for mistakes that show only when all of it is known.
    pub(crate) source: Option<Arc<Source>>,
}

/// Hosts that have something in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) layer: Layer,
    /// Among groups that are equally deep, what one of a higher priority says wins; 1 where none is said.
    pub(crate) priority: Option<i64>,
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
        self.told.extend(imported.hosts.keys().chain(imported.groups.keys()).cloned());
        for (name, layer) in imported.hosts {
            let known = self.hosts.remove(&name).unwrap_or_default();
            self.hosts.insert(name, layer.under(&known));
        }
        for (name, more) in imported.groups {
            let group = self.groups.entry(name).or_default();
            group.layer = more.layer.under(&group.layer);
            group.priority = group.priority.or(more.priority);
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

    /// The names of all groups, but that of all hosts.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str).filter(|name| *name != "all")
    }

    /// Whether there is a group of this name. That of all hosts is always there.
    pub fn is_group(&self, name: &str) -> bool {
        name == "all" || self.groups.contains_key(name)
    }

    /// Whether there is a host of this name.
    pub fn is_host(&self, name: &str) -> bool {
        self.hosts.contains_key(name)
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

    /// The groups that a host is in, the outermost first; of equally deep ones by priority, and then by name, as in Ansible.
    /// `all` is not among them.
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
        // The longest way down to a group decides.
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
        let priority = |name: &str| self.groups.get(name).and_then(|group| group.priority).unwrap_or(1);
        found.sort_by_key(|name| (depths.get(name).copied(), priority(name), *name));
        found
    }

    /// All that is said of a host: of all hosts, then of its groups, then of itself.
    fn layer(&self, host: &str) -> Layer {
        let groups = ["all"].into_iter().chain(self.groups_of(host));
        let layers = groups.filter_map(|name| self.groups.get(name)).map(|group| &group.layer);
        layers.chain(self.hosts.get(host)).fold(Layer::default(), Layer::under)
    }
}

#[cfg(test)]
mod tests;
