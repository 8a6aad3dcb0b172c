//! `inventory.toml`, read with places.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use toril_document::{Located, Table, Value, nearest};

use crate::layer::{CONNECTION, Layer, Said, Setting};
use crate::model::{Feed, Feeding, Group, Inventory, Member};
use crate::{Secret, Ssh, Transport, is_fingerprint};

/// Names that say by themselves what they are, so that no host and no group can have them.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    matches!(name, "local" | "sandbox" | "all") || name.starts_with("sandbox:")
}

pub(crate) fn read(table: &mut Table<'_>) -> Inventory {
    table.rename("the inventory");
    let source = Arc::clone(table.source());
    let mut hosts = BTreeMap::new();
    for (name, mut entry) in table.table("hosts").map(Table::into_tables).unwrap_or_default() {
        entry.rename(format!("host `{}`", name.value));
        refuse_name(&entry, &name, is_reserved(&name.value), "host");
        let mut layer = Layer::default();
        read_address(&mut entry, &mut layer);
        read_layer(&mut entry, &mut layer);
        entry.finish();
        hosts.insert(name.value, layer);
    }
    let mut groups = BTreeMap::new();
    for (name, mut entry) in table.table("groups").map(Table::into_tables).unwrap_or_default() {
        entry.rename(format!("group `{}`", name.value));
        refuse_name(&entry, &name, is_reserved(&name.value) && name.value != "all", "group");
        let mut group = Group::default();
        if name.value != "all" || entry.is_imagined() {
            group.hosts = members(&mut entry, "hosts");
            group.groups = members(&mut entry, "groups");
        }
        read_layer(&mut entry, &mut group.layer);
        entry.finish();
        groups.insert(name.value, group);
    }
    let feeds = table.tables("source").into_iter().filter_map(read_feed).collect();
    Inventory { hosts, groups, feeds, source: Some(source), ..Inventory::default() }
}

fn refuse_name(entry: &Table<'_>, name: &Located<String>, reserved: bool, what: &str) {
    if reserved || Ssh::parse(&name.value).is_err() {
        let reason = match reserved {
            true => "is a name that toril uses itself".to_owned(),
            false => format!("cannot name a {what}"),
        };
        entry.note("I001", name.span.clone(), format!("`{}` {reason}", name.value), None);
    }
}

fn members(entry: &mut Table<'_>, key: &'static str) -> Vec<Member> {
    let members = entry.strings(key).unwrap_or_default();
    members.into_iter().map(|member| Member { name: member.value, span: member.span }).collect()
}

fn read_address(entry: &mut Table<'_>, layer: &mut Layer) {
    let Some(address) = entry.string("address") else { return };
    if !is_address(&address.value) {
        let message = format!("`{}` is no address of a host", address.value);
        entry.note("I002", address.span.clone(), message, None);
    }
    let place = place(entry, &address.span);
    // It is where ssh goes, whatever a source says of the host.
    let connection = Said { value: Setting::Text("ssh".into()), place: place.clone() };
    layer.keys.insert(CONNECTION, connection);
    layer.keys.insert("address", Said { value: Setting::Text(address.value), place });
}

/// What may stand in a host's table and in a group's.
fn read_layer(entry: &mut Table<'_>, layer: &mut Layer) {
    let mut keys = Vec::new();
    if let Some(user) = entry.string("user") {
        if !is_login(&user.value) {
            entry.note("I002", user.span.clone(), format!("`{}` is no login name", user.value), None);
        }
        keys.push(("user", user.span, Setting::Text(user.value)));
    }
    let at_port = entry.peek("port").is_some();
    let port_span = entry.place("port");
    if let Some(port) = entry.integer("port", 1..=65535).and_then(|port| u16::try_from(port).ok())
        && at_port
    {
        keys.push(("port", port_span, Setting::Port(port)));
    }
    for key in ["identity", "known-hosts"] {
        if let Some(path) = entry.string(key) {
            keys.push((key, path.span, Setting::Path(home_path(&path.value))));
        }
    }
    if let Some(name) = entry.string("transport") {
        match Transport::parse(&name.value) {
            Some(_) => keys.push(("transport", name.span, Setting::Text(name.value))),
            None => entry.note("D006", name.span, "`transport` must be openssh or russh", None),
        }
    }
    let span = entry.place("host-key");
    if let Some(pins) = entry.strings("host-key") {
        for pin in pins.iter().filter(|pin| !is_fingerprint(&pin.value)) {
            let message = format!("`{}` is no fingerprint of a host's key", pin.value);
            entry.note(
                "I008",
                pin.span.clone(),
                message,
                Some("ssh-keygen -lf FILE prints it: SHA256:…".into()),
            );
        }
        let pins: Vec<String> = pins.into_iter().map(|pin| pin.value).collect();
        // None is the same as the key not being there: it pins nothing.
        if !pins.is_empty() {
            keys.push(("host-key", span, Setting::Text(pins.join(" "))));
        }
    }
    let span = entry.place("sudo-password");
    if let Some(secret) = read_secret(entry, "sudo-password") {
        keys.push(("sudo-password", span, Setting::Secret(secret)));
    }
    for (key, span, value) in keys {
        layer.keys.insert(key, Said { value, place: place(entry, &span) });
    }
    layer.vars = read_variables(entry, "vars");
    layer.set = read_variables(entry, "set");
}

fn read_secret(entry: &mut Table<'_>, key: &'static str) -> Option<Secret> {
    const HELP: &str = "say where it is: { env = \"NAME\" }, or { file = \"PATH\" }";
    if matches!(entry.peek(key), Some(Value::String(_))) {
        let (_, value) = entry.take(key)?;
        entry.note("I007", value.span, format!("`{key}` must not stand in the inventory"), Some(HELP.into()));
        return None;
    }
    let mut table = entry.table(key)?;
    let (name, path) = (table.string("env"), table.string("file"));
    let span = table.span();
    let secret = match (name, path) {
        (Some(name), None) => Some(Secret::Environment(name.value)),
        (None, Some(path)) => Some(Secret::File(home_path(&path.value))),
        _ => {
            if !table.is_imagined() {
                table.note("I007", span, format!("`{key}` must be in one place"), Some(HELP.into()));
            }
            None
        }
    };
    table.finish();
    secret
}

fn read_variables(entry: &mut Table<'_>, key: &'static str) -> BTreeMap<String, Said<String>> {
    let Some(mut table) = entry.table(key) else { return BTreeMap::new() };
    let mut variables = BTreeMap::new();
    for (name, value) in table.take_all() {
        match value.value {
            Value::String(text) => {
                let place = place(entry, &value.span);
                variables.insert(name.value, Said { value: text, place });
            }
            Value::Table(entries) if entries.iter().any(|(key, _)| matches!(&*key.value, "env" | "file")) => {
                let message = format!(
                    "variable `{}` cannot be a secret: plans and journals show what recipes are given",
                    name.value
                );
                let help = "have the recipe read it on the host, from a file that only root can read";
                entry.note("I007", value.span, message, Some(help.into()));
            }
            other => {
                let message = format!("variable `{}` must be a string, not {}", name.value, other.kind());
                entry.note("D004", value.span, message, None);
            }
        }
    }
    variables
}

fn read_feed(mut entry: Table<'_>) -> Option<Feed> {
    entry.rename("a `source`");
    let span = entry.span();
    let command = entry.strings("command");
    let config = entry.string("ssh-config");
    let group = entry.string("group");
    if let Some(group) = &group
        && (is_reserved(&group.value) || Ssh::parse(&group.value).is_err())
    {
        let known = "a name of your own, such as `lab`";
        let message = format!("`{}` cannot name a group", group.value);
        entry.note("I001", group.span.clone(), message, Some(known.into()));
    }
    let what = match (command, config) {
        (Some(command), None) if !command.is_empty() => {
            Some(Feeding::Command(command.into_iter().map(|word| word.value).collect()))
        }
        (None, Some(path)) => Some(Feeding::SshConfig(home_path(&path.value))),
        _ => {
            if !entry.is_imagined() {
                let message = "a `source` has either `command` or `ssh-config`";
                let help = "command = [\"ansible-inventory\", \"--list\", \"--export\"], or ssh-config = \"~/.ssh/config\"";
                entry.note("I006", span.clone(), message, Some(help.into()));
            }
            None
        }
    };
    entry.finish();
    Some(Feed { what: what?, group: group.map(|group| group.value), span })
}

/// Where a value stands, as users are told.
fn place(entry: &Table<'_>, span: &Range<usize>) -> String {
    let source = entry.source();
    format!("{}:{}", source.name, source.line_column(span.start).0)
}

pub(crate) fn is_login(user: &str) -> bool {
    !user.is_empty()
        && !user.starts_with('-')
        && !user.contains(|c: char| c.is_whitespace() || matches!(c, '{' | '}'))
}

pub(crate) fn is_address(address: &str) -> bool {
    let bracketed = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    !address.contains('@') && Ssh::parse(&bracketed).is_ok()
}

/// What was meant by a name that nothing has.
pub(crate) fn meant<'w>(name: &str, known: impl Iterator<Item = &'w str>) -> Option<String> {
    nearest(name, known).map(|word| format!("did you mean `{word}`?"))
}

/// ssh itself would expand the tilde, but not in every option.
pub(crate) fn home_path(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}
