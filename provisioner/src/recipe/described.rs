//! A recipe as it is meant for one machine, for showing: itself a recipe that has no templates and no conditions.

use std::fmt;

use toril_document::Value;

use super::Recipe;
use crate::resource::Thing;

/// A longer line of TOML is a table of its own instead.
const LONGEST_LINE: usize = 100;

/// A resource as it is meant for one machine: templates rendered, order settled. Displayed as TOML.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Its kind's key, such as `file`.
    pub kind: &'static str,
    /// What stands under that key.
    pub body: Value,
    /// The names of the resources that it waits for, for whatever reason.
    pub needs: Vec<String>,
    /// The names of the handlers that must follow a change.
    pub on_change: Vec<String>,
    /// Whether the recipe fails where it is not possible.
    pub required: bool,
    /// The files and directories of the host that it keeps.
    pub paths: Vec<String>,
}

/// A handler as it is meant for one machine. Displayed as TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedHandler {
    /// Its name.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
}

impl Recipe {
    /// Its resources in the order of carrying out.
    pub fn describe(&self) -> Vec<Described> {
        let name = |index: &usize| self.resources.get(*index).map(|other| other.name.clone());
        let handler = |index: &usize| self.handlers.get(*index).map(|handler| handler.name.clone());
        let described = self.resources.iter().map(|declared| {
            let paths = declared.resource.provides().into_iter().filter_map(|thing| match thing {
                Thing::Path(path) => Some(path),
                _ => None,
            });
            let mut after = declared.after.clone();
            after.sort_unstable();
            Described {
                name: declared.name.clone(),
                kind: declared.body.0,
                body: declared.body.1.clone(),
                needs: after.iter().filter_map(name).collect(),
                on_change: declared.on_change.iter().filter_map(handler).collect(),
                required: declared.required,
                paths: paths.collect(),
            }
        });
        described.collect()
    }

    /// Its handlers, in the order of carrying out.
    pub fn describe_handlers(&self) -> Vec<DescribedHandler> {
        let handlers = self.handlers.iter();
        handlers
            .map(|handler| DescribedHandler { name: handler.name.clone(), command: handler.command.clone() })
            .collect()
    }
}

impl Described {
    /// A string of the body.
    pub fn string(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A list of strings of the body; empty where there is none.
    pub fn strings(&self, key: &str) -> Vec<&str> {
        let Some(Value::Array(items)) = self.value(key) else { return Vec::new() };
        let strings = items.iter().filter_map(|item| match &item.value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        });
        strings.collect()
    }

    fn value(&self, key: &str) -> Option<&Value> {
        let Value::Table(entries) = &self.body else { return None };
        entries.iter().find(|(name, _)| name.value == key).map(|(_, value)| &value.value)
    }
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[resource]]\nname = {}", string(&self.name))?;
        for (key, names) in [("needs", &self.needs), ("on-change", &self.on_change)] {
            if !names.is_empty() {
                writeln!(f, "{key} = {}", strings(names))?;
            }
        }
        if !self.required {
            writeln!(f, "required = false")?;
        }
        let line = format!("{} = {}", self.kind, self.body);
        if line.len() <= LONGEST_LINE && !line.contains('\n') {
            return writeln!(f, "{line}");
        }
        writeln!(f, "[resource.{}]", self.kind)?;
        self.body.entries().iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl fmt::Display for DescribedHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, command) = (string(&self.name), strings(&self.command));
        writeln!(f, "[[handler]]\nname = {name}\ncommand = {command}")
    }
}

fn string(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn strings(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| string(item)).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Bundle, HostInfo, Release, sample_facts};

    fn read(text: &str) -> Recipe {
        let facts = sample_facts(Release::parse("debian 12").unwrap());
        let host = HostInfo { name: "h".into(), user: "anna".into() };
        Recipe::read(&Bundle::of("r.toml", text, Default::default()), &facts, &host).unwrap()
    }

    #[test]
    fn is_a_recipe_that_means_the_same() {
        let head = "description = \"d\"\nsupports = [\"debian 12\"]\n";
        let recipe = read(&format!(
            "{head}
            [[resource]]\nname = \"f\"\non-change = [\"reload\"]\nrequired = false
            file = {{ path = \"/etc/d/f\", content = \"{{{{ host.user }}}}\\nis\\n\\\"here\\\"\" }}
            [[resource]]\nname = \"old\"\ngroup = {{ name = \"g\" }}\nwhen = {{ debian = \"10\" }}
            [[resource]]\nname = \"d\"\ndirectory = {{ path = \"/etc/d\", mode = \"0700\" }}
            [[handler]]\nname = \"reload\"\ncommand = [\"true\", \"a b\"]\n"
        ));
        let described = recipe.describe();
        assert_eq!(described.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["d", "f"]);
        assert_eq!(
            (described[1].string("path"), &described[1].paths[..]),
            (Some("/etc/d/f"), &["/etc/d/f".to_owned()][..])
        );
        let text: String = described.iter().map(|d| format!("{d}\n")).collect();
        let handlers: String = recipe.describe_handlers().iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            "[[resource]]\nname = \"d\"\ndirectory = { path = \"/etc/d\", mode = \"0700\" }\n\n\
             [[resource]]\nname = \"f\"\nneeds = [\"d\"]\non-change = [\"reload\"]\nrequired = false\n[resource.file]\n\
             path = \"/etc/d/f\"\ncontent = \"\"\"\nanna\nis\n\\\"here\\\"\"\"\"\n\n"
        );
        let again = read(&format!("{head}{text}{handlers}"));
        let plain = |recipe: &Recipe| recipe.describe().iter().map(ToString::to_string).collect::<String>();
        assert_eq!(plain(&again), plain(&recipe));
    }
}
