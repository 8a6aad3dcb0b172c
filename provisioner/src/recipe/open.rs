//! What comes from outside, and which file of it is meant: by the recipe's own word, else by its lock's.

use std::collections::BTreeMap;
use std::sync::Arc;

use toril_document::{Located, Problem, Problems, Table, Value};

use super::resources::entry;
use crate::resource::PINNED;

/// Something from outside that the recipe does not pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSource {
    /// The resource's name.
    pub resource: String,
    /// Its kind's key, such as `download`.
    pub kind: &'static str,
    /// Where it comes from.
    pub url: String,
}

/// Puts what the lock has in the place of what resources leave out; notes what it does not have either. Without a lock's
/// hashes, anything stands there. Says which they are.
pub(super) fn close(
    list: &mut Located<Value>,
    table: &Table<'_>,
    hashes: Option<&BTreeMap<String, String>>,
    problems: &mut Problems,
) -> Vec<OpenSource> {
    let Value::Array(resources) = &mut list.value else { return Vec::new() };
    let mut open = Vec::new();
    for resource in resources {
        let Some(name) = text(entry(resource, "name")) else { continue };
        let place = entry(resource, "name").map(|name| name.span.clone()).unwrap_or_default();
        let pinned = PINNED.iter().find(|(kind, ..)| entry(resource, kind).is_some());
        let Some((kind, key, digits)) = pinned else { continue };
        let Some(body) = entry(resource, kind) else { continue };
        let url = text(entry(body, "url")).unwrap_or_default();
        let Value::Table(entries) = &mut body.value else { continue };
        if entries.iter().any(|(known, _)| known.value == *key) {
            continue;
        }
        open.push(OpenSource { resource: name.clone(), kind, url });
        let hash = hashes.and_then(|hashes| hashes.get(&name)).filter(|hash| hash.len() == *digits).cloned();
        if hash.is_none() && hashes.is_some() {
            problems.0.push(Problem {
                code: "R053",
                message: format!("`{key}` of `{name}` is missing, and no lock has it"),
                source: Arc::clone(table.source()),
                span: place,
                help: Some("`toril recipe lock` fetches it once, and writes down what it was".into()),
            });
        }
        // What is missing has been told of, or is about to be looked for.
        let hash = hash.unwrap_or_else(|| "0".repeat(*digits));
        let place = body.span.clone();
        entries.push((
            Located { value: (*key).to_owned(), span: place.clone() },
            Located { value: Value::String(hash), span: place },
        ));
    }
    open
}

fn text(value: Option<&mut Located<Value>>) -> Option<String> {
    match &value?.value {
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}
