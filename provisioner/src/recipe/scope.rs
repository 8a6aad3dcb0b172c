use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use handlebars::template::{Parameter, Template, TemplateElement};
use handlebars::{Handlebars, no_escape};
use serde_json::{Value as Json, json};
use toril_document::{Located, Problem, Problems, Source, Value, nearest};
use toril_machine::Facts;

use super::HostInfo;

/// What conditions may be made of, as in `{{#if (eq vars.a "b")}}`.
const TESTS: [&str; 5] = ["and", "eq", "ne", "not", "or"];

/// A place, what is wrong there, and what to do about it.
pub(super) type Mistake = (Range<usize>, String, Option<String>);

/// What templates may name: `vars.*`, `host.*` and `facts.*`.
pub(super) struct Scope {
    values: Json,
    engine: Handlebars<'static>,
}

impl Scope {
    pub(super) fn new(facts: &Facts, host: &HostInfo) -> Scope {
        let mut engine = Handlebars::new();
        engine.set_strict_mode(true);
        // Values go into configuration files and argument lists, not into HTML.
        engine.register_escape_fn(no_escape);
        Scope { values: json!({ "vars": {}, "host": host, "facts": facts }), engine }
    }

    /// Takes a file's variables, which win over those taken before; what the caller sets wins over all. Their defaults
    /// may be templates, of variables declared before them too.
    pub(super) fn declare(
        &mut self,
        source: &Arc<Source>,
        vars: &[(Located<String>, Located<Value>)],
        set: &BTreeMap<String, String>,
    ) -> Problems {
        let mut problems = Problems::default();
        let mut note = |code, source: &Arc<Source>, span: &Range<usize>, message, help| {
            problems.0.push(Problem { code, message, source: Arc::clone(source), span: span.clone(), help });
        };
        for (name, value) in vars {
            let mut value = value.clone();
            for (span, message, help) in self.render(&mut value) {
                note("R003", source, &span, message, help);
            }
            let set = set.get(&name.value);
            let json = match (value.value, set.map(String::as_str)) {
                (Value::String(text), None) => Json::String(text),
                (Value::Integer(number), None) => Json::String(number.to_string()),
                (Value::Boolean(flag), None) => Json::Bool(flag),
                (Value::Boolean(_), Some("true")) => Json::Bool(true),
                (Value::Boolean(_), Some("false")) => Json::Bool(false),
                (Value::Boolean(_), Some(text)) => {
                    let (source, span) = command_line(&name.value, text);
                    let message = format!("variable `{}` is true or false, not `{text}`", name.value);
                    note("R001", &source, &span, message, None);
                    continue;
                }
                (Value::String(_) | Value::Integer(_), Some(text)) => Json::String(text.to_owned()),
                (other, _) => {
                    let message = format!(
                        "variable `{}` must be a string, a whole number or a boolean, not {}",
                        name.value,
                        other.kind()
                    );
                    note("R001", source, &value.span, message, None);
                    continue;
                }
            };
            self.values["vars"][&name.value] = json;
        }
        problems
    }

    /// What a variable is, as text; or, where there is none of this name, what may have been meant.
    pub(super) fn variable(&self, name: &str) -> Result<String, Option<String>> {
        let known = self.values["vars"].as_object();
        match known.and_then(|vars| vars.get(name)) {
            Some(Json::String(text)) => Ok(text.clone()),
            Some(other) => Ok(other.to_string()),
            None => {
                let known = known.into_iter().flat_map(|vars| vars.keys().map(String::as_str));
                Err(nearest(name, known).map(|word| format!("did you mean `{word}`?")))
            }
        }
    }

    /// What the caller sets and no file declares.
    pub(super) fn undeclared(&self, set: &BTreeMap<String, String>) -> Problems {
        let mut problems = Problems::default();
        let known = self.values["vars"].as_object().into_iter().flat_map(|vars| vars.keys());
        let known: Vec<&str> = known.map(String::as_str).collect();
        for (name, value) in set.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let help = match nearest(name, known.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("variables: {}", known.join(", ")),
            };
            let (source, span) = command_line(name, value);
            let message = format!("the recipe has no variable `{name}` to set");
            problems.0.push(Problem { code: "R002", message, source, span, help: Some(help) });
        }
        problems
    }

    /// Renders every string in a value; a template that is wrong is told of and left as it is.
    pub(super) fn render(&self, value: &mut Located<Value>) -> Vec<Mistake> {
        match &mut value.value {
            Value::String(text) if text.contains("{{") => match self.text(text) {
                Ok(rendered) => {
                    *text = rendered;
                    Vec::new()
                }
                Err((message, help)) => vec![(value.span.clone(), message, help)],
            },
            Value::Array(items) => items.iter_mut().flat_map(|item| self.render(item)).collect(),
            Value::Table(entries) => entries.iter_mut().flat_map(|(_, item)| self.render(item)).collect(),
            Value::String(_)
            | Value::Integer(_)
            | Value::Boolean(_)
            | Value::Fraction(_)
            | Value::Other(_) => Vec::new(),
        }
    }

    fn text(&self, text: &str) -> Result<String, (String, Option<String>)> {
        // Of a string in a recipe, the whole is underlined: its first mistake is enough.
        self.file(text).map_err(|mistakes| {
            mistakes.into_iter().next().map_or_else(Default::default, |(_, message, help)| (message, help))
        })
    }

    /// Renders the text of a file, or says what is wrong with it and where.
    pub(super) fn file(&self, text: &str) -> Result<String, Vec<Mistake>> {
        let template = Template::compile(text).map_err(|error| {
            let start = error.pos().map_or(0, |(line, column)| offset(text, line, column));
            let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
            vec![(start..end, format!("bad template: {}", error.reason()), None)]
        })?;
        let mut mistakes = Vec::new();
        self.check(&template, text, &mut mistakes);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        self.engine.render_template(text, &self.values).map_err(|error| {
            let start =
                error.line_no.zip(error.column_no).map_or(0, |(line, column)| offset(text, line, column));
            vec![(start..text.len(), format!("template cannot be rendered: {}", error.reason()), None)]
        })
    }

    /// Every path of a template must be declared, in branches not taken too: a mistake shows when the recipe is
    /// read, not on the one host where the branch is taken.
    fn check(&self, template: &Template, text: &str, mistakes: &mut Vec<Mistake>) {
        let places = template.mapping.iter().map(|place| offset(text, place.0, place.1));
        for (element, start) in template.elements.iter().zip(places.chain(std::iter::repeat(0))) {
            let mut note = |word: &str, message: String, help: Option<String>| {
                let found = text[start..].find(word).filter(|_| !word.is_empty());
                let from = start + found.unwrap_or_default();
                mistakes.push((from..from + found.map_or(0, |_| word.len()), message, help));
            };
            match element {
                TemplateElement::RawString(_) | TemplateElement::Comment(_) => {}
                TemplateElement::Expression(helper) | TemplateElement::HtmlExpression(helper) => {
                    if helper.params.is_empty() {
                        self.check_parameter(&helper.name, &mut note);
                    } else {
                        unknown_helper(&helper.name, &mut note);
                    }
                }
                TemplateElement::HelperBlock(helper) => {
                    if !matches!(helper.name.as_name(), Some("if" | "unless")) {
                        unknown_helper(&helper.name, &mut note);
                        continue;
                    }
                    helper.params.iter().for_each(|parameter| self.check_parameter(parameter, &mut note));
                    for part in [&helper.template, &helper.inverse].into_iter().flatten() {
                        self.check(part, text, mistakes);
                    }
                }
                _ => {
                    note("", "partials and decorators are not part of the recipe language".into(), None);
                }
            }
        }
    }

    fn check_parameter(&self, parameter: &Parameter, note: &mut dyn FnMut(&str, String, Option<String>)) {
        if let Parameter::Subexpression(inner) = parameter {
            let name = inner.name();
            if !TESTS.contains(&name) {
                note(name, format!("unknown helper `{name}`"), Some(helpers_help()));
            }
            inner.params().into_iter().flatten().for_each(|parameter| self.check_parameter(parameter, note));
            return;
        }
        let Some(path) = parameter.as_name() else { return };
        let mut value = &self.values;
        let mut walked = String::new();
        for part in path.split('.') {
            match value.get(part) {
                Some(next) => value = next,
                None => {
                    let known =
                        value.as_object().into_iter().flat_map(|object| object.keys().map(String::as_str));
                    let help = nearest(part, known).map(|word| format!("did you mean `{walked}{word}`?"));
                    note(path, format!("unknown variable `{path}`"), help);
                    return;
                }
            }
            walked.push_str(part);
            walked.push('.');
        }
    }
}

/// The place of a line and a column, both from 1, in bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let characters = text[start..].char_indices().map(|(place, _)| place);
    start + characters.chain([text.len() - start]).nth(column.saturating_sub(1)).unwrap_or_default()
}

/// Where a variable that the caller set stands.
fn command_line(name: &str, value: &str) -> (Arc<Source>, Range<usize>) {
    let source = Source { name: "the command line".into(), text: format!("{name}={value}") };
    (Arc::new(source), 0..name.len() + 1 + value.len())
}

fn unknown_helper(name: &Parameter, note: &mut dyn FnMut(&str, String, Option<String>)) {
    let name = name.as_name().unwrap_or("?");
    note(name, format!("unknown helper `{name}`"), Some(helpers_help()));
}

fn helpers_help() -> String {
    format!("known helpers: if, unless; in their conditions {}", TESTS.join(", "))
}
