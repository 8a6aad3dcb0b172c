//! Lists of sources that something else wrote: taking entries out of use, with the rest as it is.

use std::fs;
use std::os::unix::fs::MetadataExt;

use toril_machine::{FileAttributes, Machine, Probe, write_atomically};

use crate::resource::ResourceError;

/// What an entry that is out of use begins with.
const MARK: &str = "# toril: ";

/// Which entries are to be out of use.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    /// All of these lists.
    pub(crate) files: Vec<String>,
    /// Those of any list that name a mirror that begins with one of these.
    pub(crate) uris: Vec<String>,
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
        let is_retired = |uri: &str| whole || retired.uris.iter().any(|retired| is_below(uri, retired));
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

/// Whether a mirror is this one: `http://h/debian` is not `http://h/debian-security`.
fn is_below(uri: &str, retired: &str) -> bool {
    let retired = retired.trim_end_matches('/');
    uri.strip_prefix(retired).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Lists of the one-line style: sources.list(5).
fn retire_lines(text: &str, is_retired: impl Fn(&str) -> bool) -> String {
    let lines = text.split_inclusive('\n').map(|line| match uri_of_line(line) {
        Some(uri) if is_retired(uri) => format!("{MARK}{line}"),
        _ => line.to_owned(),
    });
    lines.collect()
}

/// The mirror of `deb [arch=amd64 signed-by=/k] http://h/debian bookworm main`.
fn uri_of_line(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = ["deb-src", "deb"].iter().find_map(|kind| line.strip_prefix(kind))?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    rest.split_whitespace().next()
}

/// Lists of paragraphs: one is out of use if any of its mirrors is.
fn retire_paragraphs(text: &str, is_retired: impl Fn(&str) -> bool) -> String {
    let mut after = String::with_capacity(text.len() + 80);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for paragraph in lines.split_inclusive(|line| line.trim().is_empty()) {
        let retire = uris_of_paragraph(paragraph).iter().any(|uri| is_retired(uri));
        for line in paragraph {
            if retire && !line.starts_with('#') && !line.trim().is_empty() {
                after.push_str(MARK);
            }
            after.push_str(line);
        }
    }
    after
}

fn uris_of_paragraph<'t>(lines: &[&'t str]) -> Vec<&'t str> {
    let mut uris = Vec::new();
    let mut in_field = false;
    for line in lines.iter().copied().filter(|line| !line.starts_with('#')) {
        let value = match line.starts_with([' ', '\t']) {
            true => line,
            false => {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                in_field = name.trim().eq_ignore_ascii_case("URIs");
                value
            }
        };
        if in_field {
            uris.extend(value.split_whitespace());
        }
    }
    uris
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_dead_mirror_are_commented_out() {
        let text = "# deb http://dead/debian a main\n\
            deb http://dead/debian buster main\n\
            deb-src [arch=amd64 signed-by=/k] http://dead/debian/ buster main\n\
            deb http://dead/debian-security buster/updates main\n\
            deb https://download.docker.com/linux buster stable";
        let after = retire_lines(text, |uri| is_below(uri, "http://dead/debian"));
        let changed: Vec<&str> = after.lines().filter(|line| line.starts_with(MARK)).collect();
        assert_eq!(changed.len(), 2, "{after}");
        assert!(after.ends_with("buster stable") && after.contains("\ndeb http://dead/debian-security"));
        assert_eq!(retire_lines(&after, |uri| is_below(uri, "http://dead/debian")), after, "idempotent");
    }

    #[test]
    fn paragraphs_too() {
        let text = "Types: deb\nURIs: http://a\n  http://dead/debian/\nSuites: b\n\n# note\nTypes: deb\nURIs: http://c\n";
        let after = retire_paragraphs(text, |uri| is_below(uri, "http://dead/debian"));
        assert!(after.starts_with("# toril: Types: deb\n# toril: URIs: http://a\n# toril:   http://dead"));
        assert!(after.ends_with("\n\n# note\nTypes: deb\nURIs: http://c\n"), "{after}");
        assert_eq!(retire_paragraphs(&after, |_| true), retire_paragraphs(text, |_| true));
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
        let retired = Retired { files: Vec::new(), uris: vec!["http://dead/debian".into()] };
        let own = "/etc/apt/sources.list.d/own.sources";
        let found = to_retire(&Machine::at(root.path()), &retired, own).unwrap();
        let paths: Vec<&str> = found.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(paths, ["/etc/apt/sources.list", "/etc/apt/sources.list.d/a.list"]);
    }
}
