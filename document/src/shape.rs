//! What a reader takes, found out by letting it read: the schema that editors get cannot differ from the reader.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::{Map, Value as Json, json};

/// What a key may hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Anything.
    Any,
    /// A string.
    String,
    /// A string of a form that the reader checks, such as a duration.
    Form(Form),
    /// A list of strings.
    Strings,
    /// `true` or `false`.
    Boolean,
    /// A whole number within bounds.
    Integer {
        /// The least.
        least: i64,
        /// The greatest.
        greatest: i64,
    },
    /// Any number.
    Number,
    /// A table.
    Table(TableShape),
    /// A list of tables.
    Tables(TableShape),
}

/// Strings of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `500ms`, `20s`, `5m`, `2h`.
    Duration,
    /// `512K`, `64M`, `2G`.
    Size,
    /// What the reader alone knows.
    Other,
}

/// The keys of a table, in the order in which they are read.
#[derive(Debug, Clone, Default)]
pub struct TableShape(Rc<RefCell<Keys>>);

#[derive(Debug, Default, PartialEq)]
struct Keys {
    keys: Vec<(String, Shape, bool)>,
    /// Those that need not be there, whatever was said.
    optional: BTreeSet<String>,
    /// What keys of the author's own hold, where there may be some.
    others: Option<Box<Shape>>,
}

impl PartialEq for TableShape {
    fn eq(&self, other: &TableShape) -> bool {
        *self.0.borrow() == *other.0.borrow()
    }
}

impl TableShape {
    pub(crate) fn add(&self, key: &str, shape: Shape, required: bool) {
        let keys = &mut self.0.borrow_mut().keys;
        match keys.iter_mut().find(|(name, ..)| name == key) {
            // A key that is asked for twice is as definite as the more definite of the two.
            Some(known) if known.1 == Shape::Any => *known = (key.to_owned(), shape, required || known.2),
            Some(known) => known.2 |= required,
            None => keys.push((key.to_owned(), shape, required)),
        }
    }

    /// A key that the reader first looks for need not be there, whatever it asks for then.
    pub(crate) fn make_optional(&self, key: &str) {
        self.0.borrow_mut().optional.insert(key.to_owned());
    }

    pub(crate) fn add_others(&self, shape: Shape) {
        self.0.borrow_mut().others = Some(Box::new(shape));
    }

    /// The keys, whether each must be there, and what it holds.
    pub fn keys(&self) -> Vec<(String, Shape, bool)> {
        let Keys { keys, optional, .. } = &*self.0.borrow();
        let keys = keys.iter().cloned();
        keys.map(|(name, shape, required)| {
            let required = required && !optional.contains(&name);
            (name, shape, required)
        })
        .collect()
    }

    /// As JSON Schema: <https://json-schema.org/draft/2020-12/schema>.
    pub fn json_schema(&self) -> Json {
        let keys = self.keys();
        let others = &self.0.borrow().others;
        let properties: Map<String, Json> =
            keys.iter().map(|(name, shape, _)| (name.clone(), shape.json_schema())).collect();
        let required: Vec<&str> =
            keys.iter().filter(|(.., required)| *required).map(|(name, ..)| name.as_str()).collect();
        let others = others.as_ref().map_or(Json::Bool(false), |shape| shape.json_schema());
        let mut schema =
            json!({ "type": "object", "properties": properties, "additionalProperties": others });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }
}

impl Shape {
    /// As JSON Schema.
    pub fn json_schema(&self) -> Json {
        match self {
            Shape::Any => json!({}),
            Shape::String | Shape::Form(Form::Other) => json!({ "type": "string" }),
            // A template may stand where a form is asked for.
            Shape::Form(Form::Duration) => {
                json!({ "type": "string", "pattern": r"^[0-9]+(ms|s|m|h)$|\{\{", "examples": ["20s"] })
            }
            Shape::Form(Form::Size) => {
                json!({ "type": "string", "pattern": r"^[0-9]+[KMG]?$|\{\{", "examples": ["64M"] })
            }
            Shape::Strings => json!({ "type": "array", "items": { "type": "string" } }),
            Shape::Boolean => json!({ "type": "boolean" }),
            Shape::Integer { least, greatest } => {
                json!({ "type": "integer", "minimum": least, "maximum": greatest })
            }
            Shape::Number => json!({ "type": "number" }),
            Shape::Table(table) => table.json_schema(),
            Shape::Tables(table) => json!({ "type": "array", "items": table.json_schema() }),
        }
    }

    /// In a few words, for tables of the reference.
    pub fn words(&self) -> &'static str {
        match self {
            Shape::Any => "any",
            Shape::String | Shape::Form(Form::Other) => "string",
            Shape::Form(Form::Duration) => "duration",
            Shape::Form(Form::Size) => "size",
            Shape::Strings => "list of strings",
            Shape::Boolean => "boolean",
            Shape::Integer { .. } => "integer",
            Shape::Number => "number",
            Shape::Table(_) => "table",
            Shape::Tables(_) => "list of tables",
        }
    }
}
