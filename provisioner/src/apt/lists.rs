//! Lists of sources that something else wrote: taking entries out of use, with the rest as it is.

use std::fs;
use std::os::unix::fs::MetadataExt;

use toril_machine::{FileAttributes, Machine, Probe, write_atomically};

use crate::resource::ResourceError;

/// What an entry that is out of use begins with.
pub(crate) const MARK: &str = "# toril: ";

/// Which entries are to be out of use.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    /// All of these lists.
    pub(crate) files: Vec<String>,
    /// Those of any list that name a mirror at one of these, or below it. `*` stands for anything but a slash.
    pub(crate) uris: Vec<String>,
    /// Of those mirrors, only the entries with such a suite, where there are some here; `*` as above.
    pub(crate) suites: Vec<String>,
}

/// The mirrors and suites of an entry.
struct Entry<'t> {
    uris: Vec<&'t str>,
    suites: Vec<&'t str>,
}

impl Retired {
    fn has(&self, entry: &Entry<'_>) -> bool {
        let is_retired = |uri: &&str| self.uris.iter().any(|retired| is_below(uri, retired));
        let is_suite = |suite: &&str| self.suites.iter().any(|pattern| fits(suite, pattern) == Some(""));
        entry.uris.iter().any(is_retired) && (self.suites.is_empty() || entry.suites.iter().any(is_suite))
    }
}

/// The lists with something to take out of use: path, text now, text then. `own` is left alone.
pub(crate) fn to_retire(
    machine: &Machine,
    retired: &Retired,
    own: &str,
) -> Result<Vec<(String, String, String)>, ResourceError> {
    let mut paths = retired.files.clone();
    if !retired.uris.is_empty() {
        paths.extend(all(machine)?);
        paths.sort();
        paths.dedup();
    }
    let mut found = Vec::new();
    for path in paths.into_iter().filter(|path| path != own) {
        let Some(text) = machine.read(&path).known().map_err(ResourceError)? else { continue };
        let whole = retired.files.contains(&path);
        let is_retired = |entry: &Entry<'_>| whole || retired.has(entry);
        let after = match path.ends_with(".sources") {
            true => retire_paragraphs(&text, is_retired),
            false => retire_lines(&text, is_retired),
        };
        if after != text {
            found.push((path, text, after));
        }
    }
    Ok(found)
}

/// Writes a list anew, with the owner and mode it has.
pub(crate) fn replace(machine: &Machine, path: &str, text: &str) -> Result<(), ResourceError> {
    let place = machine.path(path);
    let metadata =
        fs::metadata(&place).map_err(|error| ResourceError(format!("cannot read {path}: {error}")))?;
    let attributes =
        FileAttributes { uid: metadata.uid(), gid: metadata.gid(), mode: metadata.mode() & 0o7777 };
    write_atomically(&place, text.as_bytes(), Some(attributes)).map_err(ResourceError::new)
}

/// Every list that apt reads.
fn all(machine: &Machine) -> Result<Vec<String>, ResourceError> {
    const PARTS: &str = "/etc/apt/sources.list.d";
    let mut paths = vec!["/etc/apt/sources.list".to_owned()];
    let entries = Probe::of_io(fs::read_dir(machine.path(PARTS)), PARTS);
    for entry in entries.known().map_err(ResourceError)?.into_iter().flatten() {
        let entry = entry.map_err(|error| ResourceError(format!("cannot read {PARTS}: {error}")))?;
        let name = entry.file_name();
        if let Some(name) = name.to_str().filter(|name| name.ends_with(".list") || name.ends_with(".sources"))
        {
            paths.push(format!("{PARTS}/{name}"));
        }
    }
    Ok(paths)
}

/// The mirrors that the lists name, in their order.
pub(crate) fn mirrors(machine: &Machine) -> Result<Vec<String>, ResourceError> {
    let mut found = Vec::new();
    for path in all(machine)? {
        let Some(text) = machine.read(&path).known().map_err(ResourceError)? else { continue };
        let entries: Vec<Entry<'_>> = match path.ends_with(".sources") {
            true => {
                let lines: Vec<&str> = text.lines().collect();
                lines.split(|line| line.trim().is_empty()).map(entry_of_paragraph).collect()
            }
            false => text.lines().filter_map(entry_of_line).collect(),
        };
        found.extend(entries.into_iter().flat_map(|entry| entry.uris).map(str::to_owned));
    }
    Ok(found)
}

/// The lists of the sources of what the lists name, each with the name that its file must have.
pub(crate) fn source_lists(machine: &Machine) -> Result<Vec<(String, String)>, ResourceError> {
    let mut found = Vec::new();
    for path in all(machine)? {
        let Some(text) = machine.read(&path).known().map_err(ResourceError)? else { continue };
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        found.push((name, sources_instead(&text, path.ends_with(".sources"))));
    }
    Ok(found)
}

/// A list of the sources of what another list names.
fn sources_instead(text: &str, is_deb822: bool) -> String {
    let lines = text.lines().filter_map(|line| match is_deb822 {
        true => match line.split_once(':') {
            Some((key, _)) if key.eq_ignore_ascii_case("types") => Some("Types: deb-src".to_owned()),
            _ => Some(line.to_owned()),
        },
        false => {
            let rest = line.trim_start().strip_prefix("deb")?;
            rest.starts_with([' ', '\t']).then(|| format!("deb-src{rest}"))
        }
    });
    lines.map(|line| line + "\n").collect()
}

/// Whether a mirror is this one: `http://h/debian` is not `http://h/debian-security`.
fn is_below(uri: &str, retired: &str) -> bool {
    let retired = retired.trim_end_matches('/');
    fits(uri, retired).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What follows the part of a text that a pattern stands for, as long as that can be.
fn fits<'t>(text: &'t str, pattern: &str) -> Option<&'t str> {
    let Some((before, after)) = pattern.split_once('*') else { return text.strip_prefix(pattern) };
    let rest = text.strip_prefix(before)?;
    let end = rest.find('/').unwrap_or(rest.len());
    // From the right, and never within a character.
    (0..=end).rev().find_map(|length| fits(rest.get(length..)?, after))
}

/// Lists of the one-line style: sources.list(5).
fn retire_lines(text: &str, is_retired: impl Fn(&Entry<'_>) -> bool) -> String {
    let lines = text.split_inclusive('\n').map(|line| match entry_of_line(line) {
        Some(entry) if is_retired(&entry) => format!("{MARK}{line}"),
        _ => line.to_owned(),
    });
    lines.collect()
}

/// Of `deb [arch=amd64 signed-by=/k] http://h/debian bookworm main`.
fn entry_of_line(line: &str) -> Option<Entry<'_>> {
    let line = line.trim_start();
    let rest = ["deb-src", "deb"].iter().find_map(|kind| line.strip_prefix(kind))?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    Some(Entry { uris: vec![words.next()?], suites: words.next().into_iter().collect() })
}

/// Lists of paragraphs: one is out of use if any of its mirrors is.
fn retire_paragraphs(text: &str, is_retired: impl Fn(&Entry<'_>) -> bool) -> String {
    let mut after = String::with_capacity(text.len() + 80);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for paragraph in lines.split_inclusive(|line| line.trim().is_empty()) {
        let retire = is_retired(&entry_of_paragraph(paragraph));
        for line in paragraph {
            if retire && !line.starts_with('#') && !line.trim().is_empty() {
                after.push_str(MARK);
            }
            after.push_str(line);
        }
    }
    after
}

fn entry_of_paragraph<'t>(lines: &[&'t str]) -> Entry<'t> {
    let mut entry = Entry { uris: Vec::new(), suites: Vec::new() };
    let mut field = String::new();
    for line in lines.iter().copied().filter(|line| !line.starts_with('#')) {
        let value = match line.starts_with([' ', '\t']) {
            true => line,
            false => {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                field = name.trim().to_ascii_lowercase();
                value
            }
        };
        match field.as_str() {
            "uris" => entry.uris.extend(value.split_whitespace()),
            "suites" => entry.suites.extend(value.split_whitespace()),
            _ => {}
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead() -> Retired {
        Retired { uris: vec!["http://dead/debian".into()], ..Retired::default() }
    }

    #[test]
    fn sources_of_what_lists_name() {
        let line = "# deb http://h/old x main\ndeb [signed-by=/k] http://h/debian bookworm main\ndeb-src http://h/s b main\n";
        assert_eq!(sources_instead(line, false), "deb-src [signed-by=/k] http://h/debian bookworm main\n");
        let paragraphs =
            "Types: deb deb-src\nURIs: http://h/debian\nSuites: a b\n\ntypes: deb\nEnabled: no\n";
        let sources = "Types: deb-src\nURIs: http://h/debian\nSuites: a b\n\nTypes: deb-src\nEnabled: no\n";
        assert_eq!(sources_instead(paragraphs, true), sources);
    }

    #[test]
    fn lines_of_a_dead_mirror_are_commented_out() {
        let text = "# deb http://dead/debian a main\n\
            deb http://dead/debian buster main\n\
            deb-src [arch=amd64 signed-by=/k] http://dead/debian/ buster main\n\
            deb http://dead/debian-security buster/updates main\n\
            deb https://download.docker.com/linux buster stable";
        let after = retire_lines(text, |entry| dead().has(entry));
        let changed: Vec<&str> = after.lines().filter(|line| line.starts_with(MARK)).collect();
        assert_eq!(changed.len(), 2, "{after}");
        assert!(after.ends_with("buster stable") && after.contains("\ndeb http://dead/debian-security"));
        assert_eq!(retire_lines(&after, |entry| dead().has(entry)), after, "idempotent");
    }

    #[test]
    fn paragraphs_too() {
        let text = "Types: deb\nURIs: http://a\n  http://dead/debian/\nSuites: b\n\n# note\nTypes: deb\nURIs: http://c\n";
        let after = retire_paragraphs(text, |entry| dead().has(entry));
        assert!(after.starts_with("# toril: Types: deb\n# toril: URIs: http://a\n# toril:   http://dead"));
        assert!(after.ends_with("\n\n# note\nTypes: deb\nURIs: http://c\n"), "{after}");
        assert_eq!(retire_paragraphs(&after, |_| true), retire_paragraphs(text, |_| true));
    }

    #[test]
    fn every_mirror_of_a_release_that_is_dead() {
        let retired = Retired {
            uris: vec!["http://*/debian".into(), "http://security.*".into()],
            suites: vec!["buster".into(), "buster*".into(), "buster/*".into()],
            ..Retired::default()
        };
        let cases = [
            ("deb http://ftp.example/debian buster main", true),
            ("deb http://ftp.example/debian/ buster-updates main contrib", true),
            ("deb http://security.example/ buster/updates main", true),
            ("deb http://security.example buster/updates main", true),
            ("deb http://ftp.example/debian bullseye main", false),
            ("deb http://ftp.example/linux/debian buster stable", false),
            ("deb http://ftp.example/debian-security buster/updates main", false),
            ("deb http://other.example/node_14.x buster main", false),
            ("deb http://\u{e9}/debian", false),
        ];
        for (line, expected) in cases {
            let after = retire_lines(line, |entry| retired.has(entry));
            assert_eq!(after.starts_with(MARK), expected, "{line}");
        }
        let text =
            "Types: deb\nURIs: http://ftp.example/debian\nSuites: bullseye\n  buster\nComponents: main\n";
        assert!(retire_paragraphs(text, |entry| retired.has(entry)).starts_with(MARK));
        let text = text.replace("  buster", "  sid");
        assert_eq!(retire_paragraphs(&text, |entry| retired.has(entry)), text);
    }

    #[test]
    fn every_list_is_looked_at_but_the_own_one() {
        let root = tempfile::tempdir().unwrap();
        let parts = root.path().join("etc/apt/sources.list.d");
        fs::create_dir_all(&parts).unwrap();
        let line = "deb http://dead/debian buster main\n";
        for name in ["../sources.list", "a.list", "a.list.save"] {
            fs::write(parts.join(name), line).unwrap();
        }
        fs::write(parts.join("own.sources"), "Types: deb\nURIs: http://dead/debian\n").unwrap();
        let own = "/etc/apt/sources.list.d/own.sources";
        let found = to_retire(&Machine::at(root.path()), &dead(), own).unwrap();
        let paths: Vec<&str> = found.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(paths, ["/etc/apt/sources.list", "/etc/apt/sources.list.d/a.list"]);
    }
}
