//! Dependencies of installed packages that are not met. Apt does nothing else before they are.

use std::collections::{HashMap, HashSet};

use debversion::Version;

/// What a package is there as, for dependencies.
#[derive(Debug, Default)]
pub(super) struct Presence<'t> {
    /// The versions by which a name is met: the package's own, and those that others provide. `None`: without a version,
    /// which meets no dependency on one.
    names: HashMap<&'t str, Vec<Option<Version>>>,
    /// Dependencies that are met, as they stand: hundreds of packages have the same few.
    met: HashSet<&'t str>,
}

impl<'t> Presence<'t> {
    /// Takes a package in that is installed.
    pub(super) fn add(&mut self, name: &'t str, version: &str, provides: &'t str) {
        self.names.entry(name).or_default().push(version.parse().ok());
        for provided in provides.split(',').filter_map(parse) {
            let version = provided.version.and_then(|(_, version)| version.parse().ok());
            self.names.entry(provided.name).or_default().push(version);
        }
    }

    /// The first of these dependencies that is not met, as it stands.
    pub(super) fn unmet(&mut self, depends: &'t str) -> Option<&'t str> {
        depends.split(',').map(str::trim).find(|alternatives| {
            let is_met = self.met.contains(alternatives) || self.is_met(alternatives);
            if is_met {
                self.met.insert(alternatives);
            }
            !is_met
        })
    }

    fn is_met(&self, alternatives: &str) -> bool {
        let mut alternatives = alternatives.split('|').filter_map(parse).peekable();
        // What cannot be read is not said to be missing.
        alternatives.peek().is_none() || alternatives.any(|one| self.meets(&one))
    }

    fn meets(&self, dependency: &Dependency<'_>) -> bool {
        let Some(versions) = self.names.get(dependency.name) else { return false };
        let Some((relation, wanted)) = dependency.version else { return true };
        let Ok(wanted) = wanted.parse::<Version>() else { return true };
        versions.iter().flatten().any(|version| match relation {
            "<<" => version < &wanted,
            "<=" | "<" => version <= &wanted,
            "=" => version == &wanted,
            ">>" => version > &wanted,
            _ => version >= &wanted,
        })
    }
}

/// One alternative, such as `libc6 (>= 2.36)`.
struct Dependency<'t> {
    name: &'t str,
    /// The relation and the version.
    version: Option<(&'t str, &'t str)>,
}

fn parse(text: &str) -> Option<Dependency<'_>> {
    let (name, rest) = text.trim().split_once([' ', '(']).unwrap_or((text.trim(), ""));
    // `:any` and the like: which architecture it may be of.
    let name = name.split(':').next().filter(|name| !name.is_empty())?;
    let version = rest.trim_start_matches([' ', '(']).split(')').next().map(str::trim).unwrap_or_default();
    let end = version.find(|c| !matches!(c, '<' | '=' | '>')).unwrap_or(version.len());
    let (relation, version) = version.split_at(end);
    let version = Some((relation, version.trim())).filter(|(relation, _)| !relation.is_empty());
    Some(Dependency { name, version })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_dependencies_are_read(text in r"([a-z:|, ()<>=~.0-9-]|é){0,60}") {
            let mut presence = Presence::default();
            presence.add("a", "1", &text);
            if let Some(unmet) = presence.unmet(&text) {
                prop_assert!(text.contains(unmet));
            }
        }
    }

    #[test]
    fn versions_alternatives_and_provided_names() {
        let mut presence = Presence::default();
        presence.add("libc6", "2.36-9", "");
        presence.add("mawk", "1.3", "awk");
        presence.add("new", "1", "old (= 5), old2");
        for met in [
            "",
            "libc6 (>= 2.36), awk",
            "libc6:any (= 2.36-9)",
            "nothing | mawk",
            "old (>= 4)",
            "libc6(<< 3)",
            "old2",
        ] {
            assert_eq!(presence.unmet(met), None, "{met}");
        }
        for (all, unmet) in [
            ("libc6, libc6 (>= 2.37), mawk", "libc6 (>= 2.37)"),
            ("libc6, nothing | none, mawk", "nothing | none"),
            ("libc6, awk (>= 1), mawk", "awk (>= 1)"),
            ("libc6, old (>> 5), mawk", "old (>> 5)"),
            ("libc6, old2 (= 1), mawk", "old2 (= 1)"),
        ] {
            assert_eq!(presence.unmet(all), Some(unmet));
        }
    }
}
