//! `inventory`: which hosts and groups there are, and where what is said of a host comes from.

mod load;

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value as Json, json};
use toril_inventory::{Chosen, Host, Reach, Said, Target};

pub(super) use load::load;

use super::UsageError;
use super::choices::Chooser;
use crate::arguments;
use crate::exit::Status;
use crate::settings::Variable;

pub(super) fn run(arguments: &arguments::Inventory) -> Result<Status, UsageError> {
    match arguments {
        arguments::Inventory::List { group, from } => list(group.as_deref(), from),
        arguments::Inventory::Show { host, from } => show(host, from),
    }
}

fn list(group: Option<&str>, from: &arguments::InventoryChoice) -> Result<Status, UsageError> {
    let inventory = Chooser::here()?.inventory(from.inventory.as_ref())?;
    if let Some(group) = group.filter(|group| !inventory.is_group(group)) {
        let groups: Vec<&str> = inventory.groups().collect();
        let help = match toril_document::nearest(group, groups.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if groups.is_empty() => "the inventory has none".into(),
            None => format!("there are: {}", groups.join(", ")),
        };
        return Err(UsageError::Other(format!("there is no group `{group}`: {help}")));
    }
    let mut rows = Vec::new();
    for name in inventory.members(group.unwrap_or("all")) {
        let refused = |error: toril_inventory::AddressError| UsageError::Other(error.to_string());
        let explained = inventory.explain(&name).map_err(refused)?;
        let way = match explained.unusable {
            // It is in the inventory all the same.
            Some(why) => format!("cannot be used: {}", why.value),
            None => way(&inventory.one(&name).map_err(refused)?),
        };
        rows.push((name, way, explained.groups));
    }
    if from.json {
        let hosts: Vec<Json> = rows
            .into_iter()
            .map(|(name, way, groups)| json!({ "host": name, "way": way, "groups": groups }))
            .collect();
        return print(&format!("{:#}\n", Json::Array(hosts)));
    }
    let lines = rows.into_iter().map(|(name, way, groups)| [name, way, groups.join(", ")]);
    print(&columns(&lines.collect::<Vec<_>>()))
}

fn show(host: &str, from: &arguments::InventoryChoice) -> Result<Status, UsageError> {
    let chooser = Chooser::here()?;
    let inventory = chooser.inventory(from.inventory.as_ref())?;
    let explained = inventory.explain(host).map_err(|error| UsageError::Other(error.to_string()))?;
    let mut rows: Vec<[String; 3]> = explained
        .keys
        .into_iter()
        .map(|(key, said)| [key.to_owned(), said.value.to_string(), said.place])
        .collect();
    rows.extend(explained.unusable.map(|why| ["cannot be used".to_owned(), why.value, why.place]));
    rows.extend(variables("vars", explained.vars, chooser.recipe_variables()));
    rows.extend(variables("set", explained.set, chooser.suite_variables()));
    if from.json {
        let values: serde_json::Map<String, Json> = rows
            .into_iter()
            .map(|[name, value, place]| (name, json!({ "value": value, "from": place })))
            .collect();
        let shown = json!({ "host": host, "groups": explained.groups, "values": values });
        return print(&format!("{shown:#}\n"));
    }
    let groups = match explained.groups.is_empty() {
        true => "in no group".into(),
        false => format!("in {}", explained.groups.join(", ")),
    };
    print(&format!("{host}  {groups}\n{}", columns(&rows)))
}

/// Variables of the inventory, and those of toril.toml that it does not set.
fn variables(
    kind: &str,
    own: BTreeMap<String, Said<String>>,
    settings: &BTreeMap<String, Variable>,
) -> Vec<[String; 3]> {
    let general = settings.iter().map(|(name, variable)| {
        (name.clone(), Said { value: variable.value.clone(), place: variable.origin.to_string() })
    });
    let mut all: BTreeMap<String, Said<String>> = general.collect();
    all.extend(own);
    let rows = all.into_iter().map(|(name, said)| {
        let value = if is_secret(&name) { "***".to_owned() } else { said.value };
        [format!("{kind}.{name}"), value, said.place]
    });
    rows.collect()
}

/// Whether a variable is called as secrets are: an inventory of Ansible's may hold some.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token", "private_key", "api_key"]
        .iter()
        .any(|word| name.contains(word))
        || name.ends_with("_pass")
}

/// How a host is reached, in short.
fn way(chosen: &Chosen) -> String {
    match &chosen.target {
        Target::Sandbox(_) => "a sandbox of this machine".into(),
        Target::Host(Host { reach: Reach::Local, .. }) => "this machine".into(),
        Target::Host(Host { reach: Reach::Ssh(ssh), .. }) => {
            let user = ssh.user.as_ref().map_or_else(String::new, |user| format!("{user}@"));
            let host = if ssh.host.contains(':') { format!("[{}]", ssh.host) } else { ssh.host.clone() };
            let port = ssh.port.map_or_else(String::new, |port| format!(":{port}"));
            format!("{user}{host}{port}")
        }
    }
}

fn columns(rows: &[[String; 3]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    let lines =
        rows.iter().map(|[a, b, c]| format!("{}\n", format!("{a:<first$}  {b:<second$}  {c}").trim_end()));
    lines.collect()
}

fn print(text: &str) -> Result<Status, UsageError> {
    io::stdout()
        .write_all(text.as_bytes())
        .map(|()| Status::Fine)
        .map_err(|error| UsageError::Other(format!("cannot print: {error}")))
}
