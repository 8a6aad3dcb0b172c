//! The hosts that a user's ssh configuration names.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Ssh;
use crate::imported::Imported;
use crate::read::{home_path, is_reserved};

/// How deep files may include others, as ssh has it.
const DEEPEST: usize = 16;

impl Imported {
    /// The hosts of a file of ssh's configuration: the names after `Host` that have no wildcard, in the file and in those
    /// that it includes. How they are reached is left to ssh, which reads the same file.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn ssh_config(path: &Path) -> Result<Imported, String> {
        let mut names = BTreeSet::new();
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        read(path, &directory, 0, &mut names)?;
        let hosts = names.into_iter().map(|name| (name, crate::Layer::default()));
        Ok(Imported { hosts: hosts.collect(), ..Imported::default() })
    }
}

fn read(path: &Path, directory: &Path, depth: usize, names: &mut BTreeSet<String>) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("{}: files include each other without end", path.display()));
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    for (keyword, words) in text.lines().filter_map(line) {
        match keyword.as_str() {
            "host" => names.extend(words.into_iter().filter(|word| is_name(word))),
            "include" => {
                for word in words {
                    for file in included(&word, directory)
                        .map_err(|(path, error)| format!("cannot look at {}: {error}", path.display()))?
                    {
                        read(&file, directory, depth + 1, names)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A name of one host, which toril can call so.
fn is_name(word: &str) -> bool {
    !word.contains(['*', '?', '!']) && !is_reserved(word) && Ssh::parse(word).is_ok()
}

/// A line's keyword, in small letters, and its words.
fn line(line: &str) -> Option<(String, Vec<String>)> {
    let line = line.trim();
    let end = line.find(|c: char| c.is_whitespace() || c == '=')?;
    let keyword = line.get(..end)?.to_ascii_lowercase();
    let rest = line.get(end..)?.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    (!keyword.is_empty() && !keyword.starts_with('#')).then(|| (keyword, words(rest)))
}

/// Words, of which some stand in quotes; a `#` before a word ends them.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next().filter(|first| *first != '#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        if !word.is_empty() || first == '"' {
            words.push(word.to_owned());
        }
        rest = after.trim_start();
    }
    words
}

/// The files of an `Include`, whose names may have wildcards in their last part. One that is not there is no mistake.
fn included(word: &str, directory: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let path = directory.join(home_path(word));
    let Some(pattern) =
        path.file_name().and_then(|name| name.to_str()).filter(|name| name.contains(['*', '?']))
    else {
        return Ok(if path.is_file() { vec![path] } else { Vec::new() });
    };
    let parent = path.parent().unwrap_or(Path::new(""));
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err((parent.to_owned(), error)),
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| is_like(pattern.as_bytes(), name.as_bytes()))
        })
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    Ok(found)
}

/// Whether a name is like a pattern of a shell's, which does not find hidden files by a wildcard.
fn is_like(pattern: &[u8], name: &[u8]) -> bool {
    fn from(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                from(rest, name) || name.split_first().is_some_and(|(_, shorter)| from(pattern, shorter))
            }
            (Some((b'?', rest)), Some((_, shorter))) => from(rest, shorter),
            (Some((a, rest)), Some((b, shorter))) => a == b && from(rest, shorter),
            _ => false,
        }
    }
    let hidden = name.first() == Some(&b'.') && pattern.first() != Some(&b'.');
    !hidden && from(pattern, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_wildcards_of_all_files() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        fs::create_dir(directory.path().join("more")).unwrap();
        write("more/a.conf", "Host inner-1\n  HostName 203.0.113.9\n");
        write("more/.hidden.conf", "Host hidden\n");
        write(
            "config",
            "# Host no\nHost one two *.lab !not\n\tHostname=10.0.0.1\nHOST=\"three\" # four\nMatch host five\n\
             Include more/*.conf absent\nHost local sandbox:x -bad\nHost *\n",
        );
        let imported = Imported::ssh_config(&directory.path().join("config")).unwrap();
        assert_eq!(imported.hosts.keys().collect::<Vec<_>>(), ["inner-1", "one", "three", "two"]);
        write("config", "Include config\n");
        assert!(Imported::ssh_config(&directory.path().join("config")).unwrap_err().contains("without end"));
        let absent = Imported::ssh_config(&directory.path().join("absent")).unwrap_err();
        assert!(absent.contains("cannot read"), "{absent}");
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".a.conf", false),
            ("a?c", "abc", true),
            ("*", "x", true),
            ("a*b", "ac", false),
        ] {
            assert_eq!(is_like(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(text in ".*") {
            if let Some((keyword, _)) = line(&text) {
                proptest::prop_assert!(!keyword.is_empty());
            }
        }
    }
}
