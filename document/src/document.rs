use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::{Located, Problem, Problems, Source, Table, TableShape, Value};

/// A document being read: its text and the mistakes noted so far.
#[derive(Debug)]
pub struct Document {
    pub(crate) source: Arc<Source>,
    problems: RefCell<Vec<Problem>>,
    /// There is no text: the reader gets a value for whatever it asks for, and what it asks for is noted.
    pub(crate) imagined: bool,
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
        let document = Document { source, problems: RefCell::default(), imagined: false };
        let (root, mistakes) = DeTable::parse_recoverable(text);
        let mut places = BTreeSet::new();
        for mistake in &mistakes {
            let span = mistake.span().unwrap_or(0..0);
            // Three arrays that are never closed are all missed at the end.
            if !places.insert((span.start, span.end, mistake.message())) {
                continue;
            }
            document.note("D001", span, format!("not TOML: {}", mistake.message().trim()), None);
        }
        // What could be saved of a text that is no TOML would be full of mistakes that are none.
        let problems = document.problems.borrow().clone();
        Problems(problems).or(())?;
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

    /// Finds out what `read` takes, by letting it read a table that has whatever it asks for.
    pub fn shape(read: impl FnOnce(&mut Table<'_>)) -> TableShape {
        let source = Arc::new(Source { name: String::new(), text: String::new() });
        let document = Document { source, problems: RefCell::default(), imagined: true };
        let shape = TableShape::default();
        read(&mut document.imagine(&shape));
        shape
    }

    pub(crate) fn imagine(&self, shape: &TableShape) -> Table<'_> {
        Table {
            document: self,
            entries: Vec::new(),
            known: Vec::new(),
            span: 0..0,
            what: String::new(),
            shape: shape.clone(),
        }
    }

    pub(crate) fn note(&self, code: &'static str, span: Range<usize>, message: String, help: Option<String>) {
        self.problems.borrow_mut().push(Problem {
            code,
            message,
            source: Arc::clone(&self.source),
            span,
            help,
        });
    }

    pub(crate) fn table(&self, value: Located<Value>, what: String) -> Option<Table<'_>> {
        match value.value {
            Value::Table(entries) => {
                let shape = TableShape::default();
                Some(Table { document: self, entries, known: Vec::new(), span: value.span, what, shape })
            }
            other => {
                self.note("D004", value.span, format!("{what} must be a table, not {}", other.kind()), None);
                None
            }
        }
    }
}
