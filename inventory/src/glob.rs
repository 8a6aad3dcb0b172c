//! Names of files with wildcards, as glob(7) has them.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The files that a path stands for, any part of which may have wildcards, in the order of their names. None is no mistake.
///
/// # Errors
/// A directory that is there cannot be read.
pub(crate) fn files(pattern: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        if !part.as_bytes().iter().any(|c| b"*?[\\".contains(c)) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut deeper = Vec::new();
        for directory in &found {
            deeper.extend(entries(directory, part).map_err(|error| (directory.clone(), error))?);
        }
        found = deeper;
    }
    found.retain(|path| path.is_file());
    found.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    Ok(found)
}

/// What of a directory is like a pattern.
fn entries(directory: &Path, pattern: &OsStr) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let like = names.filter(|name| is_like(pattern.as_bytes(), name.as_bytes()));
    Ok(like.map(|name| directory.join(name)).collect())
}

/// Whether a name is like a pattern, whose wildcards find no hidden files.
fn is_like(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut pattern, mut rest) = (pattern, name);
    // After the last `*`: the pattern, and the name from where it has been tried.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some((b'*', after)) = pattern.split_first() {
            pattern = after;
            star = Some((after, rest));
            continue;
        }
        match rest.split_first() {
            None if pattern.is_empty() => return true,
            Some((c, shorter)) => match after_one(pattern, *c) {
                Some(after) => (pattern, rest) = (after, shorter),
                None => match star.and_then(|(after, from)| Some((after, from.split_first()?.1))) {
                    Some(next) => {
                        star = Some(next);
                        (pattern, rest) = next;
                    }
                    None => return false,
                },
            },
            None => return false,
        }
    }
}

/// What of a pattern is left, if it begins with what takes this one character.
fn after_one(pattern: &[u8], c: u8) -> Option<&[u8]> {
    match pattern.split_first()? {
        (b'?', after) => Some(after),
        (b'[', after) => match set(after, c) {
            Some((is_in, after)) => is_in.then_some(after),
            // Without its end it is a character like others.
            None => (c == b'[').then_some(after),
        },
        (b'\\', [quoted, after @ ..]) => (*quoted == c).then_some(after),
        (same, after) => (*same == c).then_some(after),
    }
}

/// Whether a character is one of a set such as `a-z]`, and what comes after that; `None` where it has no end.
fn set(pattern: &[u8], c: u8) -> Option<(bool, &[u8])> {
    let (is_not, mut rest) = match pattern.split_first()? {
        (b'!' | b'^', rest) => (true, rest),
        _ => (false, pattern),
    };
    let (mut is_in, mut is_first) = (false, true);
    loop {
        match rest {
            [b']', after @ ..] if !is_first => return Some((is_in != is_not, after)),
            [from, b'-', to, after @ ..] if *to != b']' => {
                is_in |= (*from..=*to).contains(&c);
                rest = after;
            }
            [one, after @ ..] => {
                is_in |= *one == c;
                rest = after;
            }
            [] => return None,
        }
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".a.conf", false),
            (".*", ".a", true),
            ("a?c", "abc", true),
            ("a?", "a", false),
            ("*", "x", true),
            ("", "", true),
            ("a*b", "ac", false),
            ("a*b*c", "a-b-b-c", true),
            ("a**c", "ac", true),
            ("[a-c]1", "b1", true),
            ("[a-c]1", "d1", false),
            ("[!a]x", "bx", true),
            ("[^a]x", "ax", false),
            ("[]a]", "]", true),
            ("[a-]", "-", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
        ] {
            assert_eq!(is_like(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        // Each `*` that is tried everywhere would be tried for ever.
        assert!(!is_like("*a".repeat(60).as_bytes(), "a".repeat(59).as_bytes()));
        assert!(!is_like(format!("{}b", "a*".repeat(60)).as_bytes(), "a".repeat(200).as_bytes()));
    }

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
        assert_eq!((found("absent/*"), found("config/*"), found("absent")), (vec![], vec![], vec![]));
    }

    proptest::proptest! {
        #[test]
        fn a_quoted_name_is_like_itself_alone(name in "[a-z*?\\[\\]-]{1,8}", other in "[a-z*?\\[\\]-]{1,8}") {
            let quoted: String = name.chars().flat_map(|c| ['\\', c]).collect();
            proptest::prop_assert!(is_like(quoted.as_bytes(), name.as_bytes()));
            proptest::prop_assert_eq!(is_like(quoted.as_bytes(), other.as_bytes()), name == other);
        }

        #[test]
        fn no_pattern_makes_it_panic(pattern in ".*", name in ".*") {
            is_like(pattern.as_bytes(), name.as_bytes());
        }
    }
}
