use toril_machine::Machine;

use super::indexes::Indexes;
use super::locks::{self, Holder};
use super::{Database, steps};
use crate::resource::ResourceError;

/// All that decides what has to be done before packages can be installed, as it is now. Looked at by files only.
#[derive(Debug, Default)]
pub(crate) struct AptState {
    /// Who is at work on packages.
    pub(crate) holder: Option<Holder>,
    /// Entries of dpkg's journal that are not in its status file yet.
    pub(crate) pending_updates: usize,
    /// Packages that dpkg has unpacked and not configured to the end.
    pub(crate) unconfigured: Vec<String>,
    /// Packages whose files may be damaged.
    pub(crate) damaged: Vec<String>,
    /// Installed packages that need what is not there, and what.
    pub(crate) broken: Vec<String>,
    pub(crate) indexes: Indexes,
}

impl AptState {
    pub(crate) fn observe(machine: &Machine) -> Result<AptState, ResourceError> {
        let database = Database::read(machine)?;
        let (damaged, unconfigured) = database.interrupted().partition(|name| {
            database
                .get(name)
                .is_some_and(|package| package.reinstall_required || package.state == "half-installed")
        });
        Ok(AptState {
            holder: locks::holder(machine)?,
            pending_updates: database.pending_updates,
            unconfigured: owned(unconfigured),
            damaged: owned(damaged),
            broken: database.broken().iter().map(|(name, what)| format!("{name} needs {what}")).collect(),
            indexes: Indexes::observe(machine)?,
        })
    }

    /// What has to be done to have these packages, in words.
    pub(crate) fn describe_steps(&self, packages: &[&str]) -> Vec<String> {
        steps::steps(self, packages).iter().map(ToString::to_string).collect()
    }
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}
