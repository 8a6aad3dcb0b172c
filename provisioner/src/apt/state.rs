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

    /// Why nothing can be fetched beforehand: something else has to be done first.
    pub(crate) fn hindrance(&self) -> Option<String> {
        if let Some(holder) = &self.holder {
            return Some(format!("others are at work on packages: {holder}"));
        }
        if self.pending_updates > 0 || !self.unconfigured.is_empty() || !self.damaged.is_empty() {
            return Some("dpkg was interrupted, and that is mended first".into());
        }
        if !self.broken.is_empty() {
            return Some("dependencies are broken, and that is mended first".into());
        }
        (!self.indexes.truncated.is_empty()).then(|| "package lists are there that apt cannot use".into())
    }

    /// What has to be done to have these packages, in words.
    pub(crate) fn describe_steps(&self, packages: &[&str]) -> Vec<String> {
        steps::steps(self, packages).iter().map(ToString::to_string).collect()
    }
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}
