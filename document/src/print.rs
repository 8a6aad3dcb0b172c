//! Values as TOML, in the form in which people write them.

use std::fmt;

use crate::{Located, Value};

impl fmt::Display for Value {
    /// On one line, but for strings that have several.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::String(text) => string(f, text),
            Value::Integer(number) => write!(f, "{number}"),
            // With its point, which tells it from a whole number.
            Value::Fraction(number) => write!(f, "{number:?}"),
            Value::Boolean(flag) => write!(f, "{flag}"),
            Value::Other(what) => write!(f, "{what:?}"),
            Value::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if index > 0 { ", " } else { "" }, item.value)?;
                }
                f.write_str("]")
            }
            Value::Table(entries) if entries.is_empty() => f.write_str("{}"),
            Value::Table(entries) => {
                f.write_str("{ ")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{} = {}", if index > 0 { ", " } else { "" }, Key(key), value.value)?;
                }
                f.write_str(" }")
            }
        }
    }
}

impl Value {
    /// A table's entries, as they stand below its header; none for other values.
    pub fn entries(&self) -> Vec<String> {
        let Value::Table(entries) = self else { return Vec::new() };
        entries.iter().map(|(key, value)| format!("{} = {}", Key(key), value.value)).collect()
    }
}

/// A key, in quotes only where TOML wants them.
struct Key<'k>(&'k Located<String>);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.0.value;
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        match !key.is_empty() && key.chars().all(bare) {
            true => f.write_str(key),
            false => quoted(f, key),
        }
    }
}

fn string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    // One newline at the end alone does not make a text of several lines.
    if !text.trim_end_matches('\n').contains('\n') {
        return quoted(f, text);
    }
    // Where they could be taken for the end, quotes are escaped; elsewhere they are easier to read as they are.
    let plain_quotes = !text.contains("\"\"\"") && !text.ends_with('"');
    f.write_str("\"\"\"\n")?;
    for c in text.chars() {
        match c {
            '"' if plain_quotes => f.write_str("\"")?,
            '\n' => f.write_str("\n")?,
            '\t' => f.write_str("\t")?,
            c => escaped(f, c)?,
        }
    }
    f.write_str("\"\"\"")
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    text.chars().try_for_each(|c| escaped(f, c))?;
    f.write_str("\"")
}

fn escaped(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '"' => f.write_str("\\\""),
        '\\' => f.write_str("\\\\"),
        '\n' => f.write_str("\\n"),
        '\t' => f.write_str("\\t"),
        c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c)),
        c => write!(f, "{c}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

    fn value(text: &str) -> Value {
        let read = Document::read("v.toml", text, |table| Some(table.take("v")?.1.value));
        read.unwrap_or_else(|problems| panic!("{text}\n{problems:?}"))
    }

    /// Without the places.
    fn plain(value: &Value) -> Value {
        let item = |item: &Located<Value>| Located { value: plain(&item.value), span: 0..0 };
        match value {
            Value::Array(items) => Value::Array(items.iter().map(item).collect()),
            Value::Table(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| (Located { value: key.value.clone(), span: 0..0 }, item(value)));
                Value::Table(entries.collect())
            }
            other => other.clone(),
        }
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for text in [
            r#"v = 'a "b" \ c'"#,
            "v = \"\"\"\none\n\ttwo \"quoted\"\nthree\\\"\"\"\"",
            "v = '''\none \"\"\"\ntwo\n'''",
            r#"v = "bell \u0007\r\n""#,
            r#"v = { a = ["x", "y"], 'a b' = true, "" = {}, n = -5 }"#,
        ] {
            let first = value(text);
            let printed = format!("v = {first}");
            assert_eq!(plain(&value(&printed)), plain(&first), "{printed}");
        }
        assert_eq!(value("v = { a = ['x'], 'b c' = 1 }").to_string(), r#"{ a = ["x"], "b c" = 1 }"#);
    }
}
