//! Files of ssh's configuration, and the hosts that they name.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Ssh;
use crate::glob::files;
use crate::imported::Imported;
use crate::layer::{Layer, Said, Setting};
use crate::read::{home_path, is_reserved};

/// How deep files may include others, as ssh has it.
const DEEPEST: usize = 16;

/// A file of ssh's configuration, with the files that it includes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshConfig(pub Vec<SshConfigItem>);

/// What stands in such a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshConfigItem {
    /// A line that says something.
    Line(SshConfigLine),
    /// What an included file says.
    Included(SshConfig),
}

/// A line that is no comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshConfigLine {
    /// In small letters.
    pub keyword: String,
    /// What it is set to.
    pub words: Vec<String>,
    /// The line as it stands there, without blanks around it.
    pub text: String,
    /// File and line, for messages.
    pub place: String,
}

/// A file of ssh's configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", file.display())]
pub struct SshConfigError {
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl SshConfig {
    /// Reads a file, and those that it includes, whose relative names ssh looks for in `~/.ssh`, wherever the file is.
    ///
    /// # Errors
    /// One of them is there, or is this one, and cannot be read.
    pub fn read(file: &Path) -> Result<SshConfig, SshConfigError> {
        read(file, &users_directory(), 0)
    }

    /// The configuration that a text is, which includes nothing.
    #[must_use]
    pub fn parse(file: &Path, text: &str) -> SshConfig {
        SshConfig(lines(file, text).map(SshConfigItem::Line).collect())
    }
}

impl SshConfigLine {
    /// A line by itself, such as an option on the command line; `None` where it says nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<SshConfigLine> {
        let text = text.trim();
        let end = text.find(|c: char| c.is_whitespace() || c == '=')?;
        let keyword = text.get(..end)?.to_ascii_lowercase();
        let rest = text.get(end..)?.trim_start();
        let words = words(rest.strip_prefix('=').unwrap_or(rest));
        let says = !keyword.is_empty() && !keyword.starts_with('#');
        says.then(|| SshConfigLine { keyword, words, text: text.to_owned(), place: String::new() })
    }
}

impl Imported {
    /// The hosts of a file of ssh's configuration: the names after `Host` that have no wildcard, in the file and in those
    /// that it includes. How they are reached is left to that file.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn ssh_config(path: &Path) -> Result<Imported, String> {
        Imported::ssh_config_beside(path, &users_directory())
    }

    /// The same, where relative names of included files are looked for in this directory.
    fn ssh_config_beside(path: &Path, directory: &Path) -> Result<Imported, String> {
        let config = read(path, directory, 0).map_err(|error| format!("{error}: {}", error.source))?;
        let mut names = BTreeSet::new();
        collect(&config, &mut names);
        let mut layer = Layer::default();
        if !is_users(path) {
            let file = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let place = file.display().to_string();
            layer.keys.insert("ssh-config", Said { value: Setting::Path(file), place });
        }
        let hosts = names.into_iter().map(|name| (name, layer.clone()));
        Ok(Imported { hosts: hosts.collect(), ..Imported::default() })
    }
}

fn users_directory() -> PathBuf {
    home_path("~/.ssh")
}

/// Whether it is the file that ssh reads by itself.
fn is_users(path: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    real(path).is_some_and(|path| real(&users_directory().join("config")) == Some(path))
}

fn collect(config: &SshConfig, names: &mut BTreeSet<String>) {
    for item in &config.0 {
        match item {
            SshConfigItem::Line(line) if line.keyword == "host" => {
                names.extend(line.words.iter().filter(|word| is_name(word)).cloned());
            }
            SshConfigItem::Line(_) => {}
            SshConfigItem::Included(included) => collect(included, names),
        }
    }
}

fn read(file: &Path, directory: &Path, depth: usize) -> Result<SshConfig, SshConfigError> {
    let failed = |file: &Path, source| SshConfigError { file: file.to_owned(), source };
    if depth > DEEPEST {
        return Err(failed(file, io::Error::other("files include each other without end")));
    }
    let bytes = fs::read(file).map_err(|error| failed(file, error))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut items = Vec::new();
    for line in lines(file, &text) {
        if line.keyword != "include" {
            items.push(SshConfigItem::Line(line));
            continue;
        }
        for word in &line.words {
            for found in included(word, directory).map_err(|(file, error)| failed(&file, error))? {
                items.push(SshConfigItem::Included(read(&found, directory, depth + 1)?));
            }
        }
    }
    Ok(SshConfig(items))
}

fn lines<'t>(file: &'t Path, text: &'t str) -> impl Iterator<Item = SshConfigLine> + 't {
    let numbered = text.lines().enumerate();
    numbered.filter_map(|(number, text)| {
        let place = format!("{}, line {}", file.display(), number + 1);
        SshConfigLine::parse(text).map(|line| SshConfigLine { place, ..line })
    })
}

/// A name of one host, which toril can call so.
fn is_name(word: &str) -> bool {
    !word.contains(['*', '?', '!']) && !is_reserved(word) && Ssh::parse(word).is_ok()
}

/// Words, in which what stands in double quotes may have spaces; a `#` before a word ends them.
fn words(value: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in value.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            '#' if word.is_empty() && !quoted => return words,
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The files of an `Include`. One that is not there is no mistake.
fn included(word: &str, directory: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    if word.starts_with('~') && !word.starts_with("~/") {
        let reason = "the home of another user is not looked up: write the whole path";
        return Err((PathBuf::from(word), io::Error::other(reason)));
    }
    files(&directory.join(home_path(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_wildcards_of_all_files() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        for name in ["more", "home/more"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        write("more/beside.conf", "Host beside\n");
        write("home/more/a.conf", "Host inner-1\n  HostName 203.0.113.9\n");
        write("home/more/.hidden.conf", "Host hidden\n");
        write(
            "config",
            "# Host no\nHost one two *.lab !not\n\tHostname=10.0.0.1\nHOST=\"three\" # four\nMatch host five\n\
             Include more/*.conf absent\nHost local sandbox:x -bad\nHost *\n",
        );
        let read =
            || Imported::ssh_config_beside(&directory.path().join("config"), &directory.path().join("home"));
        let imported = read().unwrap();
        assert_eq!(imported.hosts.keys().collect::<Vec<_>>(), ["inner-1", "one", "three", "two"]);
        let layer = &imported.hosts["inner-1"];
        let file = layer.ssh("inner-1").config.unwrap();
        assert!(file.is_absolute() && file.ends_with("config"), "{file:?}");
        write("config", "Include config\n");
        assert!(read().unwrap().hosts.is_empty(), "it is not the file of this name in the home");
        write("config", &format!("Include {}\n", directory.path().join("config").display()));
        assert!(read().unwrap_err().contains("without end"));
        write("config", "Include ~somebody/config\n");
        assert!(read().unwrap_err().contains("write the whole path"));
        let absent = Imported::ssh_config(&directory.path().join("absent")).unwrap_err();
        assert!(absent.contains("cannot read"), "{absent}");
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(text in ".*") {
            if let Some(line) = SshConfigLine::parse(&text) {
                proptest::prop_assert!(!line.keyword.is_empty());
            }
        }

        #[test]
        fn quoted_values_keep_their_spaces(words_in in proptest::collection::vec("[a-z~/][a-z /]{0,8}", 1..4)) {
            let text = words_in.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join("  ");
            proptest::prop_assert_eq!(words(&text), words_in);
        }
    }
}
