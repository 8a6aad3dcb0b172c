//! What the command line chose: recipes, suites and hosts, read and checked before a host is contacted.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use toril_inventory::{Inventory, Target};
use toril_provisioner::{Bundle, HostInfo, Recipe};
use toril_runner::Suite;

use super::UsageError;
use crate::arguments::{RecipeChoice, SuiteChoice, Way};
use crate::view::Choice;

/// A recipe that is free of mistakes.
pub(super) fn recipe(choice: &RecipeChoice) -> Result<(Choice, Bundle), UsageError> {
    let built_in = toril_recipes::find(&choice.recipe).map(|recipe| recipe.text);
    let known: Vec<&str> = toril_recipes::ALL.iter().map(|recipe| recipe.name).collect();
    let (origin, text) = find("recipe", &choice.recipe, built_in, &known)?;
    let vars = choice.vars.iter().cloned().collect();
    let bundle = Bundle { origin: document_name(&choice.recipe, &origin), text, vars };
    // No template of a recipe may depend on more of a host than that it has a name and a login.
    let sample = HostInfo { name: "sample".into(), user: "debian".into() };
    let recipe = Recipe::check(&bundle, &sample)?;
    Ok((Choice { name: choice.recipe.clone(), origin, description: recipe.description }, bundle))
}

/// A suite that is free of mistakes: its choice, its document's name, its text and its variables.
pub(super) struct ChosenSuite {
    pub(super) choice: Choice,
    pub(super) document: String,
    pub(super) text: String,
    pub(super) vars: BTreeMap<String, String>,
}

pub(super) fn suite(choice: &SuiteChoice) -> Result<ChosenSuite, UsageError> {
    let built_in = (choice.suite == "smoke").then_some(toril_runner::SMOKE);
    let (origin, text) = find("suite", &choice.suite, built_in, &["smoke"])?;
    let vars: BTreeMap<String, String> = choice.set.iter().cloned().collect();
    let document = document_name(&choice.suite, &origin);
    let suite = Suite::parse(&document, &text, &vars)?;
    let wanted = |name: &str| choice.filter.iter().any(|text| name.contains(text.as_str()));
    if !choice.filter.is_empty() && !suite.tests.iter().any(|test| wanted(&test.name)) {
        let names: Vec<&str> = suite.tests.iter().map(|test| test.name.as_str()).collect();
        let filters = choice.filter.join(", ");
        return Err(UsageError::Other(format!(
            "no test matches --filter {filters}; there are: {}",
            names.join(", ")
        )));
    }
    let choice = Choice { name: choice.suite.clone(), origin, description: suite.description };
    Ok(ChosenSuite { choice, document, text, vars })
}

/// The hosts that the arguments stand for, each once.
pub(super) fn targets(hosts: &[String], way: &Way) -> Result<Vec<(String, Target)>, UsageError> {
    let inventory = inventory(&way.inventory)?;
    let mut targets: Vec<(String, Target)> = Vec::new();
    for host in hosts {
        let target = inventory.resolve(host).map_err(|error| UsageError::Other(error.to_string()))?;
        if !targets.iter().any(|(name, _)| name == host) {
            targets.push((host.clone(), target));
        }
    }
    Ok(targets)
}

fn inventory(path: &Path) -> Result<Inventory, UsageError> {
    let name = path.to_string_lossy();
    match fs::read_to_string(path) {
        Ok(text) => Ok(Inventory::parse(&name, &text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path == Path::new("inventory.toml") => {
            Ok(Inventory::default())
        }
        Err(error) => Err(UsageError::Other(format!("cannot read the inventory {name}: {error}"))),
    }
}

/// The text of a built-in or of a file, and where it came from.
fn find(
    what: &str,
    name: &str,
    built_in: Option<&str>,
    known: &[&str],
) -> Result<(String, String), UsageError> {
    if let Some(text) = built_in {
        return Ok(("built-in".into(), text.to_owned()));
    }
    match fs::read_to_string(name) {
        Ok(text) => Ok((name.to_owned(), text)),
        Err(error) => {
            let known = known.join(", ");
            Err(UsageError::Other(format!(
                "no {what} `{name}`: {error}; give a file, or one of the built-in: {known}"
            )))
        }
    }
}

fn document_name(name: &str, origin: &str) -> String {
    if origin == "built-in" { format!("built-in {name}") } else { origin.to_owned() }
}
