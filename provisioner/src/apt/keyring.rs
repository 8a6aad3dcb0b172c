//! Until when the keys of a keyring hold. Only what is needed for that is read of OpenPGP (RFC 9580); nothing is
//! verified here, apt does that.

use std::time::{Duration, SystemTime};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// In upper-case hexadecimal, as GnuPG writes it: section 5.5.4.
    pub(crate) fingerprint: String,
    /// Its first user id, such as `Debian Stable Release Key (10/buster) <debian-release@lists.debian.org>`.
    pub(crate) name: String,
    /// `None`: it never expires.
    pub(crate) expires: Option<SystemTime>,
}

/// From when on the end of a key is spoken of.
const NEAR: Duration = Duration::from_secs(365 * DAY);
const DAY: u64 = 86400;

/// Says of the keys that end within a year, or have ended, when they do. Where keys are named after one of these suites
/// (as Debian's are, `(10/buster)`), only those count.
pub(crate) fn ends(keys: &[Key], suites: &[String], now: SystemTime) -> Option<String> {
    let mut ending: Vec<(SystemTime, &str)> = counting(keys, suites)
        .into_iter()
        .filter_map(|key| Some((key.expires?, key.name.split(" <").next().unwrap_or_default())))
        .filter(|(end, _)| *end < now + NEAR)
        .collect();
    ending.sort_unstable();
    ending.dedup();
    let texts = ending.iter().map(|(end, name)| format!("`{name}` {}", end_of(*end, now)));
    let text = texts.collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then_some(text)
}

/// Says of the key that ends first of those that count when it does, if any ever does.
pub(crate) fn first_end(keys: &[Key], suites: &[String], now: SystemTime) -> Option<String> {
    let end = counting(keys, suites).into_iter().filter_map(|key| key.expires).min()?;
    Some(end_of(end, now))
}

/// The keys named after one of these suites; all, where none is.
fn counting<'k>(keys: &'k [Key], suites: &[String]) -> Vec<&'k Key> {
    let code_name = |suite: &String| suite.split(['-', '/']).next().map(|name| format!("/{name})"));
    let code_names: Vec<String> = suites.iter().filter_map(code_name).collect();
    let is_named = |key: &&Key| code_names.iter().any(|name| key.name.contains(name));
    let named: Vec<&Key> = keys.iter().filter(is_named).collect();
    if named.is_empty() { keys.iter().collect() } else { named }
}

/// Such as `expires on 2027-02-03, in 72 days`.
fn end_of(end: SystemTime, now: SystemTime) -> String {
    let date =
        jiff::Timestamp::try_from(end).map_or_else(|_| "?".into(), |end| end.strftime("%F").to_string());
    let days = |time: Duration| match time.as_secs() / DAY {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    match end.duration_since(now) {
        Ok(left) => format!("expires on {date}, in {}", days(left)),
        Err(error) => format!("expired on {date}, {} ago", days(error.duration())),
    }
}

/// Types of packets, RFC 9580, section 5.
const SIGNATURE: u8 = 2;
const PUBLIC_KEY: u8 = 6;
const USER_ID: u8 = 13;
const PUBLIC_SUBKEY: u8 = 14;

/// The subpacket of a signature that says when it was made, section 5.2.3.11.
const CREATED: u8 = 2;
/// How long the key holds, in seconds since it was made, section 5.2.3.13.
const EXPIRATION: u8 = 9;
/// What the key is for, section 5.2.3.29: only its own signatures say it.
const KEY_FLAGS: u8 = 27;

/// Reads a keyring of the kind that apt takes, not armoured. What is no such thing has no keys; what is cut off has
/// those before.
pub(crate) fn keys(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys: Vec<KeyBuilder> = Vec::new();
    let mut in_subkey = false;
    while let Some((tag, body, rest)) = packet(bytes) {
        bytes = rest;
        match (tag, keys.last_mut()) {
            (PUBLIC_KEY, _) => {
                in_subkey = false;
                keys.extend(KeyBuilder::of(body));
            }
            (PUBLIC_SUBKEY, _) => in_subkey = true,
            (USER_ID, Some(key)) if key.name.is_none() => {
                key.name = Some(String::from_utf8_lossy(body).into_owned());
            }
            (SIGNATURE, Some(key)) if !in_subkey => key.sign(body),
            _ => {}
        }
    }
    keys.into_iter().map(KeyBuilder::build).collect()
}

struct KeyBuilder {
    fingerprint: String,
    /// Seconds since 1970.
    created: u64,
    name: Option<String>,
    /// When the newest of its own signatures was made, and how long it lets the key hold, in seconds.
    newest: Option<(u32, Option<u32>)>,
}

impl KeyBuilder {
    fn of(body: &[u8]) -> Option<KeyBuilder> {
        // Since version 4 the time it was made follows the version.
        let created = matches!(body.first()?, 4..=6).then(|| number(body.get(1..5)?)).flatten()?;
        Some(KeyBuilder {
            fingerprint: fingerprint(body)?,
            created: created.into(),
            name: None,
            newest: None,
        })
    }

    /// Takes in a signature of the key over itself; those of others say nothing of how long it holds.
    fn sign(&mut self, body: &[u8]) {
        if let Some((created, expiration)) = self_signature(body)
            && self.newest.is_none_or(|(newest, _)| created >= newest)
        {
            self.newest = Some((created, expiration));
        }
    }

    fn build(self) -> Key {
        let after = self.newest.and_then(|(_, expiration)| expiration).filter(|seconds| *seconds > 0);
        let expires = after.map(|seconds| Duration::from_secs(self.created.saturating_add(seconds.into())));
        Key {
            fingerprint: self.fingerprint,
            name: self.name.unwrap_or_default(),
            expires: expires.map(|since| SystemTime::UNIX_EPOCH + since),
        }
    }
}

/// The fingerprint of a public key by the body of its packet, section 5.5.4. Version 5 is LibrePGP's.
fn fingerprint(body: &[u8]) -> Option<String> {
    let length = u32::try_from(body.len()).ok()?;
    let digest = match body.first()? {
        4 => {
            let head = [&[0x99][..], &u16::try_from(length).ok()?.to_be_bytes()].concat();
            Sha1::digest([&head, body].concat()).to_vec()
        }
        version @ (5 | 6) => {
            let head = [&[0x95 + version][..], &length.to_be_bytes()].concat();
            Sha256::digest([&head, body].concat()).to_vec()
        }
        _ => return None,
    };
    Some(hex::encode_upper(digest))
}

/// When a signature of a key over itself was made, and how long it lets the key hold.
fn self_signature(body: &[u8]) -> Option<(u32, Option<u32>)> {
    let is_over_key = matches!(body.get(1)?, 0x10..=0x13 | 0x1f);
    if body.first()? != &4 || !is_over_key {
        return None;
    }
    let length = usize::from(u16::from_be_bytes(body.get(4..6)?.try_into().ok()?));
    let mut hashed = body.get(6..6 + length)?;
    let (mut created, mut expiration, mut is_own) = (None, None, false);
    while !hashed.is_empty() {
        let (length, rest) = new_length(hashed)?;
        let subpacket = rest.get(..length)?;
        match subpacket.first()? & 0x7f {
            CREATED => created = number(subpacket.get(1..5)?),
            EXPIRATION => expiration = number(subpacket.get(1..5)?),
            KEY_FLAGS => is_own = true,
            _ => {}
        }
        hashed = rest.get(length..)?;
    }
    is_own.then_some((created?, expiration))
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The type and the body of the first packet, and what follows it. Keyrings have no packets of unknown length.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (tag, length, rest) = match first & 0xc0 {
        0xc0 => {
            let (length, rest) = new_length(rest)?;
            (first & 0x3f, length, rest)
        }
        0x80 => {
            let count = [1, 2, 4].get(usize::from(first & 3)).copied()?;
            let length = rest.get(..count)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            ((first >> 2) & 0xf, length, rest.get(count..)?)
        }
        _ => return None,
    };
    Some((tag, rest.get(..length)?, rest.get(length..)?))
}

/// A length of the new format, and what follows it: section 4.2.1. Subpackets have the same.
fn new_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let first = usize::from(*bytes.first()?);
    match first {
        0..192 => Some((first, bytes.get(1..)?)),
        192..224 => Some((((first - 192) << 8) + usize::from(*bytes.get(1)?) + 192, bytes.get(2..)?)),
        255 => Some((usize::try_from(number(bytes.get(1..5)?)?).ok()?, bytes.get(5..)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn seconds(key: &Key) -> Option<u64> {
        key.expires.map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    /// What GnuPG says of a keyring: the primary keys' first user ids, when they expire, and their fingerprints.
    fn by_gpg(path: &str) -> Option<Vec<(String, Option<u64>, String)>> {
        let home = tempfile::tempdir().unwrap();
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(home.path()).args(["--batch", "--with-colons", "--show-keys", path]);
        let output = gpg.output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut keys: Vec<(String, Option<u64>, String)> = Vec::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            match fields[0] {
                "pub" => keys.push((String::new(), fields[6].parse().ok(), String::new())),
                "fpr" => {
                    // Those of subkeys come later.
                    let key = keys.last_mut().unwrap();
                    if key.2.is_empty() {
                        key.2 = fields[9].to_owned();
                    }
                }
                "uid" => {
                    let key = keys.last_mut().unwrap();
                    if key.0.is_empty() {
                        key.0 = fields[9].replace("\\x3a", ":");
                    }
                }
                _ => {}
            }
        }
        Some(keys)
    }

    #[test]
    fn debians_own_keyring_is_read_as_gnupg_reads_it() {
        let path = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let (Ok(bytes), Some(expected)) = (fs::read(path), by_gpg(path)) else {
            println!("skipped: it needs {path} and gpg");
            return;
        };
        let of = |key: &Key| (key.name.clone(), seconds(key), key.fingerprint.clone());
        let read: Vec<_> = keys(&bytes).iter().map(of).collect();
        assert!(!expected.is_empty());
        assert_eq!(read, expected);
    }

    #[test]
    fn a_key_without_an_end_and_one_with() {
        // Made by hand: version 4, made at 1000; a certification of itself.
        let key = [0xc6, 6, 4, 0, 0, 3, 0xe8, 1];
        let user = [0xcd, 1, b'x'];
        let signature = |subpackets: &[u8]| {
            let count = u8::try_from(subpackets.len()).unwrap();
            let mut body = vec![4, 0x13, 1, 8, 0, count];
            body.extend(subpackets);
            [vec![0xc2, u8::try_from(body.len()).unwrap()], body].concat()
        };
        let made = [2, 27, 3, 5, 2, 0, 0, 4, 0];
        let never = [&key[..], &user, &signature(&made)].concat();
        let read = keys(&never);
        assert_eq!((read.len(), read[0].name.as_str(), read[0].expires), (1, "x", None));
        let day = [&made[..], &[5, 9, 0, 1, 0x51, 0x80]].concat();
        let some = [&key[..], &user, &signature(&day)].concat();
        assert_eq!(seconds(&keys(&some)[0]), Some(1000 + 86400));
        // The newest signature counts.
        let longer = [&[2, 27, 3, 5, 2, 0, 0, 5, 0][..], &[5, 9, 0, 2, 0xa3, 0]].concat();
        let both = [&key[..], &user, &signature(&longer), &signature(&day)].concat();
        assert_eq!(seconds(&keys(&both)[0]), Some(1000 + 2 * 86400));
        // Another's says nothing.
        let others = [&[5, 2, 0, 0, 6, 0][..], &[5, 9, 0, 0, 0, 1]].concat();
        let both = [&some[..], &signature(&others)].concat();
        assert_eq!(seconds(&keys(&both)[0]), Some(1000 + 86400));
        assert_eq!(keys(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"), []);
    }

    #[test]
    fn what_ends_soon_is_told_with_its_days() {
        let at = |text: &str| SystemTime::from(text.parse::<jiff::Timestamp>().unwrap());
        let key = |name: &str, end: Option<&str>| Key {
            fingerprint: String::new(),
            name: name.into(),
            expires: end.map(at),
        };
        let keys = [
            key("Archive Key (10/buster) <a@example>", Some("2027-04-12T17:44:39Z")),
            key("Release Key (10/buster) <b@example>", Some("2027-02-03T10:00:00Z")),
            key("Release Key (9/stretch) <b@example>", Some("2025-05-18T00:00:00Z")),
            key("Other (10/buster)", None),
        ];
        let now = at("2026-11-23T12:00:00Z");
        let suites = ["buster/updates".to_owned()];
        assert_eq!(
            ends(&keys, &suites, now).unwrap(),
            "`Release Key (10/buster)` expires on 2027-02-03, in 71 days, \
             `Archive Key (10/buster)` expires on 2027-04-12, in 140 days"
        );
        assert_eq!(ends(&keys, &suites, at("2024-01-01T00:00:00Z")), None);
        let after = ends(&keys[..2], &suites, at("2027-02-04T12:00:00Z")).unwrap();
        assert!(after.starts_with("`Release Key (10/buster)` expired on 2027-02-03, 1 day ago, "), "{after}");
        // Keys that are named after nothing count all.
        assert!(ends(&keys, &["./".to_owned()], now).unwrap().contains("stretch"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            keys(&bytes);
            keys(&[&[0xc6, 6, 4, 0, 0, 3, 0xe8, 1][..], &bytes].concat());
        }
    }
}
