use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::{Located, Problem, Problems, Source, Value, parse_duration, parse_size};

/// A document being read: its text and the mistakes noted so far.
#[derive(Debug)]
pub struct Document {
    source: Arc<Source>,
    problems: RefCell<Vec<Problem>>,
}

impl Document {
    /// Reads `text` and hands the top table to `read`, which takes what it knows; what it leaves is an unknown key.
    ///
    /// # Errors
    /// Every mistake found: those of TOML itself, those of `read`, and unknown keys.
    pub fn read<T>(
        name: impl Into<String>,
        text: &str,
        read: impl FnOnce(&mut Table<'_>) -> Option<T>,
    ) -> Result<T, Problems> {
        let source = Arc::new(Source { name: name.into(), text: text.to_owned() });
        let document = Document { source, problems: RefCell::default() };
        let (root, mistakes) = DeTable::parse_recoverable(text);
        for mistake in &mistakes {
            let span = mistake.span().unwrap_or(0..0);
            document.note("D001", span, format!("not TOML: {}", mistake.message().trim()), None);
        }
        let span = root.span();
        let value = Value::of(DeValue::Table(root.into_inner()));
        let result = document.table(Located { value, span }, "the document".into()).and_then(|mut table| {
            let result = read(&mut table);
            table.finish();
            result
        });
        let problems = Problems(document.problems.into_inner());
        match result {
            Some(result) => problems.or(result),
            None if problems.0.is_empty() => Err(Problems(vec![Problem {
                code: "D002",
                message: "the document cannot be used".into(),
                source: document.source,
                span: 0..0,
                help: None,
            }])),
            None => Err(Problems(problems.or(()).err().map(|p| p.0).unwrap_or_default())),
        }
    }

    fn note(&self, code: &'static str, span: Range<usize>, message: String, help: Option<String>) {
        self.problems.borrow_mut().push(Problem {
            code,
            message,
            source: Arc::clone(&self.source),
            span,
            help,
        });
    }

    fn table(&self, value: Located<Value>, what: String) -> Option<Table<'_>> {
        match value.value {
            Value::Table(entries) => {
                Some(Table { document: self, entries, known: Vec::new(), span: value.span, what })
            }
            other => {
                self.note("D004", value.span, format!("{what} must be a table, not {}", other.kind()), None);
                None
            }
        }
    }
}

/// A table being read. Each method takes one key; [`Table::finish`] reports what nobody took.
#[derive(Debug)]
pub struct Table<'d> {
    document: &'d Document,
    entries: Vec<(Located<String>, Located<Value>)>,
    known: Vec<&'static str>,
    span: Range<usize>,
    what: String,
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

    /// Whether a key that nobody has taken yet is there.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name.value == key)
    }

    /// Takes any value.
    pub fn take(&mut self, key: &'static str) -> Option<(Range<usize>, Located<Value>)> {
        self.known.push(key);
        let index = self.entries.iter().position(|(name, _)| name.value == key)?;
        let (name, value) = self.entries.remove(index);
        Some((name.span, value))
    }

    /// Takes every entry that is left: for tables whose keys are the author's.
    pub fn take_all(&mut self) -> Vec<(Located<String>, Located<Value>)> {
        std::mem::take(&mut self.entries)
    }

    /// Takes the whole table as tables named by the author; what is no table is noted.
    pub fn into_tables(mut self) -> Vec<(Located<String>, Table<'d>)> {
        let entries = self.take_all();
        let tables = entries.into_iter().filter_map(|(name, value)| {
            let table = self.document.table(value, format!("`{}`", name.value))?;
            Some((name, table))
        });
        tables.collect()
    }

    /// Takes a string.
    pub fn string(&mut self, key: &'static str) -> Option<Located<String>> {
        let (_, value) = self.take(key)?;
        self.as_string(value, key)
    }

    /// Takes a string that must be there.
    pub fn required_string(&mut self, key: &'static str) -> Option<Located<String>> {
        self.require(key).then(|| self.string(key)).flatten()
    }

    /// Takes a list of strings.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        let (_, value) = self.take(key)?;
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
        let list = self.strings(key)?;
        if list.is_empty() {
            self.note("D006", place, format!("`{key}` of {} must not be empty", self.what), None);
            return None;
        }
        Some(list)
    }

    /// Takes a boolean.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let (_, value) = self.take(key)?;
        match value.value {
            Value::Boolean(flag) => Some(flag),
            other => {
                self.wrong_type(key, value.span, "true or false", other.kind());
                None
            }
        }
    }

    /// Takes a whole number within bounds.
    pub fn integer(&mut self, key: &'static str, bounds: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let (_, value) = self.take(key)?;
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

    /// Takes a duration such as `20s`.
    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.parsed(key, parse_duration)
    }

    /// Takes a size such as `64M`, in bytes.
    pub fn size(&mut self, key: &'static str) -> Option<u64> {
        self.parsed(key, parse_size)
    }

    /// Takes a string and reads it with `parse`, whose error becomes the problem's message.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.string(key)?;
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
        let (_, value) = self.take(key)?;
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
        let Some((_, mut value)) = self.take(key) else { return Vec::new() };
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
        if self.has(key) {
            return true;
        }
        self.known.push(key);
        self.note("D005", self.span.clone(), format!("`{key}` is missing in {}", self.what), None);
        false
    }

    fn place(&self, key: &str) -> Range<usize> {
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

/// The known word nearest to a mistyped one, if any is near enough to be meant.
pub fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let text = "nmae = \"x\"\ncount = \"three\"\n[inner]\nwait = \"20\"\nextra = 1\n";
        let problems = Document::read("a.toml", text, |table| {
            let _ = table.required_string("name");
            let _ = table.integer("count", 0..=9);
            let mut inner = table.table("inner")?;
            let _ = inner.duration("wait");
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
    fn broken_toml_is_a_problem_and_no_panic() {
        let problems = Document::read("b.toml", "a = [1,\nb = ", |table| {
            table.take_all();
            Some(())
        });
        assert!(problems.expect_err("broken").0.iter().all(|p| p.code == "D001"));
    }
}
