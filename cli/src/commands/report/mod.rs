//! `toril report`: what is made of what runs have told as JSON events.

mod compare;
mod merge;

use super::UsageError;
use crate::arguments::Report;
use crate::exit::Status;

pub(super) fn run(arguments: &Report) -> Result<Status, UsageError> {
    match arguments {
        Report::Merge(arguments) => merge::merge(arguments),
        Report::Compare(arguments) => compare::compare(arguments),
    }
}
