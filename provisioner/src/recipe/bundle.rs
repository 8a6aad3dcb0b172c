use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toril_document::{Located, Problem, Problems, Source};

use super::head::Head;

/// A recipe as it travels to the host: its text, the texts that it includes, and what the caller says of its
/// variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The recipe itself, then what it includes, each once.
    pub files: Vec<RecipeFile>,
    /// Variables set by the caller, which win over the recipe's own.
    pub vars: BTreeMap<String, String>,
}

/// One file of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeFile {
    /// Where it came from, as messages name it: a path, or `built-in NAME`.
    pub origin: String,
    /// The text.
    pub text: String,
}

/// What the caller knows of a host, for templates: `{{ host.name }}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInfo {
    /// The inventory's name for it.
    pub name: String,
    /// The login name that was used.
    pub user: String,
}

impl Bundle {
    /// A recipe that includes nothing.
    pub fn of(origin: impl Into<String>, text: impl Into<String>, vars: BTreeMap<String, String>) -> Bundle {
        Bundle { files: vec![RecipeFile { origin: origin.into(), text: text.into() }], vars }
    }

    /// A recipe and all that it includes. `find` gets the name that an `includes` gives and the origin of the file
    /// that it stands in.
    ///
    /// # Errors
    /// What is included and cannot be found, each with the place where it is named.
    pub fn load(
        root: RecipeFile,
        vars: BTreeMap<String, String>,
        find: &dyn Fn(&str, &str) -> Result<RecipeFile, String>,
    ) -> Result<Bundle, Problems> {
        let mut files = vec![root];
        let mut problems = Problems::default();
        let mut next = 0;
        while let Some(file) = files.get(next).cloned() {
            next += 1;
            // Other mistakes of the file are reported when it is read.
            for Located { value, span } in Head::includes(&file) {
                match find(&value, &file.origin) {
                    Ok(found) if files.iter().any(|known| known.origin == found.origin) => {}
                    Ok(found) => files.push(found),
                    Err(message) => problems.0.push(Problem {
                        code: "R014",
                        message: format!("cannot include `{value}`: {message}"),
                        source: Arc::new(Source { name: file.origin.clone(), text: file.text.clone() }),
                        span,
                        help: None,
                    }),
                }
            }
        }
        problems.or(Bundle { files, vars })
    }

    /// What messages call the recipe.
    pub fn origin(&self) -> &str {
        self.files.first().map_or("", |file| &file.origin)
    }
}
