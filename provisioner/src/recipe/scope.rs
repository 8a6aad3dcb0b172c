use std::collections::BTreeMap;

use handlebars::template::{HelperTemplate, Parameter, Template, TemplateElement};
use handlebars::{Handlebars, no_escape};
use serde_json::{Value as Json, json};
use toril_document::{Located, Table, Value, nearest};
use toril_machine::Facts;

use super::HostInfo;

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

    /// Takes the recipe's variables: the caller's values win over the recipe's own, which may be templates.
    pub(super) fn declare(
        &mut self,
        table: &Table<'_>,
        defaults: Vec<(Located<String>, Located<Value>)>,
        overrides: &BTreeMap<String, String>,
    ) {
        let mut vars = serde_json::Map::new();
        for (name, mut value) in defaults {
            self.render(table, &mut value);
            let value = match (overrides.get(&name.value), value.value) {
                (Some(text), _) => text.clone(),
                (None, Value::String(text)) => text,
                (None, Value::Integer(number)) => number.to_string(),
                (None, Value::Boolean(flag)) => flag.to_string(),
                (None, other) => {
                    let message = format!("variable `{}` must be a string, not {}", name.value, other.kind());
                    table.note("R001", value.span, message, None);
                    continue;
                }
            };
            vars.insert(name.value, Json::String(value));
        }
        for name in overrides.keys().filter(|name| !vars.contains_key(*name)) {
            let help =
                nearest(name, vars.keys().map(String::as_str)).map(|word| format!("did you mean `{word}`?"));
            table.note("R002", 0..0, format!("the recipe has no variable `{name}` to set"), help);
        }
        self.values["vars"] = Json::Object(vars);
    }

    /// Renders every string in a value; a template that is wrong is noted and left as it is.
    pub(super) fn render(&self, table: &Table<'_>, value: &mut Located<Value>) {
        match &mut value.value {
            Value::String(text) if text.contains("{{") => match self.text(text) {
                Ok(rendered) => *text = rendered,
                Err((message, help)) => table.note("R003", value.span.clone(), message, help),
            },
            Value::Array(items) => items.iter_mut().for_each(|item| self.render(table, item)),
            Value::Table(entries) => entries.iter_mut().for_each(|(_, item)| self.render(table, item)),
            Value::String(_) | Value::Integer(_) | Value::Boolean(_) | Value::Other(_) => {}
        }
    }

    fn text(&self, text: &str) -> Result<String, (String, Option<String>)> {
        let template =
            Template::compile(text).map_err(|error| (format!("bad template: {}", error.reason()), None))?;
        self.check(&template)?;
        self.engine
            .render_template(text, &self.values)
            .map_err(|error| (format!("template cannot be rendered: {}", error.reason()), None))
    }

    /// Every path of a template must be declared, in branches not taken too: a mistake shows when the recipe is
    /// read, not on the one host where the branch is taken.
    fn check(&self, template: &Template) -> Result<(), (String, Option<String>)> {
        for element in &template.elements {
            match element {
                TemplateElement::RawString(_) | TemplateElement::Comment(_) => {}
                TemplateElement::Expression(helper) | TemplateElement::HtmlExpression(helper) => {
                    if helper.params.is_empty() {
                        self.check_parameter(&helper.name)?;
                    } else {
                        return Err(unknown_helper(helper));
                    }
                }
                TemplateElement::HelperBlock(helper) => {
                    if !matches!(helper.name.as_name(), Some("if" | "unless")) {
                        return Err(unknown_helper(helper));
                    }
                    helper.params.iter().try_for_each(|parameter| self.check_parameter(parameter))?;
                    for part in [&helper.template, &helper.inverse].into_iter().flatten() {
                        self.check(part)?;
                    }
                }
                _ => {
                    return Err(("partials and decorators are not part of the recipe language".into(), None));
                }
            }
        }
        Ok(())
    }

    fn check_parameter(&self, parameter: &Parameter) -> Result<(), (String, Option<String>)> {
        let Some(path) = parameter.as_name() else { return Ok(()) };
        let mut value = &self.values;
        let mut walked = String::new();
        for part in path.split('.') {
            match value.get(part) {
                Some(next) => value = next,
                None => {
                    let known =
                        value.as_object().into_iter().flat_map(|object| object.keys().map(String::as_str));
                    let help = nearest(part, known).map(|word| format!("did you mean `{walked}{word}`?"));
                    return Err((format!("unknown variable `{path}`"), help));
                }
            }
            walked.push_str(part);
            walked.push('.');
        }
        Ok(())
    }
}

fn unknown_helper(helper: &HelperTemplate) -> (String, Option<String>) {
    let name = helper.name.as_name().unwrap_or("?");
    (format!("unknown helper `{name}`"), Some("known helpers: if, unless".into()))
}
