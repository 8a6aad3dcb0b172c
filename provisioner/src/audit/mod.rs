//! What a recipe does not say and yet makes a host another one than it seems: damaged packages, files that are not their
//! package's any more, programs in front of the installed ones, a kernel that waits for a reboot. Reads only.

mod files;
mod kernel;
mod manifest;
mod packages;
mod programs;
mod since;

use serde::{Deserialize, Serialize};
use toril_machine::{Facts, Machine};

use crate::apt::Database;
use crate::recipe::Recipe;
use crate::resource::{AptPackages, ResourceError, Thing};
use manifest::{Diversions, Manifest};
pub use since::LAST_RUN;

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about, such as `package git`.
    pub about: String,
    /// What was found.
    pub what: String,
    /// What to do about it; nothing where that depends on what is wanted.
    pub remedy: Option<String>,
}

/// How closely files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Depth {
    /// Only files that were touched since their package was unpacked are read.
    Touched,
    /// Every file is read.
    All,
}

/// Looks for what is wrong with a machine beyond its recipe. Files are those of the packages that the recipe installs;
/// what dpkg did not finish is told of all packages.
pub fn audit(recipe: &Recipe, machine: &Machine, facts: &Facts, depth: Depth) -> Vec<Finding> {
    let mut findings = Vec::new();
    match installed(recipe, machine) {
        Ok((database, manifests)) => {
            findings.extend(packages::look(recipe, &database));
            let overrides = manifest::overrides(machine);
            for manifest in &manifests {
                findings.extend(files::look(machine, manifest, &overrides, depth));
            }
            let own = own_paths(recipe);
            findings.extend(manifests.iter().flat_map(|manifest| programs::look(machine, manifest, &own)));
        }
        Err(error) => findings.push(could_not_look("packages", &error)),
    }
    findings.extend(kernel::look(machine, facts));
    findings.extend(since::look(machine, facts));
    findings
}

/// The packages of the recipe that are installed, with their files.
fn installed(recipe: &Recipe, machine: &Machine) -> Result<(Database, Vec<Manifest>), ResourceError> {
    let database = Database::read(machine)?;
    let diversions = Diversions::read(machine)?;
    let names = recipe_packages(recipe).flat_map(|packages| &packages.install);
    let installed = names.filter(|name| database.get(name).is_some_and(|package| package.is_installed()));
    let mut installed: Vec<&String> = installed.collect();
    installed.sort();
    installed.dedup();
    let manifests = installed.into_iter().map(|name| Manifest::read(machine, name, &diversions));
    let manifests = manifests.collect::<Result<_, _>>()?;
    Ok((database, manifests))
}

fn recipe_packages(recipe: &Recipe) -> impl Iterator<Item = &AptPackages> {
    recipe.resources.iter().filter_map(|declared| declared.resource.as_packages())
}

/// What the recipe itself puts somewhere, and so means to be there.
fn own_paths(recipe: &Recipe) -> Vec<String> {
    let things = recipe.resources.iter().flat_map(|declared| declared.resource.provides());
    things.filter_map(|thing| if let Thing::Path(path) = thing { Some(path) } else { None }).collect()
}

fn could_not_look(about: &str, error: &ResourceError) -> Finding {
    Finding { about: about.into(), what: format!("could not look: {error}"), remedy: None }
}

fn reinstall(package: &str) -> Option<String> {
    Some(format!("apt-get install --reinstall {package}"))
}
