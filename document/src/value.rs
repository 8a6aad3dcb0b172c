use std::ops::Range;

use toml::de::{DeString, DeValue};

/// A part of a document and the bytes it stands at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// What was read.
    pub value: T,
    /// Where it stands.
    pub span: Range<usize>,
}

impl<T> Located<T> {
    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Located<U> {
        Located { value: change(self.value), span: self.span }
    }
}

/// A TOML value with places.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string.
    String(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
    /// A number with a fraction; always finite.
    Fraction(f64),
    /// A date, or a number without end: nothing in toril's documents takes one.
    Other(&'static str),
    /// An array.
    Array(Vec<Located<Value>>),
    /// A table, in the order of its keys.
    Table(Vec<(Located<String>, Located<Value>)>),
}

impl Value {
    /// What to call this kind of value in a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::String(_) => "a string",
            Value::Integer(_) => "a whole number",
            Value::Boolean(_) => "true or false",
            Value::Fraction(_) => "a number with a fraction",
            Value::Other(name) => name,
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    pub(crate) fn of(value: DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Other("a number too large"),
            },
            DeValue::Boolean(flag) => Value::Boolean(flag),
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => Value::Fraction(number),
                _ => Value::Other("a number that is not finite"),
            },
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Array(items) => Value::Array(items.into_iter().map(located).collect()),
            DeValue::Table(table) => {
                let mut entries: Vec<_> = table
                    .into_iter()
                    .map(|(key, value)| {
                        let span = key.span();
                        (Located { value: DeString::into_owned(key.into_inner()), span }, located(value))
                    })
                    .collect();
                entries.sort_by_key(|(key, _)| key.span.start);
                Value::Table(entries)
            }
        }
    }
}

fn located(value: toml::Spanned<DeValue<'_>>) -> Located<Value> {
    let span = value.span();
    Located { value: Value::of(value.into_inner()), span }
}
