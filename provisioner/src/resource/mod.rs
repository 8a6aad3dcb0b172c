//! Resource kinds. A new kind is one new file here and one line in [`KINDS`].

mod apt_packages;
mod assertion;
mod attributes;
mod change;
mod directory;
mod file;
mod group;
mod kernel_module;
mod udev_rule;
mod user;

use std::fmt;

use toril_document::Table;
use toril_machine::{Facts, Machine};

pub(crate) use apt_packages::AptPackages;
pub use change::Change;

/// Every kind, by the key that stands for it in a recipe.
pub const KINDS: &[KindEntry] = &[
    KindEntry { key: "apt-packages", read: apt_packages::read },
    KindEntry { key: "assert", read: assertion::read },
    KindEntry { key: "directory", read: directory::read },
    KindEntry { key: "file", read: file::read },
    KindEntry { key: "group", read: group::read },
    KindEntry { key: "kernel-module", read: kernel_module::read },
    KindEntry { key: "udev-rule", read: udev_rule::read },
    KindEntry { key: "user", read: user::read },
];

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
}

/// What comparing what is with what should be gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// What has to change; none where all is as it should be.
    pub(crate) changes: Vec<Change>,
    /// What this machine can never have, and why.
    pub(crate) impossible: Option<String>,
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

    /// Packages go together in one transaction.
    fn as_packages(&self) -> Option<&AptPackages> {
        None
    }
}

/// A kind, whatever its state is.
pub(crate) trait Resource: fmt::Debug + Send + Sync {
    fn judge(&self, context: Context<'_>) -> Result<Judged, ResourceError>;
    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError>;
    fn provides(&self) -> Vec<Thing>;
    fn follows(&self) -> Vec<Wanted>;
    fn decided_by_others(&self) -> bool;
    fn as_packages(&self) -> Option<&AptPackages>;
}

impl<K: Kind> Resource for K {
    fn judge(&self, context: Context<'_>) -> Result<Judged, ResourceError> {
        Ok(self.compare(context, &self.observe(context)?))
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
    fn as_packages(&self) -> Option<&AptPackages> {
        Kind::as_packages(self)
    }
}

/// What a resource provides to others.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Path(String),
    User(String),
    Group(String),
    Packages,
}

/// What a resource stands on, if the recipe has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The directories above a path.
    Above(String),
    User(String),
    Group(String),
    /// All packages, unless the recipe says which.
    Packages,
}

impl Wanted {
    /// Whether a thing meets this; `explicit`: the recipe names what the resource needs.
    pub(crate) fn met_by(&self, thing: &Thing, explicit: bool) -> bool {
        match (self, thing) {
            (Wanted::Above(path), Thing::Path(other)) => {
                path.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('/'))
            }
            (Wanted::User(name), Thing::User(other)) | (Wanted::Group(name), Thing::Group(other)) => {
                name == other
            }
            (Wanted::Packages, Thing::Packages) => !explicit,
            _ => false,
        }
    }
}

/// Takes an absolute path that has no `..` in it.
pub(crate) fn read_path(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    let path = table.required_string(key)?;
    let text = path.value.trim_end_matches('/');
    if text.starts_with('/')
        && !text.split('/').any(|part| part == ".." || part == ".")
        && !text.contains('\0')
    {
        return Some(text.to_owned());
    }
    let message = format!("`{}` must be an absolute path without `.` and `..`", path.value);
    table.note("R010", path.span, message, None);
    None
}

/// Takes a name that is safe as an argument and as a part of a path.
pub(crate) fn read_name(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    let name = table.required_string(key)?;
    if is_name(&name.value) {
        return Some(name.value);
    }
    let message =
        format!("`{}` is no name: letters, digits and . _ + -, beginning with a letter or digit", name.value);
    table.note("R011", name.span, message, None);
    None
}

pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
}

#[cfg(test)]
pub(crate) mod testing {
    use std::path::PathBuf;

    use super::*;
    use crate::recipe::{Release, sample_facts};

    /// A fake root with accounts, on which resources are tried.
    pub(crate) struct Fake {
        root: tempfile::TempDir,
        machine: Machine,
        pub(crate) facts: Facts,
    }

    impl Fake {
        pub(crate) fn new() -> Fake {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir(root.path().join("etc")).unwrap();
            let passwd = "root:x:0:0::/root:/bin/bash\ntoril:x:900:900::/home/t:/usr/sbin/nologin\n";
            std::fs::write(root.path().join("etc/passwd"), passwd).unwrap();
            std::fs::write(root.path().join("etc/group"), "root:x:0:\nkvm:x:105:toril\ngames:x:60:\n")
                .unwrap();
            let machine = Machine::at(root.path());
            Fake { root, machine, facts: sample_facts(Release::parse("debian 12").unwrap()) }
        }

        pub(crate) fn path(&self, path: &str) -> PathBuf {
            self.root.path().join(path)
        }

        pub(crate) fn context(&self) -> Context<'_> {
            Context { machine: &self.machine, facts: &self.facts }
        }

        pub(crate) fn changes(&self, resource: &dyn Resource) -> Vec<String> {
            let judged = resource.judge(self.context()).unwrap();
            judged
                .changes
                .iter()
                .map(|change| format!("{}: {} → {}", change.what, change.before, change.after))
                .collect()
        }

        /// Carries out what is to change. Setting owners needs root.
        pub(crate) fn apply(&self, resource: &dyn Resource) {
            let judged = resource.judge(self.context()).unwrap();
            resource.apply(self.context(), &judged.changes, &mut |_| {}).unwrap();
        }
    }
}
