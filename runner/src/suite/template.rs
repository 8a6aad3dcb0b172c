use std::collections::BTreeMap;

use handlebars::{Handlebars, RenderErrorReason, no_escape};
use serde::Serialize;
use toril_document::{Located, Table, nearest};

use super::late::{ALWAYS, SOURCE, placeholder};

/// What a name is of, for where it is not known.
const NEEDS: [(&str, &str); 6] = [
    (SOURCE, "it is of a suite with [source], and may stand in command, env, append and qemu-args"),
    ("guest.cid", "it is of a guest with vsock = true, and of its companion"),
    ("guest.vsock", "it is of a guest with vsock = true, and of its companion"),
    ("guest.tag", "it is of a guest with a share, and of its companion"),
    ("guest.share", "it is of a guest with a share, and of its companion"),
    ("dirs.test", "it may stand in command, env, append and qemu-args"),
];

/// Renders the strings of a suite: no escaping, and a variable that is not declared is a mistake.
pub(super) struct Template {
    engine: Handlebars<'static>,
    context: Context,
    /// Whether there is a tree that is tested: relative paths start at it.
    pub(super) has_source: bool,
}

#[derive(Serialize)]
struct Context {
    vars: BTreeMap<String, String>,
    /// What is known only when a test is started: placeholders, by the part of their names before the dot.
    #[serde(flatten)]
    late: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
}

impl Template {
    pub(super) fn new(vars: BTreeMap<String, String>, has_source: bool) -> Template {
        let mut engine = Handlebars::new();
        engine.set_strict_mode(true);
        engine.register_escape_fn(no_escape);
        Template { engine, context: Context { vars, late: BTreeMap::new() }, has_source }
    }

    /// The rendered text; a mistake is noted at the text's place and gives the text as it stands.
    pub(super) fn render(&self, table: &Table<'_>, text: Located<String>) -> String {
        if !text.value.contains("{{") {
            return text.value;
        }
        self.render_in(table, text, &self.context)
    }

    /// The same for text that may also name what is known only when a test is started: the names in `late`, and those
    /// of every test.
    pub(super) fn render_late(
        &self,
        table: &Table<'_>,
        text: Located<String>,
        late: &[&'static str],
    ) -> String {
        if !text.value.contains("{{") {
            return text.value;
        }
        let mut context = Context { vars: self.context.vars.clone(), late: BTreeMap::new() };
        for name in ALWAYS.iter().chain(self.has_source.then_some(&SOURCE)).chain(late) {
            if let Some((group, part)) = name.split_once('.') {
                context.late.entry(group).or_default().insert(part, placeholder(name));
            }
        }
        self.render_in(table, text, &context)
    }

    fn render_in(&self, table: &Table<'_>, text: Located<String>, context: &Context) -> String {
        match self.engine.render_template(&text.value, context) {
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
                if let Some((_, needs)) = NEEDS.iter().find(|(name, _)| *name == path) {
                    return (format!("there is no `{path}` here"), Some((*needs).into()));
                }
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
