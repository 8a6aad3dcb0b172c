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
    /// Among groups that are equally deep, what one of a higher priority says wins; 1 where none is said.
    pub(crate) priority: Option<i64>,
    pub(crate) hosts: Vec<String>,
    pub(crate) groups: Vec<String>,
}
