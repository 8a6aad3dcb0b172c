use toril_document::{Located, Table, Value};
use toril_machine::Facts;

use super::scope::Scope;

/// Reads `when`, a table of tests on facts and variables, and says whether they all hold. A list of values means any of
/// them.
pub(super) fn holds(mut table: Table<'_>, facts: &Facts, scope: &Scope) -> bool {
    table.rename("`when`");
    let debian = if facts.os == "debian" { facts.version.as_str() } else { "" };
    let results = [
        text(&mut table, "debian", debian),
        text(&mut table, "virtualization", facts.virtualization.as_deref().unwrap_or("none")),
        flag(&mut table, "container", facts.container.is_some()),
        flag(&mut table, "systemd", facts.systemd),
        flag(&mut table, "kvm-device", facts.kvm_device),
        variables(&mut table, "vars", scope).all(|is| is),
        !variables(&mut table, "vars-not", scope).any(|is| is),
    ];
    table.finish();
    results.into_iter().all(|held| held)
}

fn text(table: &mut Table<'_>, key: &'static str, fact: &str) -> bool {
    let Some((_, value)) = table.take(key) else { return true };
    is_any(table, key, value, fact)
}

/// Whether a variable is what is said of it, for each that is named.
fn variables(table: &mut Table<'_>, key: &'static str, scope: &Scope) -> impl Iterator<Item = bool> + use<> {
    let Some(mut named) = table.table(key) else { return Vec::new().into_iter() };
    let held = named.take_all().into_iter().map(|(name, value)| match scope.variable(&name.value) {
        Ok(is) => is_any(&named, &name.value, value, &is),
        Err(help) => {
            named.note("R003", name.span, format!("unknown variable `vars.{}`", name.value), help);
            false
        }
    });
    let held: Vec<bool> = held.collect();
    held.into_iter()
}

/// Whether this is the value, or one of the values.
fn is_any(table: &Table<'_>, key: &str, value: Located<Value>, is: &str) -> bool {
    let items = match value.value {
        Value::Array(items) => items,
        single => vec![Located { value: single, span: value.span }],
    };
    let mut held = false;
    for item in items {
        match item.value {
            Value::String(wanted) => held |= wanted == is,
            other => {
                let message =
                    format!("`{key}` is compared with a string or a list of strings, not {}", other.kind());
                table.note("D004", item.span, message, None);
            }
        }
    }
    held
}

fn flag(table: &mut Table<'_>, key: &'static str, fact: bool) -> bool {
    table.boolean(key).is_none_or(|wanted| wanted == fact)
}
