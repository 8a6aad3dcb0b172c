//! `recipe`: recipes by themselves, before they meet a host that matters.

pub(super) mod drift;
mod lock;
mod look;
mod trial;

use super::UsageError;
use crate::arguments::Recipe;
use crate::exit::Status;

/// `toril recipe …`.
pub(super) fn run(command: &Recipe) -> Result<Status, UsageError> {
    match command {
        Recipe::List => look::list(),
        Recipe::Check { recipes } => look::check(recipes),
        Recipe::Show { recipe, release, vars } => look::show(recipe, *release, vars),
        Recipe::Lock(arguments) => lock::lock(arguments),
        Recipe::Test(arguments) => trial::test(arguments),
    }
}
