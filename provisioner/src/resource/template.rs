//! `template`: a file whose content is rendered from a text beside the recipe.

use toril_document::Table;

use super::attributes::Attributes;
use super::file::FileResource;
use super::{Resource, read_path};

/// The kind's key.
pub(crate) const KEY: &str = "template";

/// What names the text in a recipe. Its place is taken by the rendered text before the kind is read: a recipe travels
/// with all that it names.
pub(crate) const SOURCE: &str = "source";

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let path = read_path(table, "path");
    let content = table.required_string(SOURCE);
    let attributes = Attributes::read(table, 0o644);
    Some(Box::new(FileResource { path: path?, content: content?.value, attributes }))
}
