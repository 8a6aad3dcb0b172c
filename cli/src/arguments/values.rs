//! How values are read that several arguments have.

use std::time::Duration;

use toril_inventory::{Transport, is_fingerprint};

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    toril_document::parse_duration(text)
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    toril_document::parse_size(text)
}

pub(super) fn recipe_release(text: &str) -> Result<toril_provisioner::Release, String> {
    toril_provisioner::Release::parse(&format!("debian {text}"))
}

pub(super) fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) fn transport(text: &str) -> Result<Transport, String> {
    Transport::parse(text).ok_or_else(|| "it must be openssh or russh".to_owned())
}

pub(super) fn fingerprint(text: &str) -> Result<String, String> {
    match is_fingerprint(text) {
        true => Ok(text.to_owned()),
        false => Err("it must be a fingerprint as `ssh-keygen -lf FILE` prints it: SHA256:…".to_owned()),
    }
}
