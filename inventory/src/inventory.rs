use std::collections::BTreeMap;
use std::path::PathBuf;

use toril_document::{Document, Problems, Table};

use crate::{AddressError, Host, Reach, Ssh};

/// The hosts that a file names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    hosts: BTreeMap<String, Ssh>,
}

/// What a host on the command line stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A host as it is.
    Host(Host),
    /// The sandbox of this name, whose address is not known before it is up.
    Sandbox(String),
}

impl Inventory {
    /// Reads an inventory:
    ///
    /// ```toml
    /// [hosts.ovh-1]
    /// address = "203.0.113.7"   # without it, the host's name
    /// user = "debian"
    /// port = 22
    /// identity = "~/.ssh/ovh"
    /// known-hosts = "known_hosts"
    /// ```
    ///
    /// # Errors
    /// Every mistake in it, with its place.
    pub fn parse(name: &str, text: &str) -> Result<Inventory, Problems> {
        Document::read(name, text, |table| Some(read(table)))
    }

    /// The JSON Schema of an inventory.
    pub fn schema() -> serde_json::Value {
        Document::shape(|table| drop(read(table))).json_schema()
    }

    /// What an argument stands for: a host of this inventory, `local`, `sandbox`, `sandbox:NAME`, or an address.
    ///
    /// # Errors
    /// It is none of these.
    pub fn resolve(&self, argument: &str) -> Result<Target, AddressError> {
        let host = |reach| Target::Host(Host { name: argument.to_owned(), reach, sandbox: false });
        if argument == "local" {
            return Ok(host(Reach::Local));
        }
        if argument == "sandbox" {
            return Ok(Target::Sandbox(argument.to_owned()));
        }
        if let Some(name) = argument.strip_prefix("sandbox:") {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if !(1..=32).contains(&name.len()) || name.starts_with('-') || !name.chars().all(allowed) {
                let reason = "a sandbox's name is 1 to 32 of a-z, 0-9 and -, not beginning with -";
                return Err(AddressError { text: argument.to_owned(), reason });
            }
            return Ok(Target::Sandbox(name.to_owned()));
        }
        match self.hosts.get(argument) {
            Some(ssh) => Ok(host(Reach::Ssh(ssh.clone()))),
            None => Ok(host(Reach::Ssh(Ssh::parse(argument)?))),
        }
    }
}

fn read(table: &mut Table<'_>) -> Inventory {
    table.rename("the inventory");
    let mut hosts = BTreeMap::new();
    for (name, mut entry) in table.table("hosts").map(Table::into_tables).unwrap_or_default() {
        entry.rename(format!("host `{}`", name.value));
        let reserved = name.value == "local" || name.value == "sandbox" || name.value.starts_with("sandbox:");
        if reserved || Ssh::parse(&name.value).is_err() {
            let reason = if reserved { "is a name that toril uses itself" } else { "cannot name a host" };
            entry.note("I001", name.span.clone(), format!("`{}` {reason}", name.value), None);
        }
        let ssh = read_host(&mut entry, &name.value);
        entry.finish();
        hosts.insert(name.value, ssh);
    }
    Inventory { hosts }
}

fn read_host(entry: &mut Table<'_>, name: &str) -> Ssh {
    let address = entry.string("address");
    if let Some(address) = address.as_ref().filter(|address| Ssh::parse(&bracketed(&address.value)).is_err())
    {
        entry.note(
            "I002",
            address.span.clone(),
            format!("`{}` is no address of a host", address.value),
            None,
        );
    }
    let user = entry.string("user");
    if let Some(user) = user.as_ref().filter(|user| user.value.is_empty() || user.value.starts_with('-')) {
        entry.note("I002", user.span.clone(), format!("`{}` is no login name", user.value), None);
    }
    Ssh {
        host: address.map_or_else(|| name.to_owned(), |address| address.value),
        user: user.map(|user| user.value),
        port: entry.integer("port", 1..=65535).and_then(|port| u16::try_from(port).ok()),
        identity: entry.string("identity").map(|path| home_path(&path.value)),
        known_hosts: entry.string("known-hosts").map(|path| home_path(&path.value)),
    }
}

fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// ssh itself would expand the tilde, but not in every option.
fn home_path(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_win_over_addresses() {
        let text =
            "[hosts.a]\naddress = \"203.0.113.7\"\nuser = \"debian\"\nport = 2222\n[hosts.\"b.example\"]\n";
        let inventory = Inventory::parse("i", text).unwrap();
        let reach = |name: &str| match inventory.resolve(name).unwrap() {
            Target::Host(Host { reach: Reach::Ssh(ssh), .. }) => (ssh.user, ssh.host, ssh.port),
            other => panic!("{other:?}"),
        };
        assert_eq!(reach("a"), (Some("debian".into()), "203.0.113.7".into(), Some(2222)));
        assert_eq!(reach("b.example").1, "b.example");
        assert_eq!(reach("u@c:23"), (Some("u".into()), "c".into(), Some(23)));
        assert_eq!(inventory.resolve("sandbox:x"), Ok(Target::Sandbox("x".into())));
        assert!(inventory.resolve("-x").is_err());
        assert!(inventory.resolve("sandbox:UP").is_err() && inventory.resolve("sandbox:../x").is_err());
    }

    #[test]
    fn mistakes_have_places() {
        let text = "[hosts.local]\n[hosts.a]\nadress = \"x\"\nport = 99999\n[hosts.b]\naddress = \"-x\"\n";
        let problems = Inventory::parse("i.toml", text).unwrap_err().to_string();
        for expected in [
            "i.toml:1:8: `local` is a name that toril uses",
            "i.toml:3:1: unknown key `adress`",
            "did you mean `address`",
            "i.toml:4:8:",
            "i.toml:6:11:",
        ] {
            assert!(problems.contains(expected), "{expected:?} is not in {problems}");
        }
    }
}
