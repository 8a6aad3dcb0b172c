//! The private key and the passphrase that the environment gives.

use std::ffi::OsString;
use std::sync::OnceLock;

use data_encoding::BASE64;
use zeroize::Zeroizing;

/// The environment variable that holds a private key, as it is or in base64.
pub const KEY_VARIABLE: &str = "TORIL_SSH_KEY";
/// The environment variable that holds the passphrase of private keys.
pub const PASSPHRASE_VARIABLE: &str = "TORIL_SSH_PASSPHRASE";

static HELD: OnceLock<Held> = OnceLock::new();

#[derive(Default)]
struct Held {
    key: Option<Zeroizing<String>>,
    passphrase: Option<Zeroizing<String>>,
}

/// Copies them into this program's memory, and returns the variables that are to be removed from its environment: the
/// processes that it starts are not to inherit them. The first call counts.
pub fn take_secrets() -> [&'static str; 2] {
    let _ = HELD.set(Held::of(|name| std::env::var_os(name)));
    [KEY_VARIABLE, PASSPHRASE_VARIABLE]
}

/// The private key, if there is one.
pub(in super::super) fn key() -> Option<Zeroizing<String>> {
    held(|held| &held.key)
}

pub(super) fn passphrase() -> Option<Zeroizing<String>> {
    held(|held| &held.passphrase)
}

/// What was taken, or what stands in the environment of a program that takes nothing.
fn held(which: impl Fn(&Held) -> &Option<Zeroizing<String>>) -> Option<Zeroizing<String>> {
    match HELD.get() {
        Some(held) => which(held).clone(),
        None => which(&Held::of(|name| std::env::var_os(name))).clone(),
    }
}

impl Held {
    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Held {
        // What is no text is no key, and said to be none when it is used.
        let text = |name| variable(name).map(|value| Zeroizing::new(value.to_string_lossy().into_owned()));
        let filled = |name| text(name).filter(|value| !value.trim().is_empty());
        let key = filled(KEY_VARIABLE).map(|text| from_base64(&text).unwrap_or(text));
        Held { key, passphrase: filled(PASSPHRASE_VARIABLE) }
    }
}

/// The key of a text that is one in base64: some CIs keep no secret of several lines.
fn from_base64(text: &str) -> Option<Zeroizing<String>> {
    const BEGINNING: &str = "-----BEGIN";
    if text.contains(BEGINNING) {
        return None;
    }
    let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let packed = Zeroizing::new(packed);
    let decoded = Zeroizing::new(BASE64.decode(&packed).ok()?);
    let key = std::str::from_utf8(&decoded).ok()?;
    key.contains(BEGINNING).then(|| Zeroizing::new(key.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn what_is_empty_is_not_there_and_what_is_no_text_is_not_passed_over() {
        let held = Held::of(|name| match name {
            KEY_VARIABLE => Some(OsString::from_vec(vec![b'k', 0xff])),
            _ => Some(" \n".into()),
        });
        assert!(held.key.is_some_and(|key| key.starts_with('k')) && held.passphrase.is_none());
    }

    #[test]
    fn a_key_may_be_in_base64_and_what_is_none_stays_as_it_is() {
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA==\n-----END OPENSSH PRIVATE KEY-----\n";
        let packed = BASE64.encode(key.as_bytes());
        let (first, rest) = packed.split_at(70);
        let held = |text: &str| Held::of(|_| Some(text.into())).key.unwrap().to_string();
        for text in [key, &packed, &format!("{packed}\n"), &format!("{first}\n{rest}\n")] {
            assert_eq!(held(text), key, "{text}");
        }
        for text in ["no key", "bm8ga2V5", first] {
            assert_eq!(held(text), text);
        }
    }
}
