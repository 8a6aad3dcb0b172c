//! Files by names with wildcards.

use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, glob_with};

/// As glob(3) has it for ssh: wildcards find neither hidden files nor what is deeper.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The files that a path stands for, any part of which may have wildcards, in the order of their names. None is no mistake.
///
/// # Errors
/// It is no pattern, or a directory that is there cannot be read.
pub(crate) fn files(pattern: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    // Both say of a set that it is of other characters.
    let text = pattern.to_string_lossy().replace("[^", "[!");
    let paths = glob_with(&text, OPTIONS).map_err(|error| (pattern.to_owned(), io::Error::other(error)))?;
    let mut found = Vec::new();
    for path in paths {
        found.push(path.map_err(|error| (error.path().to_owned(), error.into()))?);
    }
    found.retain(|path| path.is_file());
    // Of whole paths: the first line that says something counts.
    found.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn any_part_of_a_path_may_have_wildcards() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b/config", "a/config", "a/other", "a-1/config", ".hidden/config", "config"] {
            let file = directory.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        fs::create_dir(directory.path().join("a/directory")).unwrap();
        let found = |pattern: &str| {
            let found = files(&directory.path().join(pattern)).unwrap();
            let names = found
                .iter()
                .map(|path| path.strip_prefix(directory.path()).unwrap().to_str().unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(found("*/config"), ["a-1/config", "a/config", "b/config"]);
        assert_eq!(found("?/c*"), ["a/config", "b/config"]);
        assert_eq!(found("a/*"), ["a/config", "a/other"]);
        assert_eq!(found("config"), ["config"]);
        assert_eq!(found("[^b]/c*"), ["a/config"]);
        assert_eq!((found("absent/*"), found("config/*"), found("absent")), (vec![], vec![], vec![]));
        assert!(files(Path::new("/a***")).is_err());
    }
}
