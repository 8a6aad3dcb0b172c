//! `--unprivileged`: what a project's files may not have done on a host.

use std::collections::BTreeMap;

use toril_provisioner::Bundle;
use toril_runner::Suite;

use super::UsageError;
use crate::agent::TEST_USER;
use crate::settings::{Origin, Variable};

/// Refuses a suite of which anything runs as another user than the one that has no rights.
pub(super) fn of_suite(suite: &Suite) -> Result<(), UsageError> {
    let mut found = Vec::new();
    if suite.run_as != TEST_USER {
        found.push(format!("tests run as {} (`run-as`)", suite.run_as));
    }
    for test in &suite.tests {
        if test.companion.as_ref().is_some_and(|companion| companion.as_root) {
            found.push(format!("the companion of the test `{}` runs as root (`as-root`)", test.name));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(UsageError::Other(format!(
        "--unprivileged: nothing of a suite may run as another user than `{TEST_USER}`, and in {} {}; take that out of \
         the suite, or give the command without --unprivileged",
        suite.name,
        found.join(", and ")
    )))
}

/// Refuses a recipe, which is carried out as root, that is not named on the command line, and variables of it that are not
/// set there.
pub(super) fn of_recipe(
    name: &str,
    origin: &Origin,
    vars: &BTreeMap<String, Variable>,
    bundle: &Bundle,
) -> Result<(), UsageError> {
    if let Origin::File { .. } = origin {
        return Err(UsageError::Other(format!(
            "--unprivileged: a recipe is carried out as root, and `{name}` is named by {origin}; name the recipe on the \
             command line, such as `--recipe microvm-host`, or give the command without --unprivileged"
        )));
    }
    let declared = bundle.declared();
    let set: Vec<&str> = vars.keys().filter(|name| declared.contains(*name)).map(String::as_str).collect();
    if set.is_empty() {
        Ok(())
    } else {
        Err(of_variables(&format!("`{}` from toril.toml", set.join("`, `"))))
    }
}

/// Says that these variables of a recipe come from files.
pub(super) fn of_variables(places: &str) -> UsageError {
    UsageError::Other(format!(
        "--unprivileged: a recipe is carried out as root, and its variables are not all of the command line: {places}; \
         set them by `--var`, or give the command without --unprivileged"
    ))
}
