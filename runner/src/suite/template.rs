use std::collections::BTreeMap;

use handlebars::{Handlebars, RenderErrorReason, no_escape};
use serde::Serialize;
use toril_document::{Located, Table, nearest};

/// Renders the strings of a suite: no escaping, and a variable that is not declared is a mistake.
pub(super) struct Template {
    engine: Handlebars<'static>,
    context: Context,
}

#[derive(Serialize)]
struct Context {
    vars: BTreeMap<String, String>,
}

impl Template {
    pub(super) fn new(vars: BTreeMap<String, String>) -> Template {
        let mut engine = Handlebars::new();
        engine.set_strict_mode(true);
        engine.register_escape_fn(no_escape);
        Template { engine, context: Context { vars } }
    }

    /// The rendered text; a mistake is noted at the text's place and gives the text as it stands.
    pub(super) fn render(&self, table: &Table<'_>, text: Located<String>) -> String {
        if !text.value.contains("{{") {
            return text.value;
        }
        match self.engine.render_template(&text.value, &self.context) {
            Ok(rendered) => rendered,
            Err(error) => {
                let (message, help) = self.explain(error.reason());
                table.note("S001", text.span, message, help);
                text.value
            }
        }
    }

    fn explain(&self, reason: &RenderErrorReason) -> (String, Option<String>) {
        match reason {
            RenderErrorReason::MissingVariable(path) => {
                let path = path.as_deref().unwrap_or("a variable");
                let known = self.context.vars.keys().map(String::as_str);
                let help = match nearest(path.trim_start_matches("vars."), known) {
                    Some(name) => format!("did you mean `vars.{name}`?"),
                    None => "declare it with a default under [vars]".into(),
                };
                (format!("unknown variable `{path}`"), Some(help))
            }
            RenderErrorReason::TemplateError(error) => (format!("not a template: {}", error.reason()), None),
            other => (format!("cannot be rendered: {other}"), None),
        }
    }
}
