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
    /// # Errors
    /// It is not JSON of this form, or names what can be no host. No value is repeated in the message: it may be a secret.
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
        let hosts = self.object(hosts, "_meta.hostvars")?;
        for (name, vars) in hosts {
            let vars = self.object(vars, &format!("_meta.hostvars.{name}"))?;
            let layer = self.layer(vars, &format!("host {name}"))?;
            self.host(name)?;
            self.imported.hosts.insert(name.clone(), layer);
        }
        Ok(())
    }

    fn group(&mut self, name: &str, value: &Json) -> Result<(), String> {
        if (is_reserved(name) && name != "all") || Ssh::parse(name).is_err() {
            return Err(format!("{} has a group `{name}`, which toril cannot call so", self.origin));
        }
        let mut group = ImportedGroup::default();
        match value {
            // As old scripts have it.
            Json::Array(_) => group.hosts = self.names(value, name)?,
            _ => {
                let object = self.object(value, name)?;
                for (key, value) in object {
                    match key.as_str() {
                        "hosts" => group.hosts = self.names(value, &format!("{name}.hosts"))?,
                        "children" => group.groups = self.names(value, &format!("{name}.children"))?,
                        "vars" => {
                            let vars = self.object(value, &format!("{name}.vars"))?;
                            group.layer = self.layer(vars, &format!("group {name}"))?;
                        }
                        _ => {}
                    }
                }
            }
        }
        for host in &group.hosts {
            self.host(host)?;
            self.imported.hosts.entry(host.clone()).or_default();
        }
        self.imported.groups.insert(name.to_owned(), group);
        Ok(())
    }

    fn host(&self, name: &str) -> Result<(), String> {
        match is_reserved(name) || Ssh::parse(name).is_err() {
            true => Err(format!("{} has a host `{name}`, which toril cannot call so", self.origin)),
            false => Ok(()),
        }
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

    fn layer(&self, vars: &Map<String, Json>, of: &str) -> Result<Layer, String> {
        let place = format!("{} ({of})", self.origin);
        let said = |value| Said { value, place: place.clone() };
        let mut layer = Layer::default();
        let first = |names: [&str; 2]| names.iter().find_map(|name| vars.get(*name));
        let wrong = |name: &str, what: &str| Err(format!("{place}: `{name}` is {what}"));
        if let Some(value) = first(["ansible_host", "ansible_ssh_host"]) {
            match value.as_str().filter(|address| is_address(address)) {
                Some(address) => layer.keys.insert("address", said(Setting::Text(address.to_owned()))),
                None => return wrong("ansible_host", "no address of a host"),
            };
        }
        if let Some(value) = first(["ansible_user", "ansible_ssh_user"]) {
            match value.as_str().filter(|user| is_login(user)) {
                Some(user) => layer.keys.insert("user", said(Setting::Text(user.to_owned()))),
                None => return wrong("ansible_user", "no login name"),
            };
        }
        if let Some(value) = first(["ansible_port", "ansible_ssh_port"]) {
            let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
            match number.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0) {
                Some(port) => layer.keys.insert("port", said(Setting::Port(port))),
                None => return wrong("ansible_port", "no port from 1 to 65535"),
            };
        }
        if let Some(value) = first(["ansible_ssh_private_key_file", "ansible_private_key_file"]) {
            match value.as_str().filter(|path| !path.is_empty()) {
                Some(path) => layer.keys.insert("identity", said(Setting::Path(home_path(path)))),
                None => return wrong("ansible_ssh_private_key_file", "no path of a file"),
            };
        }
        if let Some(way) = vars.get("ansible_connection") {
            layer.keys.insert(CONNECTION, said(connection(way.as_str().unwrap_or("no text"))));
        }
        layer.vars = variables(vars, &place);
        Ok(layer)
    }
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
