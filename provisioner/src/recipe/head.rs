use toril_document::{Document, Located, Problems, Table, Value};

use super::{RecipeFile, Release};
use crate::resource::template;

/// What a recipe says before its resources.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) description: String,
    pub(super) supports: Vec<Release>,
    /// The variables and their defaults, not rendered.
    pub(super) vars: Vec<(Located<String>, Located<Value>)>,
    /// Whether packages that are locked are held, so that nothing else upgrades them.
    pub(super) holds_locked: bool,
}

impl Head {
    /// Reads a file's head.
    pub(super) fn read(file: &RecipeFile) -> Result<Head, Problems> {
        Document::read(&file.origin, &file.text, |table| {
            let (head, _) = read(table);
            leave(table, &["resource", "handler"]);
            head
        })
    }

    /// What a file includes, as far as it can be read.
    pub(super) fn includes(file: &RecipeFile) -> Vec<Located<String>> {
        let mut includes = Vec::new();
        // Its mistakes are reported when it is read for what it says.
        let _ = Document::read(&file.origin, &file.text, |table| {
            includes = table.strings("includes").unwrap_or_default();
            table.take_all();
            Some(())
        });
        includes
    }

    /// What the resources of a file name as their templates, as far as it can be read.
    pub(super) fn templates(file: &RecipeFile) -> Vec<String> {
        let mut names = Vec::new();
        // Its mistakes are reported when it is read for what it says.
        let _ = Document::read(&file.origin, &file.text, |table| {
            let resources = table.tables("resource").into_iter();
            let sources = resources.filter_map(|mut of| of.table(template::KEY)?.string(template::SOURCE));
            names.extend(sources.map(|name| name.value));
            table.take_all();
            Some(())
        });
        names
    }
}

/// Takes the head's keys, so that what is left of the table is for others.
pub(super) fn read(table: &mut Table<'_>) -> (Option<Head>, Vec<Located<String>>) {
    table.rename("the recipe");
    let description = table.required_string("description").map(|text| text.value);
    let supports = table.required_strings("supports").unwrap_or_default();
    let supports = supports.into_iter().filter_map(|text| match Release::parse(&text.value) {
        Ok(release) => Some(release),
        Err(message) => {
            table.note("R004", text.span, message, None);
            None
        }
    });
    let supports: Vec<Release> = supports.collect();
    let includes = table.strings("includes").unwrap_or_default();
    let holds_locked = table.parsed("locked-packages", |text| match text {
        "hold" => Ok(true),
        "report" => Ok(false),
        _ => Err(format!("`{text}` is neither `hold` nor `report`")),
    });
    let holds_locked = holds_locked.unwrap_or(false);
    let vars = table.table("vars").map(|mut vars| vars.take_all()).unwrap_or_default();
    (description.map(|description| Head { description, supports, vars, holds_locked }), includes)
}

/// Takes keys that are read elsewhere.
fn leave(table: &mut Table<'_>, keys: &[&'static str]) {
    for key in keys {
        drop(table.take(key));
    }
}
