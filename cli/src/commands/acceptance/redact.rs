//! What does not belong into a file that is sent to others.

use serde_json::Value;
use toril_inventory::{Host, Reach};
use toril_machine::Facts;

/// Logins that cloud images and toril itself bring: they tell nothing of anybody.
const COMMON: [&str; 7] = ["admin", "debian", "localhost", "local", "root", "toril", "user"];

const REMOVED: &str = "REMOVED";

/// Names, and what stands for them.
#[derive(Debug, Default)]
pub(super) struct Redaction {
    names: Vec<(String, String)>,
}

impl Redaction {
    /// Of a host and, once they are known, of its people.
    pub(super) fn of(host: Option<&Host>, facts: Option<&Facts>) -> Redaction {
        let mut names: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, by: String| {
            let is_told =
                COMMON.contains(&name) || name.len() < 2 || names.iter().any(|(known, _)| known == name);
            if !is_told {
                names.push((name.to_owned(), by));
            }
        };
        let people = facts.iter().flat_map(|facts| facts.homes.keys());
        people.enumerate().for_each(|(index, name)| add(name, format!("person-{}", index + 1)));
        if let Some(host) = host
            && let Reach::Ssh(ssh) = &host.reach
        {
            add(&ssh.host, "HOST".into());
            ssh.user.iter().for_each(|user| add(user, "LOGIN".into()));
            // As it was given, such as `anna@203.0.113.7:22`.
            add(&host.name, "HOST".into());
        }
        if let Some(facts) = facts {
            add(&facts.hostname, "HOST".into());
        }
        // A longer name may hold a shorter one.
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Redaction { names }
    }

    /// Takes out of every text in a value, keys included, what is private.
    pub(super) fn redact(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact(item)),
            Value::Object(entries) => {
                let old = std::mem::take(entries);
                for (name, mut value) in old {
                    self.redact(&mut value);
                    entries.insert(self.text(&name), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&self, text: &str) -> String {
        let mut text = without_private_keys(&without_credentials(text));
        for (name, by) in &self.names {
            text = replace_words(&text, name, by);
        }
        text
    }
}

/// Replaces a word, wherever it is no part of a longer one.
fn replace_words(text: &str, word: &str, by: &str) -> String {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(word) {
        let last = before.chars().next_back().or_else(|| done.chars().next_back());
        done.push_str(before);
        done.push_str(if is_part(last) || is_part(after.chars().next()) { word } else { by });
        rest = after;
    }
    done.push_str(rest);
    done
}

/// Takes the user and password out of URLs.
fn without_credentials(text: &str) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        done.push_str(before);
        done.push_str("://");
        let end = after.find(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c)).unwrap_or(after.len());
        let (authority, more) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                done.push_str(REMOVED);
                done.push('@');
                done.push_str(host);
            }
            None => done.push_str(authority),
        }
        rest = more;
    }
    done.push_str(rest);
    done
}

/// Takes out private keys, such as a recipe's diff may show.
fn without_private_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const END: &str = "PRIVATE KEY-----";
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        done.push_str(before);
        let label = after.split("-----").next().unwrap_or_default();
        let is_private = label.ends_with("PRIVATE KEY") || label.ends_with("PRIVATE KEY BLOCK");
        if !is_private {
            done.push_str(BEGIN);
            rest = after;
            continue;
        }
        done.push_str(REMOVED);
        // One that is cut off goes to the end.
        let key = after.get(label.len()..).unwrap_or_default();
        rest = key.split_once("-----END ").map_or("", |(_, end)| {
            end.split_once(END)
                .or_else(|| end.split_once("PRIVATE KEY BLOCK-----"))
                .map_or("", |(_, after)| after)
        });
    }
    done.push_str(rest);
    done
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use toril_inventory::Ssh;
    use toril_provisioner::{Release, sample_facts};

    use super::*;

    fn redaction() -> Redaction {
        let mut facts = sample_facts(Release::parse("debian 10").unwrap());
        facts.hostname = "vps-7".into();
        facts.homes.insert("anna".into(), "/home/anna".into());
        let ssh = Ssh { host: "203.0.113.7".into(), user: Some("anna".into()), ..Ssh::default() };
        let host = Host { name: "anna@203.0.113.7".into(), reach: Reach::Ssh(ssh), sandbox: false };
        Redaction::of(Some(&host), Some(&facts))
    }

    proptest! {
        /// Wherever a URL, a name or a key stands, and whatever stands around it.
        #[test]
        fn whatever_stands_around_it(before in r"([ a-z/:@'-]|\PC)*", after in r"([ a-z/:@'-]|\PC)*") {
            let redaction = redaction();
            let url = redaction.text(&format!("{before} http://Q7:secret@h.example/x {after}"));
            prop_assert!(!url.contains("secret") && url.contains("@h.example"), "{url}");
            let key = redaction.text(&format!("{before}-----BEGIN PRIVATE KEY-----\nsecret{after}"));
            prop_assert!(!key.contains("secret"), "{key}");
            let name = redaction.text(&format!("{before} anna {after}"));
            prop_assert!(!name.contains(" anna "), "{name}");
            prop_assert_eq!(redaction.text(&name), name, "nothing is left to replace");
        }
    }

    #[test]
    fn names_credentials_and_keys_are_taken_out() {
        let mut value = json!({
            "homes": { "anna": "/home/anna", "debian": "/home/debian" },
            "lists": ["deb http://u:p%40@m.example/debian buster main", "deb [a=b] https://tok@m:8/x ./"],
            "said": "debian@vps-7, susanna, anna's savanna, vps-71; connecting to anna@203.0.113.7 failed",
            "diff": "+-----BEGIN OPENSSH PRIVATE KEY-----\n+b3Blb\n+-----END OPENSSH PRIVATE KEY-----\n+after",
            "cut": "-----BEGIN PRIVATE KEY-----\nabc",
            "public": "-----BEGIN PGP PUBLIC KEY BLOCK-----",
        });
        redaction().redact(&mut value);
        assert_eq!(
            value,
            json!({
                "homes": { "person-1": "/home/person-1", "debian": "/home/debian" },
                "lists": ["deb http://REMOVED@m.example/debian buster main", "deb [a=b] https://REMOVED@m:8/x ./"],
                "said": "debian@HOST, susanna, person-1's savanna, vps-71; connecting to HOST failed",
                "diff": "+REMOVED\n+after",
                "cut": "REMOVED",
                "public": "-----BEGIN PGP PUBLIC KEY BLOCK-----",
            })
        );
    }
}
