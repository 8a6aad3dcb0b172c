//! Resource kinds. A new kind is one new file here and one line in [`KINDS`].

mod apt_packages;
mod apt_source;
mod apt_source_pins;
mod apt_versions;
mod assertion;
mod attributes;
mod change;
mod command;
mod directory;
mod download;
mod earlier_build;
mod earlier_build_files;
mod file;
mod git;
mod git_checkout;
mod group;
mod incoming;
mod kernel_module;
mod line;
pub(crate) mod locked;
mod manifest;
mod membership;
mod order;
mod place;
mod program;
mod reading;
mod source_build;
mod symlink;
mod sysctl;
mod systemd_unit;
mod systemd_unit_files;
pub(crate) mod template;
#[cfg(test)]
pub(crate) mod testing;
mod udev_rule;
mod unpack;
mod user;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use toril_document::Table;
use toril_machine::{Facts, Machine};

pub(crate) use apt_packages::AptPackages;
pub(crate) use apt_source::WRITTEN;
pub use change::Change;
pub(crate) use download::DOWNLOADS;
pub(crate) use order::{Thing, Wanted};
pub(crate) use reading::{
    is_name, names, one_line, optional_name, optional_path, parsed, read_name, read_path,
};

/// Every kind, by the key that stands for it in a recipe.
pub const KINDS: &[KindEntry] = &[
    KindEntry { key: "apt-packages", read: apt_packages::read },
    KindEntry { key: "apt-source", read: apt_source::read },
    KindEntry { key: "assert", read: assertion::read },
    KindEntry { key: "command", read: command::read },
    KindEntry { key: "directory", read: directory::read },
    KindEntry { key: "download", read: download::read },
    KindEntry { key: "earlier-build", read: earlier_build::read },
    KindEntry { key: "file", read: file::read },
    KindEntry { key: "git-checkout", read: git_checkout::read },
    KindEntry { key: "group", read: group::read },
    KindEntry { key: "kernel-module", read: kernel_module::read },
    KindEntry { key: "line", read: line::read },
    KindEntry { key: "membership", read: membership::read },
    KindEntry { key: "source-build", read: source_build::read },
    KindEntry { key: "symlink", read: symlink::read },
    KindEntry { key: "sysctl", read: sysctl::read },
    KindEntry { key: "systemd-unit", read: systemd_unit::read },
    KindEntry { key: template::KEY, read: template::read },
    KindEntry { key: "udev-rule", read: udev_rule::read },
    KindEntry { key: "unpack", read: unpack::read },
    KindEntry { key: "user", read: user::read },
];

/// What of a kind may be left to the recipe's lock: the key, and how many hexadecimal digits it has.
pub(crate) const PINNED: &[(&str, &str, usize)] =
    &[("download", "sha256", 64), ("git-checkout", "commit", 40)];

/// A kind's key and its reader.
#[derive(Debug)]
pub struct KindEntry {
    /// The key in a recipe.
    pub key: &'static str,
    pub(crate) read: fn(&mut Table<'_>) -> Option<Box<dyn Resource>>,
}

/// What a kind may look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'m> {
    pub(crate) machine: &'m Machine,
    pub(crate) facts: &'m Facts,
    /// Whether the run is to end: what takes long, and may be ended half-way, heeds it.
    pub(crate) stop: &'m AtomicBool,
}

impl Context<'_> {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// For what nobody stops.
pub(crate) static NEVER: AtomicBool = AtomicBool::new(false);

/// What comparing what is with what should be gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// What has to change; none where all is as it should be.
    pub(crate) changes: Vec<Change>,
    /// What this machine can never have, and why.
    pub(crate) impossible: Option<String>,
    /// Why it cannot be told whether more has to change, without doing what a check does not do.
    pub(crate) undecidable: Option<String>,
    /// What is worth knowing and is no change, such as that a key expires soon.
    pub(crate) notices: Vec<String>,
}

impl From<Vec<Change>> for Judged {
    fn from(changes: Vec<Change>) -> Judged {
        Judged { changes, ..Judged::default() }
    }
}

/// Something that could not be looked at or done; the text names what and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ResourceError(pub(crate) String);

impl ResourceError {
    pub(crate) fn new(text: impl fmt::Display) -> ResourceError {
        ResourceError(text.to_string())
    }
}

/// What a kind does, in the four steps of which all kinds consist; the fourth is the first again.
pub(crate) trait Kind: fmt::Debug + Send + Sync + 'static {
    /// What is there now.
    type State;

    /// Looks, and changes nothing: no module is loaded, no list is refreshed.
    fn observe(&self, context: Context<'_>) -> Result<Self::State, ResourceError>;

    /// As observe, in an apply: may also look in ways that are not known to change nothing.
    fn observe_to_apply(&self, context: Context<'_>) -> Result<Self::State, ResourceError> {
        self.observe(context)
    }

    /// Says what has to change, as data.
    fn compare(&self, context: Context<'_>, state: &Self::State) -> Judged;

    /// Carries the changes out.
    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError>;

    /// What others may stand on once this is done.
    fn provides(&self) -> Vec<Thing> {
        Vec::new()
    }

    /// What this stands on.
    fn follows(&self) -> Vec<Wanted> {
        Vec::new()
    }

    /// Whether looking makes no sense before what comes first is done.
    fn decided_by_others(&self) -> bool {
        false
    }

    /// Whether it runs what the recipe says, which may be apt.
    fn may_use_apt(&self) -> bool {
        false
    }

    /// Whether looking is waiting for a program: others can be looked at meanwhile.
    fn asks_programs(&self) -> bool {
        false
    }

    /// Packages go together in one transaction.
    fn as_packages(&self) -> Option<&AptPackages> {
        None
    }

    fn as_packages_mut(&mut self) -> Option<&mut AptPackages> {
        None
    }
}

/// A kind, whatever its state is.
pub(crate) trait Resource: fmt::Debug + Send + Sync {
    /// What has to change, as far as it can be told by looking only.
    fn judge(&self, context: Context<'_>) -> Result<Judged, ResourceError>;
    /// What has to change, in an apply: everything is decided.
    fn judge_to_apply(&self, context: Context<'_>) -> Result<Judged, ResourceError>;
    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError>;
    fn provides(&self) -> Vec<Thing>;
    fn follows(&self) -> Vec<Wanted>;
    fn decided_by_others(&self) -> bool;
    fn may_use_apt(&self) -> bool;
    fn asks_programs(&self) -> bool;
    fn as_packages(&self) -> Option<&AptPackages>;
    fn as_packages_mut(&mut self) -> Option<&mut AptPackages>;
}

impl<K: Kind> Resource for K {
    fn judge(&self, context: Context<'_>) -> Result<Judged, ResourceError> {
        Ok(self.compare(context, &self.observe(context)?))
    }
    fn judge_to_apply(&self, context: Context<'_>) -> Result<Judged, ResourceError> {
        Ok(self.compare(context, &self.observe_to_apply(context)?))
    }
    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        Kind::apply(self, context, changes, log)
    }
    fn provides(&self) -> Vec<Thing> {
        Kind::provides(self)
    }
    fn follows(&self) -> Vec<Wanted> {
        Kind::follows(self)
    }
    fn decided_by_others(&self) -> bool {
        Kind::decided_by_others(self)
    }
    fn may_use_apt(&self) -> bool {
        Kind::may_use_apt(self)
    }

    fn asks_programs(&self) -> bool {
        Kind::asks_programs(self)
    }
    fn as_packages(&self) -> Option<&AptPackages> {
        Kind::as_packages(self)
    }
    fn as_packages_mut(&mut self) -> Option<&mut AptPackages> {
        Kind::as_packages_mut(self)
    }
}
