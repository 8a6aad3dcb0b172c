use toril_document::{Table, Value};
use toril_machine::Facts;

/// Reads `when`, a table of tests on facts, and says whether they all hold. A list of values means any of them.
pub(super) fn holds(mut table: Table<'_>, facts: &Facts) -> bool {
    table.rename("`when`");
    let debian = if facts.os == "debian" { facts.version.as_str() } else { "" };
    let results = [
        text(&mut table, "debian", debian),
        text(&mut table, "virtualization", facts.virtualization.as_deref().unwrap_or("none")),
        flag(&mut table, "container", facts.container.is_some()),
        flag(&mut table, "systemd", facts.systemd),
        flag(&mut table, "kvm-device", facts.kvm_device),
    ];
    table.finish();
    results.into_iter().all(|held| held)
}

fn text(table: &mut Table<'_>, key: &'static str, fact: &str) -> bool {
    let Some((_, value)) = table.take(key) else { return true };
    let items = match value.value {
        Value::Array(items) => items,
        single => vec![toril_document::Located { value: single, span: value.span }],
    };
    let mut held = false;
    for item in items {
        match item.value {
            Value::String(wanted) => held |= wanted == fact,
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
