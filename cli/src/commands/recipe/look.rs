//! `recipe list`, `check` and `show`: what recipes say, and whether they say it right.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use toril_document::Problems;
use toril_provisioner::{Bundle, Recipe, Release, describe_releases, sample_facts};

use crate::commands::{UsageError, choices};
use crate::diagnostics;
use crate::exit::Status;

/// The built-in recipes, each with what it is for.
pub(super) fn list() -> Result<Status, UsageError> {
    let mut text = String::new();
    for built_in in toril_recipes::ALL {
        let (_, recipe) = checked(built_in.name, BTreeMap::new())?;
        let releases = describe_releases(&recipe.supports);
        let _infallible = writeln!(text, "{:<16} {} ({releases})", built_in.name, recipe.description);
    }
    print(&text);
    Ok(Status::Fine)
}

/// Every mistake of every recipe in one go.
pub(super) fn check(recipes: &[String]) -> Result<Status, UsageError> {
    let mut problems = Problems::default();
    let mut unread = Vec::new();
    let mut text = String::new();
    for name in recipes {
        match checked(name, BTreeMap::new()) {
            Ok((_, recipe)) => {
                let releases = describe_releases(&recipe.supports);
                let _infallible = writeln!(text, "{name}: ok for {releases}");
            }
            Err(UsageError::Problems(more)) => problems.add(more),
            Err(error) => unread.push(error.to_string()),
        }
    }
    print(&text);
    match (problems.0.is_empty(), unread.is_empty()) {
        (true, true) => Ok(Status::Fine),
        (false, true) => Err(UsageError::Problems(problems)),
        (true, false) => Err(UsageError::Other(unread.join("\n"))),
        (false, false) => {
            Err(UsageError::Other(format!("{}\n{}", unread.join("\n"), diagnostics::render(&problems))))
        }
    }
}

/// What a recipe means for a release, as a recipe without templates and conditions.
pub(super) fn show(
    name: &str,
    release: Option<Release>,
    vars: &[(String, String)],
) -> Result<Status, UsageError> {
    let (bundle, recipe) = checked(name, vars.iter().cloned().collect())?;
    let release = choose(&recipe, release)?;
    let facts = sample_facts(release);
    let recipe = Recipe::read(&bundle, &facts, &choices::sample())?;
    let mut text = format!(
        "# {name} as it is for {release} ({}), on a cloud host with systemd, udev, {} and /dev/kvm where the\n\
         # login is `debian`. In the order of carrying out; `needs` says all that a resource waits for.\n",
        release.codename,
        facts.virtualization.as_deref().unwrap_or("no virtualisation")
    );
    let description = toril_document::Value::String(recipe.description.clone());
    let _infallible = writeln!(text, "description = {description}\nsupports = [\"{release}\"]");
    for resource in recipe.describe() {
        let _infallible = write!(text, "\n{resource}");
    }
    for handler in recipe.describe_handlers() {
        let _infallible = write!(text, "\n{handler}");
    }
    print(&text);
    Ok(Status::Fine)
}

/// The release asked for, else Debian 12, else the newest that the recipe supports.
fn choose(recipe: &Recipe, release: Option<Release>) -> Result<Release, UsageError> {
    let supports = &recipe.supports;
    match release {
        Some(release) if supports.contains(&release) => Ok(release),
        Some(release) => Err(UsageError::Other(format!(
            "the recipe is not for {release}: it supports {}",
            describe_releases(supports)
        ))),
        None => {
            let usual = supports.iter().find(|release| release.version == "12").or(supports.last());
            usual.copied().ok_or_else(|| UsageError::Other("the recipe supports no release".into()))
        }
    }
}

/// A recipe, found and free of mistakes.
pub(super) fn checked(name: &str, vars: BTreeMap<String, String>) -> Result<(Bundle, Recipe), UsageError> {
    let bundle = choices::named(name, vars)?;
    let recipe = Recipe::check(&bundle, &choices::sample())?;
    Ok((bundle, recipe))
}

fn print(text: &str) {
    // A reader that went away wants no more.
    drop(io::stdout().lock().write_all(text.as_bytes()));
}
