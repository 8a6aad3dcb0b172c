//! The host keys that known_hosts files know of a host.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::{PublicKey, parse_public_key_base64};
use sha1::Sha1;

use super::super::error::ConnectError;
use super::pattern::any_matches_host;

/// A line about the host.
#[derive(Debug, Clone)]
struct Entry {
    /// File and line, for messages.
    place: String,
    file: PathBuf,
    mark: Mark,
    key: PublicKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Key,
    Authority,
    Revoked,
}

/// What a key is to known_hosts files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Known,
    Unknown,
    /// Another key is known, here.
    Changed {
        place: String,
        file: PathBuf,
    },
    Revoked {
        place: String,
    },
    /// Only an authority is known, which would have signed the host's key.
    Authority {
        place: String,
    },
}

/// All lines about one host.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Vec<Entry>);

/// The name of a host in known_hosts.
pub(super) fn name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

impl Known {
    /// Reads files; one that does not exist knows nothing.
    pub(super) fn read(files: &[PathBuf], name: &str) -> Result<Known, ConnectError> {
        let mut known = Known::default();
        for file in files {
            match fs::read(file) {
                Ok(bytes) => known.0.extend(entries(file, &String::from_utf8_lossy(&bytes), name)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(ConnectError::KnownHosts { file: file.clone(), source }),
            }
        }
        Ok(known)
    }

    /// What `key` is, when the host shows it.
    pub(super) fn judge(&self, key: &PublicKey) -> Verdict {
        let same = |entry: &&Entry| entry.key.key_data() == key.key_data();
        let of = |mark| self.0.iter().filter(move |entry| entry.mark == mark);
        if let Some(entry) = of(Mark::Revoked).find(same) {
            return Verdict::Revoked { place: entry.place.clone() };
        }
        if of(Mark::Key).any(|entry| same(&entry)) {
            return Verdict::Known;
        }
        // Also where another sort of key is known: which sort is shown is up to whoever answers.
        if let Some(entry) = of(Mark::Key).next() {
            return Verdict::Changed { place: entry.place.clone(), file: entry.file.clone() };
        }
        match of(Mark::Authority).next() {
            Some(entry) => Verdict::Authority { place: entry.place.clone() },
            None => Verdict::Unknown,
        }
    }

    /// Whether a key of such an algorithm is known: it is to be asked for first.
    pub(super) fn has_sort(&self, is_sort: impl Fn(&PublicKey) -> bool) -> bool {
        self.0.iter().any(|entry| entry.mark == Mark::Key && is_sort(&entry.key))
    }

    /// Where the host's first key stands.
    pub(super) fn place(&self) -> Option<&str> {
        self.0.iter().find(|entry| entry.mark == Mark::Key).map(|entry| entry.place.as_str())
    }
}

/// The lines of a file that are about a host; those that cannot be read are about none, as in OpenSSH.
fn entries(file: &Path, text: &str, name: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fields = line.split_whitespace();
        let mut first = fields.next().unwrap_or_default();
        let mark = match first {
            "@cert-authority" => Mark::Authority,
            "@revoked" => Mark::Revoked,
            _ if first.starts_with('@') => continue,
            _ => Mark::Key,
        };
        if mark != Mark::Key {
            first = fields.next().unwrap_or_default();
        }
        if !is_about(first, name) {
            continue;
        }
        let Some(key) = fields.nth(1).and_then(|key| parse_public_key_base64(key).ok()) else { continue };
        let place = format!("{}, line {}", file.display(), number + 1);
        found.push(Entry { place, file: file.to_owned(), mark, key });
    }
    found
}

fn is_about(names: &str, name: &str) -> bool {
    if let Some(hashed) = names.strip_prefix("|1|") {
        return hash_matches(hashed, name);
    }
    any_matches_host(names.split(','), name)
}

/// `SALT|HASH`: a name that only who knows it can recognise.
fn hash_matches(hashed: &str, name: &str) -> bool {
    let decode = |text: &str| BASE64.decode(text.as_bytes()).ok();
    let Some((salt, hash)) = hashed.split_once('|') else { return false };
    let (Some(salt), Some(hash)) = (decode(salt), decode(hash)) else { return false };
    Hmac::<Sha1>::new_from_slice(&salt)
        .is_ok_and(|hmac| hmac.chain_update(name.as_bytes()).verify_slice(&hash).is_ok())
}

/// Adds a key to a file, which is made if need be.
pub(super) fn learn(file: &Path, name: &str, key: &PublicKey) -> io::Result<()> {
    let text = key.to_openssh().map_err(io::Error::other)?;
    if let Some(directory) = file.parent().filter(|directory| !directory.exists()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let ends = match fs::read(file) {
        Ok(bytes) => bytes.last().is_none_or(|byte| *byte == b'\n'),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error),
    };
    let line = format!("{}{name} {}\n", if ends { "" } else { "\n" }, text.trim());
    let mut file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

    fn key(line: &str) -> PublicKey {
        parse_public_key_base64(line.split(' ').nth(1).unwrap()).unwrap()
    }

    fn judge(text: &str, host: &str, port: u16) -> String {
        let name = name(host, port);
        format!("{:?}", Known(entries(Path::new("f"), text, &name)).judge(&key(A)))
    }

    #[test]
    fn lines_decide() {
        let hashed = format!("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= {A}");
        for (text, host, port, expected) in [
            (format!("h {A}\n"), "h", 22, "Known"),
            (format!("h {A}\n"), "H", 22, "Known"),
            (format!("h {A}\n"), "h", 23, "Unknown"),
            (format!("[h]:23 {A}"), "h", 23, "Known"),
            (format!("#h {A}\n"), "h", 22, "Unknown"),
            (format!("x,*.example.com\t{A}"), "a.example.com", 22, "Known"),
            (format!("*,!h {A}"), "h", 22, "Unknown"),
            // The case of letters says nothing, as in OpenSSH.
            (format!("Web-1 {A}\n"), "web-1", 22, "Known"),
            (format!("[Web-1]:23 {B}\n"), "wEB-1", 23, "Changed"),
            (format!("web-1 {A}\n@revoked Web-* {A}\n"), "web-1", 22, "Revoked"),
            (format!("*,!Gate {A}"), "gate", 22, "Unknown"),
            (hashed, "example.com", 22, "Known"),
            (format!("# c\nh {B}\n"), "h", 22, "Changed { place: \"f, line 2\""),
            // Another line that knows it is enough.
            (format!("h {B}\nh {A}\n"), "h", 22, "Known"),
            (format!("h {A}\n@revoked * {A}\n"), "h", 22, "Revoked { place: \"f, line 2\" }"),
            (format!("h {A}\n@revoked * {B}\n"), "h", 22, "Known"),
            (format!("@cert-authority *.h {A}\n"), "x.h", 22, "Authority { place: \"f, line 1\" }"),
            (format!("@something h {A}\n"), "h", 22, "Unknown"),
            ("h ssh-ed25519 damaged\n".into(), "h", 22, "Unknown"),
        ] {
            assert!(judge(&text, host, port).starts_with(expected), "{text}: {}", judge(&text, host, port));
        }
    }

    #[test]
    fn what_was_learnt_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ssh/known_hosts");
        for host in ["a", "b"] {
            learn(&file, &name(host, 2222), &key(A)).unwrap();
        }
        let known = Known::read(&[file], "[b]:2222").unwrap();
        assert_eq!(known.judge(&key(A)), Verdict::Known);
        assert!(known.place().unwrap().ends_with("line 2"));
        assert!(matches!(
            Known::read(&[directory.path().to_owned()], "h"),
            Err(ConnectError::KnownHosts { .. })
        ));
    }

    fn hashed(name: &str, salt: &[u8]) -> String {
        let hmac = Hmac::<Sha1>::new_from_slice(salt).unwrap().chain_update(name.as_bytes());
        format!("|1|{}|{}", BASE64.encode(salt), BASE64.encode(&hmac.finalize().into_bytes()))
    }

    proptest! {
        #[test]
        fn a_name_is_found_plain_and_hashed_and_no_other_is(
            host in "[a-z0-9][a-z0-9.-]{0,20}",
            other in "[a-z0-9][a-z0-9.-]{0,20}",
            port: u16,
            salt in proptest::collection::vec(any::<u8>(), 20),
            before in "[ -~]{0,40}",
        ) {
            let name = name(&host, port);
            for names in [name.clone(), hashed(&name, &salt)] {
                let text = format!("# {before}\n{names} {A}\n");
                prop_assert_eq!(judge(&text, &host.to_uppercase(), port), "Known");
                prop_assert_eq!(judge(&text, &host, port ^ 1), "Unknown");
                if other != host {
                    prop_assert_eq!(judge(&text, &other, port), "Unknown");
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic_or_trusted(text in "(\\PC|\n){0,200}") {
            prop_assert_ne!(Known(entries(Path::new("f"), &text, "h")).judge(&key(A)), Verdict::Known);
        }
    }
}
