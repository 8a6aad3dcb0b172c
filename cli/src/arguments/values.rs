//! How values are read that several arguments have.

use std::time::Duration;

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
