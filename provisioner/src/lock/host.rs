use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toril_machine::{Facts, Fingerprint, Machine};

use crate::apt::Database;
use crate::recipe::Recipe;
use crate::resource::Change;

/// The programs that guests run on, by what fingerprints call them. socat's package says all of it.
const PROGRAMS: [&str; 2] = ["qemu", "virtiofsd"];

/// What a host has of what its recipe leaves open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedHost {
    /// The kernel that it runs, as `uname -r` has it.
    pub kernel: String,
    /// The versions of the recipe's packages.
    pub packages: BTreeMap<String, String>,
    /// The programs that guests run on: `qemu`, `virtiofsd`.
    pub programs: BTreeMap<String, LockedProgram>,
}

/// A program on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedProgram {
    /// Where it is: the first on the search path.
    pub path: String,
    /// Of the file.
    pub sha256: String,
}

impl LockedHost {
    /// What a machine has of what a recipe is about.
    ///
    /// # Errors
    /// The machine is not as the recipe says, or could not be looked at.
    pub fn observe(recipe: &Recipe, machine: &Machine, facts: &Facts) -> Result<LockedHost, String> {
        let database = Database::read(machine).map_err(|error| error.to_string())?;
        let mut packages = BTreeMap::new();
        let mut lacking = Vec::new();
        let resources = recipe.resources.iter().filter_map(|declared| declared.resource.as_packages());
        for name in resources.flat_map(|resource| &resource.install) {
            match database.get(name).filter(|package| package.is_installed()) {
                Some(package) => drop(packages.insert(name.clone(), package.version.clone())),
                None => lacking.push(name.as_str()),
            }
        }
        if !lacking.is_empty() {
            return Err(format!(
                "the host has not all of the recipe's packages ({}), so there is nothing to hold others to: `toril apply` \
                 it first",
                lacking.join(", ")
            ));
        }
        let (kernel, programs) = (facts.kernel.clone(), programs(machine, facts));
        Ok(LockedHost { kernel, packages, programs })
    }

    /// What of a machine's kernel and programs is not as it is locked.
    pub(crate) fn differences(&self, machine: &Machine, facts: &Facts) -> Vec<Change> {
        let locked = |text: String| format!("{text}, as locked");
        let mut changes = Vec::new();
        if facts.kernel != self.kernel {
            changes.push(Change::new("kernel", facts.kernel.clone(), locked(self.kernel.clone())));
        }
        let here = if self.programs.is_empty() { BTreeMap::new() } else { programs(machine, facts) };
        for (name, program) in &self.programs {
            let words = |program: &LockedProgram| format!("{}, sha256 {}", program.path, program.sha256);
            let now = here.get(name);
            if now != Some(program) {
                let now = now.map_or("none".into(), words);
                changes.push(Change::new(format!("program {name}"), now, locked(words(program))));
            }
        }
        changes
    }
}

fn programs(machine: &Machine, facts: &Facts) -> BTreeMap<String, LockedProgram> {
    let print = Fingerprint::take(machine, facts, true).0;
    let value = |name: &str, what: &str| print.get(&format!("{name}.{what}")).cloned();
    let program = |name: &str| {
        Some((name.to_owned(), LockedProgram { path: value(name, "path")?, sha256: value(name, "sha256")? }))
    };
    PROGRAMS.into_iter().filter_map(program).collect()
}
