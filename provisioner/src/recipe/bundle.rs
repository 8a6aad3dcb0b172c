use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A recipe as it travels to the host: its text and what the caller says of its variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Where it came from, as messages name it: a path, or `built-in NAME`.
    pub origin: String,
    /// The text.
    pub text: String,
    /// Variables set by the caller, which win over the recipe's own.
    pub vars: BTreeMap<String, String>,
}

/// What the caller knows of a host, for templates: `{{ host.name }}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInfo {
    /// The inventory's name for it.
    pub name: String,
    /// The login name that was used.
    pub user: String,
}
