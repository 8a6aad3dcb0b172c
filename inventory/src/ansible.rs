//! Ansible's inventory as JSON, as `ansible-inventory --list` and inventory scripts print it.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::Ssh;
use crate::imported::{Imported, ImportedGroup};
use crate::layer::{CONNECTION, Layer, Said, Setting};
use crate::read::{home_path, is_address, is_login, is_reserved};

impl Imported {
    /// Reads Ansible's JSON. `origin` says in messages where it came from.
    ///
    /// `ansible_host`, `ansible_port`, `ansible_user` and `ansible_ssh_private_key_file` say how hosts are reached; the other
    /// variables are variables of recipes, as far as they are strings, numbers, or true or false. What begins with
    /// `ansible_` is Ansible's own.
    ///
    /// A host that toril cannot reach so is there, and cannot be used. Of no value a reason repeats the text, which may be a
    /// secret, but of what a host is reached by.
    ///
    /// # Errors
    /// It is not JSON of this form.
    pub fn ansible(origin: &str, text: &str) -> Result<Imported, String> {
        let top: Map<String, Json> = serde_json::from_str(text)
            .map_err(|error| format!("{origin} printed no inventory in Ansible's JSON: {}", place(&error)))?;
        let mut reader = Reader { origin, imported: Imported::default() };
        for (name, value) in &top {
            if name == "_meta" {
                reader.meta(value)?;
            } else {
                reader.group(name, value)?;
            }
        }
        let groups: Vec<String> =
            reader.imported.groups.values().flat_map(|group| &group.groups).cloned().collect();
        // `all` is the group of all hosts anyway; a group that is only named has nobody in it.
        for name in groups {
            reader.imported.groups.entry(name).or_default();
        }
        if let Some(all) = reader.imported.groups.get_mut("all") {
            all.groups.clear();
        }
        Ok(reader.imported)
    }
}

/// Where JSON is wrong, without the text that stands there.
fn place(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Eof => "it ends in the middle".into(),
        serde_json::error::Category::Data => "it is no JSON object".into(),
        _ => format!("it is no JSON at line {}, column {}", error.line(), error.column()),
    }
}

struct Reader<'o> {
    origin: &'o str,
    imported: Imported,
}

impl Reader<'_> {
    fn meta(&mut self, value: &Json) -> Result<(), String> {
        let Some(hosts) = value.get("hostvars") else { return Ok(()) };
        for (name, vars) in self.object(hosts, "_meta.hostvars")? {
            let vars = self.object(vars, &format!("_meta.hostvars.{name}"))?;
            let layer = self.host(name, self.layer(vars, &format!("host {name}")));
            self.imported.hosts.insert(called(name), layer);
        }
        Ok(())
    }

    fn group(&mut self, name: &str, value: &Json) -> Result<(), String> {
        let mut group = ImportedGroup::default();
        let mut hosts = Vec::new();
        match value {
            // As old scripts have it.
            Json::Array(_) => hosts = self.names(value, name)?,
            _ => {
                let told = self.object(value, name)?.iter().filter(|(_, value)| !value.is_null());
                for (key, value) in told {
                    match key.as_str() {
                        "hosts" => hosts = self.names(value, &format!("{name}.hosts"))?,
                        "children" => group.groups = self.names(value, &format!("{name}.children"))?,
                        "vars" => {
                            let vars = self.object(value, &format!("{name}.vars"))?;
                            group.layer = self.layer(vars, &format!("group {name}"));
                            group.priority = vars.get("ansible_group_priority").and_then(number);
                        }
                        _ => {}
                    }
                }
            }
        }
        for host in &hosts {
            let layer = self.host(host, Layer::default());
            self.imported.hosts.entry(called(host)).or_insert(layer);
        }
        group.hosts = hosts.iter().map(|host| called(host)).collect();
        group.groups = group.groups.iter().map(|group| group_called(group)).collect();
        self.imported.groups.insert(group_called(name), group);
        Ok(())
    }

    /// What is said of a host. One whose name toril has no use for is there, and cannot be used.
    fn host(&self, name: &str, mut layer: Layer) -> Layer {
        if called(name) != name {
            let reason = match is_reserved(name) {
                true => "its name is one that toril uses itself",
                false => "its name is none that a host can have",
            };
            let place = format!("{} (host {name:?})", self.origin);
            layer.keys.insert(CONNECTION, Said { value: Setting::Unusable(reason.into()), place });
        }
        layer
    }

    fn object<'v>(&self, value: &'v Json, at: &str) -> Result<&'v Map<String, Json>, String> {
        value.as_object().ok_or_else(|| format!("in what {} printed, `{at}` is no object", self.origin))
    }

    /// A list of names, or an object whose keys they are.
    fn names(&self, value: &Json, at: &str) -> Result<Vec<String>, String> {
        let wrong = || format!("in what {} printed, `{at}` is no list of names", self.origin);
        match value {
            Json::Array(items) => {
                items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
            }
            Json::Object(entries) => Ok(entries.keys().cloned().collect()),
            _ => Err(wrong()),
        }
    }

    fn layer(&self, vars: &Map<String, Json>, of: &str) -> Layer {
        let place = format!("{} ({of})", self.origin);
        let settings = VARIABLES.iter().filter_map(|variable| {
            let value = variable.setting(vars)?;
            Some((variable.key, Said { value, place: place.clone() }))
        });
        Layer { keys: settings.collect(), vars: variables(vars, &place), ..Layer::default() }
    }
}

/// What toril calls a host: its name, or that in quotes if it is one that toril uses itself, or none that a host can have.
fn called(name: &str) -> String {
    let is_name = !is_reserved(name) && Ssh::parse(name).is_ok() && !name.contains(char::is_control);
    if is_name { name.to_owned() } else { format!("{name:?}") }
}

/// The same of a group.
fn group_called(name: &str) -> String {
    if name == "all" { name.to_owned() } else { called(name) }
}

/// A variable of Ansible's that says how a host is reached.
struct Variable {
    key: &'static str,
    /// What Ansible calls it. Of several that are set the last one counts, as there.
    names: &'static [&'static str],
    read: fn(&Json) -> Option<Setting>,
    /// What it is where it cannot be read.
    otherwise: &'static str,
}

const VARIABLES: [Variable; 5] = [
    Variable {
        key: "address",
        names: &["ansible_host", "ansible_ssh_host"],
        read: |value| value.as_str().filter(|text| is_address(text)).map(|text| Setting::Text(text.into())),
        otherwise: "no address of a host",
    },
    Variable {
        key: "user",
        names: &["ansible_user", "ansible_ssh_user"],
        read: |value| value.as_str().filter(|text| is_login(text)).map(|text| Setting::Text(text.into())),
        otherwise: "no login name",
    },
    Variable {
        key: "port",
        names: &["ansible_port", "ansible_ssh_port"],
        read: |value| port(value).map(Setting::Port),
        otherwise: "no port from 1 to 65535",
    },
    Variable {
        key: "identity",
        names: &["ansible_private_key_file", "ansible_ssh_private_key_file"],
        read: |value| value.as_str().map(|path| Setting::Path(home_path(path))),
        otherwise: "no path of a file",
    },
    Variable {
        key: CONNECTION,
        names: &["ansible_connection"],
        read: |value| value.as_str().map(connection),
        otherwise: "no text",
    },
];

impl Variable {
    /// What is set of it, if anything. What cannot be read makes a host unusable, which is no reason to refuse others.
    fn setting(&self, vars: &Map<String, Json>) -> Option<Setting> {
        let mut set = self.names.iter().rev().filter_map(|name| Some((*name, vars.get(*name)?)));
        // Nothing is something, too: it counts against what a weaker place says.
        let nothing = set.clone().next().map(|_| Setting::Unset);
        let is_nothing = |value: &Json| value.is_null() || value.as_str() == Some("");
        let Some((name, value)) = set.find(|(_, value)| !is_nothing(value)) else { return nothing };
        let is_template = value.as_str().is_some_and(|text| text.contains("{{") || text.contains("{%"));
        let unusable = |what: &str| Setting::Unusable(format!("`{name}` is {what}"));
        Some(match is_template {
            true => unusable("a template, which Ansible fills in and toril does not"),
            false => (self.read)(value).unwrap_or_else(|| unusable(self.otherwise)),
        })
    }
}

fn port(value: &Json) -> Option<u16> {
    u16::try_from(number(value)?).ok().filter(|port| *port > 0)
}

fn number(value: &Json) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// What Ansible reaches a host by. It is kept whatever it is, since it counts against what a weaker place says.
fn connection(way: &str) -> Setting {
    let short = ["ansible.builtin.", "ansible.legacy."].iter().find_map(|of| way.strip_prefix(of));
    match short.unwrap_or(way) {
        "ssh" | "smart" | "openssh" | "paramiko" | "paramiko_ssh" => Setting::Text("ssh".into()),
        "local" => Setting::Text("local".into()),
        _ => Setting::Unusable(format!("Ansible reaches it by {way:?}, and toril by ssh only")),
    }
}

/// What may be a variable of a recipe.
fn variables(vars: &Map<String, Json>, place: &str) -> BTreeMap<String, Said<String>> {
    let own = vars.iter().filter(|(name, _)| !name.starts_with("ansible_"));
    let texts = own.filter_map(|(name, value)| {
        let text = match value {
            Json::String(text) => text.clone(),
            Json::Number(number) => number.to_string(),
            Json::Bool(flag) => flag.to_string(),
            // Lists, objects (such as what Ansible's vault has), and nothing.
            Json::Array(_) | Json::Object(_) | Json::Null => return None,
        };
        Some((name.clone(), Said { value: text, place: place.to_owned() }))
    });
    texts.collect()
}

#[cfg(test)]
mod tests;
