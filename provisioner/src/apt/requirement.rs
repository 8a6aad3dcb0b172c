use std::fmt;

use debversion::Version;

/// Which versions of a package will do; compared by Debian's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// This one and newer ones.
    Least(Version),
    /// No other.
    Exactly(Version),
    /// No other, since a lock says so.
    Locked(Version),
}

impl Requirement {
    pub(crate) fn accepts(&self, version: &Version) -> bool {
        match self {
            Requirement::Least(least) => version >= least,
            Requirement::Exactly(only) | Requirement::Locked(only) => version == only,
        }
    }

    /// Whether what is there is newer than whatever will do.
    pub(crate) fn is_older_than(&self, version: &Version) -> bool {
        match self {
            Requirement::Least(_) => false,
            Requirement::Exactly(only) | Requirement::Locked(only) => only < version,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Requirement::Least(version) => write!(f, "at least {version}"),
            Requirement::Exactly(version) => write!(f, "exactly {version}"),
            Requirement::Locked(version) => write!(f, "{version}, as locked"),
        }
    }
}

/// A package that is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) name: String,
    /// Where it is to come from, if the recipe says so.
    pub(crate) release: Option<String>,
    pub(crate) requirement: Option<Requirement>,
    /// Whether it is there in a newer version, which has to give way.
    pub(crate) downgrade: bool,
}

impl Wish {
    /// As apt takes it. A version says more than a release, and apt takes only one of them.
    pub(crate) fn argument(&self) -> String {
        match (&self.requirement, &self.release) {
            (Some(Requirement::Exactly(version) | Requirement::Locked(version)), _) => {
                format!("{}={version}", self.name)
            }
            (_, Some(release)) => format!("{}/{release}", self.name),
            (_, None) => self.name.clone(),
        }
    }
}
