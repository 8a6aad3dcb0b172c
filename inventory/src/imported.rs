use std::collections::BTreeMap;

use crate::layer::Layer;

/// Hosts and groups that come from somewhere else than `inventory.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    pub(crate) hosts: BTreeMap<String, Layer>,
    pub(crate) groups: BTreeMap<String, ImportedGroup>,
}

/// A group in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImportedGroup {
    pub(crate) layer: Layer,
    pub(crate) hosts: Vec<String>,
    pub(crate) groups: Vec<String>,
}
