use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use crate::document::Document;
use crate::{Form, Located, Shape, Source, TableShape, Value, nearest, parse_duration, parse_size};

/// A table being read. Each method takes one key; [`Table::finish`] reports what nobody took.
#[derive(Debug)]
pub struct Table<'d> {
    pub(crate) document: &'d Document,
    pub(crate) entries: Vec<(Located<String>, Located<Value>)>,
    pub(crate) known: Vec<&'static str>,
    pub(crate) span: Range<usize>,
    pub(crate) what: String,
    /// What was asked for, where the document is imagined.
    pub(crate) shape: TableShape,
}

impl<'d> Table<'d> {
    /// The place of the whole table.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The document's name.
    pub fn source(&self) -> &Arc<Source> {
        &self.document.source
    }

    /// Gives the table the name that messages call it by.
    pub fn rename(&mut self, what: impl Into<String>) {
        self.what = what.into();
    }

    /// Notes a mistake at a place.
    pub fn note(
        &self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.document.note(code, span, message.into(), help);
    }

    /// Whether there is no document, and the reader is only to show what it takes: [`Document::shape`].
    pub fn is_imagined(&self) -> bool {
        self.document.imagined
    }

    /// Whether a key that nobody has taken yet is there.
    pub fn has(&self, key: &str) -> bool {
        if self.document.imagined {
            self.shape.make_optional(key);
            return true;
        }
        self.entries.iter().any(|(name, _)| name.value == key)
    }

    /// The keys that nobody has taken yet.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.value.as_str())
    }

    /// Looks at a value and leaves it to whoever takes it.
    pub fn peek(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(name, _)| name.value == key).map(|(_, value)| &value.value)
    }

    /// Takes any value.
    pub fn take(&mut self, key: &'static str) -> Option<(Range<usize>, Located<Value>)> {
        self.get(key, Shape::Any, false)
    }

    fn get(
        &mut self,
        key: &'static str,
        shape: Shape,
        required: bool,
    ) -> Option<(Range<usize>, Located<Value>)> {
        self.known.push(key);
        if self.document.imagined {
            let value = match &shape {
                Shape::Any | Shape::String | Shape::Form(_) => Value::String("imagined".into()),
                Shape::Strings => {
                    Value::Array(vec![Located { value: Value::String("imagined".into()), span: 0..0 }])
                }
                Shape::Boolean => Value::Boolean(true),
                Shape::Integer { least, .. } => Value::Integer(*least),
                Shape::Number => Value::Integer(0),
                Shape::Table(_) => Value::Table(Vec::new()),
                Shape::Tables(_) => {
                    Value::Array(vec![Located { value: Value::Table(Vec::new()), span: 0..0 }])
                }
            };
            self.shape.add(key, shape, required);
            return Some((0..0, Located { value, span: 0..0 }));
        }
        let index = self.entries.iter().position(|(name, _)| name.value == key)?;
        let (name, value) = self.entries.remove(index);
        Some((name.span, value))
    }

    /// Takes every entry that is left: for tables whose keys are the author's.
    pub fn take_all(&mut self) -> Vec<(Located<String>, Located<Value>)> {
        self.shape.add_others(Shape::Any);
        std::mem::take(&mut self.entries)
    }

    /// Takes the whole table as tables named by the author; what is no table is noted.
    pub fn into_tables(mut self) -> Vec<(Located<String>, Table<'d>)> {
        if self.document.imagined {
            let shape = TableShape::default();
            self.shape.add_others(Shape::Table(shape.clone()));
            let name = Located { value: "imagined".to_owned(), span: 0..0 };
            return vec![(name, self.document.imagine(&shape))];
        }
        let entries = self.take_all();
        let tables = entries.into_iter().filter_map(|(name, value)| {
            let table = self.document.table(value, format!("`{}`", name.value))?;
            Some((name, table))
        });
        tables.collect()
    }

    /// Takes a string.
    pub fn string(&mut self, key: &'static str) -> Option<Located<String>> {
        self.string_of(key, Shape::String, false)
    }

    fn string_of(&mut self, key: &'static str, shape: Shape, required: bool) -> Option<Located<String>> {
        let (_, value) = self.get(key, shape, required)?;
        self.as_string(value, key)
    }

    /// Takes a string that must be there.
    pub fn required_string(&mut self, key: &'static str) -> Option<Located<String>> {
        self.require(key).then(|| self.string_of(key, Shape::String, true)).flatten()
    }

    /// Takes a list of strings.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        self.strings_of(key, false)
    }

    fn strings_of(&mut self, key: &'static str, required: bool) -> Option<Vec<Located<String>>> {
        let (_, value) = self.get(key, Shape::Strings, required)?;
        match value.value {
            Value::Array(items) => {
                Some(items.into_iter().filter_map(|item| self.as_string(item, key)).collect())
            }
            other => {
                self.wrong_type(key, value.span, "a list of strings", other.kind());
                None
            }
        }
    }

    /// Takes a list of strings that must be there and not be empty.
    pub fn required_strings(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        if !self.require(key) {
            return None;
        }
        let place = self.place(key);
        let list = self.strings_of(key, true)?;
        if list.is_empty() {
            self.note("D006", place, format!("`{key}` of {} must not be empty", self.what), None);
            return None;
        }
        Some(list)
    }

    /// Takes a boolean.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let (_, value) = self.get(key, Shape::Boolean, false)?;
        match value.value {
            Value::Boolean(flag) => Some(flag),
            other => {
                self.wrong_type(key, value.span, "true or false", other.kind());
                None
            }
        }
    }

    /// Takes a whole number within bounds.
    pub fn integer(&mut self, key: &'static str, bounds: RangeInclusive<i64>) -> Option<i64> {
        let (_, value) =
            self.get(key, Shape::Integer { least: *bounds.start(), greatest: *bounds.end() }, false)?;
        match value.value {
            Value::Integer(number) if bounds.contains(&number) => Some(number),
            Value::Integer(_) => {
                let message = format!("`{key}` must be from {} to {}", bounds.start(), bounds.end());
                self.note("D006", value.span, message, None);
                None
            }
            other => {
                self.wrong_type(key, value.span, "a whole number", other.kind());
                None
            }
        }
    }

    /// Takes any number.
    pub fn number(&mut self, key: &'static str) -> Option<f64> {
        let (_, value) = self.get(key, Shape::Number, false)?;
        match value.value {
            // Whole numbers that a fraction cannot hold are beyond what anybody measures.
            #[expect(clippy::cast_precision_loss, reason = "see above")]
            Value::Integer(number) => Some(number as f64),
            Value::Fraction(number) => Some(number),
            other => {
                self.wrong_type(key, value.span, "a number", other.kind());
                None
            }
        }
    }

    /// Takes a duration such as `20s`.
    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.parsed_of(key, Form::Duration, parse_duration)
    }

    /// Takes a size such as `64M`, in bytes.
    pub fn size(&mut self, key: &'static str) -> Option<u64> {
        self.parsed_of(key, Form::Size, parse_size)
    }

    /// Takes a string and reads it with `parse`, whose error becomes the problem's message.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.parsed_of(key, Form::Other, parse)
    }

    fn parsed_of<T>(
        &mut self,
        key: &'static str,
        form: Form,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.string_of(key, Shape::Form(form), false)?;
        match parse(&text.value) {
            Ok(value) => Some(value),
            Err(message) => {
                self.note("D006", text.span, message, None);
                None
            }
        }
    }

    /// Takes a table.
    pub fn table(&mut self, key: &'static str) -> Option<Table<'d>> {
        let shape = TableShape::default();
        let (_, value) = self.get(key, Shape::Table(shape.clone()), false)?;
        if self.document.imagined {
            return Some(self.document.imagine(&shape));
        }
        self.document.table(value, format!("`{key}`"))
    }

    /// Takes a list of tables (`[[key]]`); none where the key is not there.
    pub fn tables(&mut self, key: &'static str) -> Vec<Table<'d>> {
        self.tables_rendered(key, |_, _| {})
    }

    /// As [`Table::tables`], after `render` has gone over the list: for values that hold templates.
    pub fn tables_rendered(
        &mut self,
        key: &'static str,
        render: impl FnOnce(&Table<'d>, &mut Located<Value>),
    ) -> Vec<Table<'d>> {
        let shape = TableShape::default();
        let found = self.get(key, Shape::Tables(shape.clone()), false);
        let Some((_, mut value)) = found else { return Vec::new() };
        if self.document.imagined {
            return vec![self.document.imagine(&shape)];
        }
        render(self, &mut value);
        match value.value {
            Value::Array(items) => {
                items.into_iter().filter_map(|item| self.document.table(item, format!("a `{key}`"))).collect()
            }
            other => {
                self.wrong_type(key, value.span, &format!("a list of tables: write [[{key}]]"), other.kind());
                Vec::new()
            }
        }
    }

    /// Reports every key that nobody took, with the nearest known one.
    pub fn finish(self) {
        for (name, _) in &self.entries {
            let help = match nearest(&name.value, self.known.iter().copied()) {
                Some(word) => Some(format!("did you mean `{word}`?")),
                None if self.known.is_empty() => None,
                None => Some(format!("known here: {}", self.known.join(", "))),
            };
            let message = format!("unknown key `{}` in {}", name.value, self.what);
            self.document.note("D003", name.span.clone(), message, help);
        }
    }

    fn require(&mut self, key: &'static str) -> bool {
        if self.document.imagined || self.has(key) {
            return true;
        }
        self.known.push(key);
        self.note("D005", self.span.clone(), format!("`{key}` is missing in {}", self.what), None);
        false
    }

    /// Where the value of a key stands that nobody has taken yet; the whole table where there is none.
    pub fn place(&self, key: &str) -> Range<usize> {
        let entry = self.entries.iter().find(|(name, _)| name.value == key);
        entry.map_or_else(|| self.span.clone(), |(_, value)| value.span.clone())
    }

    fn as_string(&self, value: Located<Value>, key: &str) -> Option<Located<String>> {
        match value.value {
            Value::String(text) => Some(Located { value: text, span: value.span }),
            other => {
                self.wrong_type(key, value.span, "a string", other.kind());
                None
            }
        }
    }

    fn wrong_type(&self, key: &str, span: Range<usize>, expected: &str, found: &str) {
        self.note("D004", span, format!("`{key}` must be {expected}, not {found}"), None);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_some(table: &mut Table<'_>) -> Option<()> {
        let _ = (table.required_string("name"), table.strings("list"), table.integer("count", 0..=9));
        let _ = (table.boolean("flag"), table.duration("wait"), table.size("room"));
        for mut item in table.tables("item") {
            let _ = item.required_strings("words");
            item.finish();
        }
        Some(())
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_has_mistakes_with_places(
            text in r#"([a-z\[\]="{},.0-9\n ]|name|list|item|wait|é){0,60}"#
        ) {
            if let Err(problems) = Document::read("p", &text, read_some) {
                prop_assert!(!problems.0.is_empty());
                for problem in problems.0 {
                    let (line, column) = problem.source.line_column(problem.span.start);
                    prop_assert!(line >= 1 && column >= 1 && problem.span.start <= text.len());
                }
            }
        }
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let text = "nmae = \"x\"\ncount = \"three\"\n[inner]\nwait = \"20\"\nextra = 1\n";
        let problems = Document::read("a.toml", text, |table| {
            let _ = table.required_string("name");
            let _ = table.integer("count", 0..=9);
            let mut inner = table.table("inner")?;
            let _ = (inner.duration("wait"), inner.number("rate"));
            inner.finish();
            Some(())
        })
        .expect_err("five mistakes");
        let lines: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert!(
            lines.iter().any(|l| l.starts_with("a.toml:1:1: unknown key `nmae`") && l.contains("`name`"))
        );
        assert!(lines.iter().any(|l| l.starts_with("a.toml:2:9: `count` must be a whole number")));
        assert!(lines.iter().any(|l| l.starts_with("a.toml:4:8: `20` is not a duration")));
        assert!(lines.iter().any(|l| l.starts_with("a.toml:5:1: unknown key `extra`")));
    }

    #[test]
    fn a_reader_tells_its_own_schema() {
        let shape = Document::shape(|table| {
            let _ = table.required_string("name");
            let _ = table.has("shell").then(|| table.required_string("shell"));
            let _ = table.duration("wait");
            for mut item in table.tables("item") {
                let _ = item.integer("count", 1..=9);
            }
            drop(table.table("vars").map(|mut vars| vars.take_all()));
        });
        let schema = shape.json_schema();
        assert_eq!(schema["required"], serde_json::json!(["name"]));
        assert_eq!(schema["properties"]["item"]["items"]["properties"]["count"]["maximum"], 9);
        assert_eq!(schema["properties"]["vars"]["additionalProperties"], serde_json::json!({}));
        assert_eq!(schema["additionalProperties"], false);
    }

    #[test]
    fn broken_toml_is_a_problem_and_no_panic() {
        let problems = Document::read("b.toml", "a = [1,\nb = ", |table| {
            table.take_all();
            Some(())
        });
        assert!(problems.expect_err("broken").0.iter().all(|p| p.code == "D001"));
        let problems = Document::read("c.toml", "x = [[[\n", |_| Some(())).expect_err("broken");
        assert_eq!(problems.0.len(), 1, "{problems:?}");
    }
}
