//! Recipes, suites and inventories of tests.

use std::fs;

use tempfile::NamedTempFile;

/// A file that is gone with this guard.
pub(crate) struct Document(NamedTempFile);

/// A TOML file with this text.
pub(crate) fn document(text: &str) -> Document {
    let file = NamedTempFile::with_suffix(".toml").unwrap();
    fs::write(file.path(), text).unwrap();
    Document(file)
}

impl Document {
    pub(crate) fn path(&self) -> String {
        self.0.path().to_str().unwrap().to_owned()
    }
}
