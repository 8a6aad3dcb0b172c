//! The private key and the passphrase that the environment gives.

use std::ffi::OsString;
use std::sync::OnceLock;

use zeroize::Zeroizing;

/// The environment variable that holds a private key.
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
        Held { key: filled(KEY_VARIABLE), passphrase: filled(PASSPHRASE_VARIABLE) }
    }
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
}
