use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use toril_document::{Located, Problem, Problems, Source, Table, Value, nearest};
use toril_machine::Facts;

use super::bundle::TemplateFile;
use super::open::{self, OpenSource};
use super::read::Handler;
use super::scope::Scope;
use super::when;
use crate::resource::{self, KindEntry, Resource, template};

/// The resources and handlers of a recipe's files, before they are put in order.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    pub(super) resources: Vec<Draft>,
    pub(super) handlers: Vec<HandlerDraft>,
    /// What comes from outside and is not pinned by the recipe.
    pub(super) open: Vec<OpenSource>,
    /// Mistakes in templates, which are files of their own, and what is pinned nowhere.
    pub(super) problems: Problems,
}

/// A resource as it stands in its file.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) source: Arc<Source>,
    pub(super) name: Located<String>,
    pub(super) needs: Vec<Located<String>>,
    pub(super) on_change: Vec<Located<String>>,
    /// Whether it is for this machine.
    pub(super) enabled: bool,
    pub(super) required: bool,
    /// Its kind's key and what stands there, templates rendered.
    pub(super) body: Option<(&'static str, Value)>,
    /// `None`: it has mistakes, and counts only as something that others may name.
    pub(super) resource: Option<Box<dyn Resource>>,
}

/// A handler as it stands in its file.
#[derive(Debug)]
pub(super) struct HandlerDraft {
    pub(super) source: Arc<Source>,
    pub(super) name: Located<String>,
    pub(super) handler: Handler,
}

impl Drafts {
    /// Takes the resources and handlers of a file.
    pub(super) fn read(
        &mut self,
        table: &mut Table<'_>,
        scope: &Scope,
        templates: &[TemplateFile],
        hashes: Option<&BTreeMap<String, String>>,
        facts: &Facts,
    ) {
        let problems = RefCell::new(Problems::default());
        let open = RefCell::new(Vec::new());
        let render = |table: &Table<'_>, value: &mut Located<Value>| {
            for (span, message, help) in scope.render(value) {
                table.note("R003", span, message, help);
            }
            for source in template_sources(value) {
                fill(source, table, scope, templates, &mut problems.borrow_mut());
            }
            open.borrow_mut().extend(open::close(value, table, hashes, &mut problems.borrow_mut()));
        };
        let resources = table.tables_rendered("resource", render);
        let handlers = table.tables_rendered("handler", render);
        self.problems.add(problems.into_inner());
        self.open.extend(open.into_inner());
        self.resources
            .extend(resources.into_iter().filter_map(|resource| read_resource(resource, facts, scope)));
        self.handlers.extend(handlers.into_iter().filter_map(read_handler));
    }
}

/// The names of the texts that resources are rendered from.
fn template_sources(list: &mut Located<Value>) -> impl Iterator<Item = &mut Located<Value>> {
    let items = match &mut list.value {
        Value::Array(items) => items.iter_mut(),
        _ => [].iter_mut(),
    };
    items.filter_map(|resource| entry(entry(resource, template::KEY)?, template::SOURCE))
}

pub(super) fn entry<'v>(table: &'v mut Located<Value>, key: &str) -> Option<&'v mut Located<Value>> {
    let Value::Table(entries) = &mut table.value else { return None };
    entries.iter_mut().find(|(name, _)| name.value == key).map(|(_, value)| value)
}

/// Puts the rendered text in the place of its name.
fn fill(
    source: &mut Located<Value>,
    table: &Table<'_>,
    scope: &Scope,
    templates: &[TemplateFile],
    problems: &mut Problems,
) {
    let Value::String(name) = &mut source.value else { return };
    let of = &table.source().name;
    let Some(template) = templates.iter().find(|template| template.of == *of && template.name == *name)
    else {
        let message = format!("the recipe does not carry a template `{name}`");
        table.note(
            "R041",
            source.span.clone(),
            message,
            Some("its name is written out, and is no template".into()),
        );
        return;
    };
    match &template.file {
        Err(reason) => {
            let message = format!("cannot read the template `{name}`: {reason}");
            table.note("R041", source.span.clone(), message, None);
        }
        Ok(file) => match scope.file(&file.text) {
            Ok(text) => *name = text,
            Err(mistakes) => {
                let place = Source { name: file.origin.clone(), text: file.text.clone() };
                let place = Arc::new(place);
                problems.0.extend(mistakes.into_iter().map(|(span, message, help)| Problem {
                    code: "R003",
                    message,
                    source: Arc::clone(&place),
                    span,
                    help,
                }));
            }
        },
    }
}

fn read_resource(mut table: Table<'_>, facts: &Facts, scope: &Scope) -> Option<Draft> {
    let source = Arc::clone(table.source());
    let name = table.required_string("name");
    if let Some(name) = &name {
        table.rename(format!("resource `{}`", name.value));
    }
    let enabled = table.table("when").is_none_or(|when| when::holds(when, facts, scope));
    let needs = table.strings("needs").unwrap_or_default();
    let on_change = table.strings("on-change").unwrap_or_default();
    let required = required(&mut table);
    if table.is_imagined() {
        for kind in resource::KINDS {
            drop(table.table(kind.key).and_then(|mut body| (kind.read)(&mut body)));
        }
        return None;
    }
    let place = table.span();
    let body = |kind: &KindEntry| Some(described(kind.key, table.peek(kind.key)?.clone()));
    let kinds: Vec<_> = resource::KINDS.iter().filter(|kind| table.has(kind.key)).collect();
    let body = kinds.first().and_then(|kind| body(kind));
    let resource = match kinds[..] {
        [kind] => table.table(kind.key).and_then(|mut body| {
            let resource = (kind.read)(&mut body);
            body.finish();
            resource
        }),
        [] => {
            // The kinds become known words, so that a mistyped one is answered with the nearest.
            resource::KINDS.iter().for_each(|kind| drop(table.take(kind.key)));
            let kinds = || resource::KINDS.iter().map(|kind| kind.key);
            if !table.keys().any(|key| nearest(key, kinds()).is_some()) {
                let message = "a resource must have one kind and this has none";
                table.note("R005", place, message, Some(kinds_help()));
            }
            None
        }
        [first, second, ..] => {
            let message =
                format!("a resource has one kind, and this has `{}` and `{}`", first.key, second.key);
            kinds.iter().for_each(|kind| drop(table.take(kind.key)));
            table.note("R005", place, message, Some("write two resources".into()));
            None
        }
    };
    table.finish();
    Some(Draft { source, name: name?, needs, on_change, enabled, required, body, resource })
}

/// A kind's key and what stands there, as a recipe that needs no other file would have it.
fn described(kind: &'static str, body: Value) -> (&'static str, Value) {
    match (kind, body) {
        (template::KEY, Value::Table(mut entries)) => {
            for (key, _) in entries.iter_mut().filter(|(key, _)| key.value == template::SOURCE) {
                key.value = "content".into();
            }
            ("file", Value::Table(entries))
        }
        (_, body) => (kind, body),
    }
}

fn read_handler(mut table: Table<'_>) -> Option<HandlerDraft> {
    let source = Arc::clone(table.source());
    let name = table.required_string("name");
    if let Some(name) = &name {
        table.rename(format!("handler `{}`", name.value));
    }
    let command = table.required_strings("command");
    table.finish();
    let name = name?;
    let command = command?.into_iter().map(|word| word.value).collect();
    let handler = Handler { name: name.value.clone(), command };
    Some(HandlerDraft { source, name, handler })
}

/// `required` is a boolean, or a template that gives one.
fn required(table: &mut Table<'_>) -> bool {
    match table.take("required") {
        None => true,
        Some((_, value)) => match value.value {
            Value::Boolean(flag) => flag,
            Value::String(text) if text == "true" => true,
            Value::String(text) if text == "false" => false,
            _ => {
                table.note("R006", value.span, "`required` must be true or false", None);
                true
            }
        },
    }
}

fn kinds_help() -> String {
    let kinds: Vec<&str> = resource::KINDS.iter().map(|kind| kind.key).collect();
    format!("kinds: {}", kinds.join(", "))
}
