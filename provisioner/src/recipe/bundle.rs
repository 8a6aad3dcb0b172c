use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toril_document::{Located, Problem, Problems, Source};

use super::head::Head;

/// A recipe as it travels to the host: its text, the texts that it includes, and what the caller says of its
/// variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The recipe itself, then what it includes, each once.
    pub files: Vec<RecipeFile>,
    /// The texts that `template` resources name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<TemplateFile>,
    /// The lock beside it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockFile>,
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

/// A lock file as it travels with its recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockFile {
    /// The file.
    pub file: RecipeFile,
    /// Whether only its hashes count, and not what it says of hosts.
    pub only_hashes: bool,
}

/// A text that a resource is rendered from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateFile {
    /// The origin of the file of the recipe that names it.
    pub of: String,
    /// What it is called there.
    pub name: String,
    /// The text, or why it could not be had.
    pub file: Result<RecipeFile, String>,
}

/// How what a recipe names is found: by the name that it gives, and the origin of the file that it stands in.
pub type Find<'f> = &'f dyn Fn(&str, &str) -> Result<RecipeFile, String>;

/// What the caller knows of a host, for templates: `{{ host.name }}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInfo {
    /// The inventory's name for it.
    pub name: String,
    /// The login name that was used.
    pub user: String,
}

impl Bundle {
    /// SHA-256 of all that the recipe consists of, variables that were set included.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        let templates = self.templates.iter().flat_map(|template| &template.file);
        let lock = self.lock.iter().map(|lock| &lock.file);
        for file in self.files.iter().chain(templates).chain(lock) {
            // With their lengths, so that no two recipes read the same.
            for text in [&file.origin, &file.text] {
                hasher.update(text.len().to_le_bytes());
                hasher.update(text);
            }
        }
        for (name, value) in &self.vars {
            hasher.update(format!("{name}={value}\n"));
        }
        hex::encode(hasher.finalize())
    }

    /// A recipe that includes nothing.
    pub fn of(origin: impl Into<String>, text: impl Into<String>, vars: BTreeMap<String, String>) -> Bundle {
        Bundle {
            files: vec![RecipeFile { origin: origin.into(), text: text.into() }],
            templates: Vec::new(),
            lock: None,
            vars,
        }
    }

    /// A recipe with all that it includes, and the texts of its templates.
    ///
    /// # Errors
    /// What is included and cannot be found, each with the place where it is named. A template that cannot be had is
    /// told of when the recipe is read.
    pub fn load(
        root: RecipeFile,
        vars: BTreeMap<String, String>,
        find: Find<'_>,
        find_template: Find<'_>,
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
        let mut templates: Vec<TemplateFile> = Vec::new();
        for file in &files {
            for name in Head::templates(file) {
                if !templates.iter().any(|known| known.of == file.origin && known.name == name) {
                    let found = find_template(&name, &file.origin);
                    templates.push(TemplateFile { of: file.origin.clone(), name, file: found });
                }
            }
        }
        problems.or(Bundle { files, templates, lock: None, vars })
    }

    /// The variables that its files declare, as far as they can be read.
    pub fn declared(&self) -> BTreeSet<String> {
        let heads = self.files.iter().flat_map(Head::read);
        heads.flat_map(|head| head.vars).map(|(name, _)| name.value).collect()
    }

    /// What a lock calls the recipe: the name of a built-in one, or of its file without the directory.
    pub fn lock_name(&self) -> &str {
        let origin = self.origin();
        match origin.strip_prefix("built-in ") {
            Some(name) => name,
            None => origin.rsplit('/').next().unwrap_or(origin),
        }
    }

    /// What messages call the recipe.
    pub fn origin(&self) -> &str {
        self.files.first().map_or("", |file| &file.origin)
    }
}
