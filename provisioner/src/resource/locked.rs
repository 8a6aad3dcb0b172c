//! What a lock says of a host that no resource can bring about by itself: its kernel and the programs that guests run on.

use super::{Change, Context, Judged, Kind, ResourceError};
use crate::lock::LockedHost;

/// What messages call it, beside the names of the recipe's resources.
pub(crate) const NAME: &str = "what the lock says of the host";

/// A host's kernel and programs are what they were when the lock was written.
#[derive(Debug)]
pub(crate) struct Locked(pub(crate) LockedHost);

impl Kind for Locked {
    type State = Vec<Change>;

    fn observe(&self, context: Context<'_>) -> Result<Vec<Change>, ResourceError> {
        Ok(self.0.differences(context.machine, context.facts))
    }

    fn compare(&self, _: Context<'_>, differences: &Vec<Change>) -> Judged {
        differences.clone().into()
    }

    fn apply(
        &self,
        _: Context<'_>,
        changes: &[Change],
        _: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let changes = changes
            .iter()
            .map(|change| format!("{} is {}, and should be {}", change.what, change.before, change.after));
        Err(ResourceError(format!(
            "{}; nothing in the recipe brings that about: reboot if that is due, install what is missing, or lock the host as \
             it is now (`toril recipe lock`)",
            changes.collect::<Vec<_>>().join("; ")
        )))
    }

    /// The recipe's packages bring the programs.
    fn decided_by_others(&self) -> bool {
        true
    }
}
