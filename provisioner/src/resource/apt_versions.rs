//! Which versions of packages a recipe wants: at least one (`minimum`), or one and no other (`version`).

use std::collections::BTreeMap;

use debversion::Version;
use toril_document::{Table, Value};

use crate::apt::Requirement;

/// Takes `minimum` and `version` of packages that are to be installed. `None`: a mistake was noted.
pub(super) fn read_versions(
    table: &mut Table<'_>,
    install: &[String],
) -> Option<BTreeMap<String, Requirement>> {
    let mut versions = BTreeMap::new();
    let least = read_table(table, "minimum", install, Requirement::Least, &mut versions);
    let exact = read_table(table, "version", install, Requirement::Exactly, &mut versions);
    least.and(exact).map(|()| versions)
}

fn read_table(
    table: &mut Table<'_>,
    key: &'static str,
    install: &[String],
    requirement: fn(Version) -> Requirement,
    versions: &mut BTreeMap<String, Requirement>,
) -> Option<()> {
    let Some((_, value)) = table.take(key) else { return Some(()) };
    if table.is_imagined() {
        return Some(());
    }
    let Value::Table(entries) = value.value else {
        table.note("D004", value.span, format!("`{key}` must be a table of packages and versions"), None);
        return None;
    };
    for (name, version) in entries {
        if !install.contains(&name.value) {
            table.note("R012", name.span, format!("`{}` is not among `install`", name.value), None);
            continue;
        }
        let parsed = match &version.value {
            Value::String(text) => text.parse::<Version>().ok(),
            _ => None,
        };
        match parsed {
            None => table.note("R013", version.span, "this is no version of a Debian package", None),
            Some(_) if versions.contains_key(&name.value) => {
                let message = format!("`{}` has a `minimum` already, and `version` says all", name.value);
                table.note("R032", name.span, message, None);
            }
            Some(version) => drop(versions.insert(name.value, requirement(version))),
        }
    }
    Some(())
}
