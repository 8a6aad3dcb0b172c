//! What must follow a change, such as a reload: remembered on disk from before the change until it is done, so that
//! an interruption cannot lose it.

use std::collections::BTreeSet;
use std::fs;

use serde::{Deserialize, Serialize};
use toril_machine::{Command, Machine, write_atomically};

use crate::recipe::{Handler, Recipe};
use crate::resource::{Change, ResourceError};

/// The handlers that are due.
pub(crate) const DUE: &str = "/var/lib/toril/due-handlers.json";

/// A handler that is due, by its recipe's origin and its name: what it does may have been mended in the meantime.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Due {
    recipe: String,
    handler: String,
}

impl Due {
    pub(super) fn of(recipe: &Recipe, handler: &Handler) -> Due {
        Due { recipe: recipe.origin.clone(), handler: handler.name.clone() }
    }
}

/// The handlers that are due, whatever recipe they are of.
pub(super) fn due(machine: &Machine) -> Result<BTreeSet<Due>, ResourceError> {
    let Some(text) = machine.read(DUE).known().map_err(ResourceError)? else { return Ok(BTreeSet::new()) };
    serde_json::from_str(&text)
        .map_err(|error| ResourceError(format!("{DUE} cannot be read ({error}); look at it and remove it")))
}

/// Remembers that handlers are due. Called before the change, so that they are not lost if it is the last thing done.
pub(super) fn remember(
    machine: &Machine,
    handlers: impl IntoIterator<Item = Due>,
) -> Result<(), ResourceError> {
    let before = due(machine)?;
    let mut after = before.clone();
    after.extend(handlers);
    if after == before { Ok(()) } else { write(machine, &after) }
}

/// Does what a handler says and forgets that it is due.
pub(super) fn run(machine: &Machine, recipe: &Recipe, handler: &Handler) -> Result<(), ResourceError> {
    let Some((program, args)) = handler.command.split_first() else { return Ok(()) };
    Command::new(program, args).output().map_err(ResourceError::new)?;
    let mut left = due(machine)?;
    left.remove(&Due::of(recipe, handler));
    write(machine, &left)
}

/// A due handler as something that has to change.
pub(super) fn change() -> Change {
    Change::new("handler", "due since an earlier change", "done")
}

fn write(machine: &Machine, handlers: &BTreeSet<Due>) -> Result<(), ResourceError> {
    let path = machine.path(DUE);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .map_err(|error| ResourceError(format!("cannot make {}: {error}", directory.display())))?;
    }
    let text = serde_json::to_vec(handlers).map_err(ResourceError::new)?;
    write_atomically(&path, &text, None).map_err(ResourceError::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_no_empty_list() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/lib/toril")).unwrap();
        fs::write(root.path().join("var/lib/toril/due-handlers.json"), "[").unwrap();
        assert!(due(&Machine::at(root.path())).is_err());
    }
}
