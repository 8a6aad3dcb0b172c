//! What resources give each other: the order that is evident without `needs`.

/// What a resource provides to others.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Path(String),
    User(String),
    Group(String),
    AptSource,
    KernelModule,
    Packages,
}

/// What a resource stands on, if the recipe has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The directories above a path.
    Above(String),
    User(String),
    Group(String),
    /// All sources of packages.
    AptSources,
    /// All kernel modules, unless the recipe says which.
    KernelModules,
    /// All packages, unless the recipe says which.
    Packages,
}

impl Wanted {
    /// A path itself, and the directories above it.
    pub(crate) fn path(path: &str) -> Wanted {
        Wanted::Above(format!("{path}/"))
    }

    /// Whether a thing meets this; `explicit`: the recipe names what the resource needs.
    pub(crate) fn met_by(&self, thing: &Thing, explicit: bool) -> bool {
        match (self, thing) {
            (Wanted::Above(path), Thing::Path(other)) => {
                path.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('/'))
            }
            (Wanted::User(name), Thing::User(other)) | (Wanted::Group(name), Thing::Group(other)) => {
                name == other
            }
            (Wanted::AptSources, Thing::AptSource) => true,
            (Wanted::Packages, Thing::Packages) | (Wanted::KernelModules, Thing::KernelModule) => !explicit,
            _ => false,
        }
    }
}
