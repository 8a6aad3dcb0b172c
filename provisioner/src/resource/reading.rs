//! Reading the words that kinds share.

use toril_document::{Located, Table};

/// Takes an absolute path that has no `..` in it.
pub(crate) fn read_path(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    let path = table.required_string(key)?;
    let text = path.value.trim_end_matches('/');
    if text.starts_with('/')
        && !text.split('/').any(|part| part == ".." || part == ".")
        && !text.contains('\0')
    {
        return Some(text.to_owned());
    }
    let message = format!("`{}` must be an absolute path without `.` and `..`", path.value);
    table.note("R010", path.span, message, None);
    None
}

/// Takes a name that is safe as an argument and as a part of a path.
pub(crate) fn read_name(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    let name = table.required_string(key)?;
    if is_name(&name.value) {
        return Some(name.value);
    }
    let message =
        format!("`{}` is no name: letters, digits and . _ + -, beginning with a letter or digit", name.value);
    table.note("R011", name.span, message, None);
    None
}

pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
}

/// As [`read_path`], where the key may be left out.
pub(crate) fn optional_path(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    if table.has(key) { read_path(table, key) } else { known(table, key) }
}

/// As [`read_name`], where the key may be left out.
pub(crate) fn optional_name(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    if table.has(key) { read_name(table, key) } else { known(table, key) }
}

/// A key that is not there becomes a known word, so that a mistyped one is answered with it.
fn known(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    drop(table.take(key));
    None
}

/// Keeps the names in a list and notes the rest; `of`: such as `a group`.
pub(crate) fn names(table: &Table<'_>, list: Vec<Located<String>>, of: &str) -> Vec<String> {
    let (good, bad): (Vec<_>, Vec<_>) = list.into_iter().partition(|name| is_name(&name.value));
    for name in bad {
        table.note("R011", name.span, format!("`{}` is no name of {of}", name.value), None);
    }
    good.into_iter().map(|name| name.value).collect()
}

/// Takes a string that must be there and reads it with `parse`, whose error becomes the problem's message.
pub(crate) fn parsed<T>(
    table: &mut Table<'_>,
    key: &'static str,
    code: &'static str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text = table.required_string(key)?;
    parse(&text.value).map_err(|message| table.note(code, text.span, message, None)).ok()
}

/// Refuses what would be more than one line of a file, or none.
pub(crate) fn one_line(text: &str) -> Result<String, String> {
    match text.contains(['\n', '\r', '\0']) || text.is_empty() {
        true => Err("this must be one line, not empty".into()),
        false => Ok(text.to_owned()),
    }
}
