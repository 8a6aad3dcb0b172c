use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use debversion::Version;
use toril_document::{Document, Located, Problem, Problems, Source, Table, Value};

use super::{LockedHost, LockedProgram};
use crate::recipe::{RecipeFile, Release};

/// A lock file: what `toril recipe lock` has seen, and what hosts are held to from then on.
#[derive(Debug, Clone, Default)]
pub struct Lock {
    /// The recipe that it is for: the name of a built-in one, or of a file.
    pub recipe: String,
    /// What the recipe leaves out: SHA-256 of files, names of commits. By the names of the resources.
    pub hashes: BTreeMap<String, String>,
    /// What hosts have, by the version of their release, such as `12`.
    pub hosts: BTreeMap<String, LockedHost>,
    source: Option<Arc<Source>>,
    places: BTreeMap<Place, Range<usize>>,
}

/// What of a lock can be wrong beside its form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Recipe,
    Hash(String),
    /// A section, by the release's version.
    Host(String),
    /// A package of a release.
    Package(String, String),
}

impl Lock {
    /// An empty lock of a recipe.
    pub fn of(recipe: &str) -> Lock {
        Lock { recipe: recipe.to_owned(), ..Lock::default() }
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// Every mistake in it, each with its place.
    pub fn read(file: &RecipeFile) -> Result<Lock, Problems> {
        Document::read(&file.origin, &file.text, |table| {
            let source = Some(Arc::clone(table.source()));
            read(table).map(|lock| Lock { source, ..lock })
        })
    }

    /// A mistake in it.
    pub(crate) fn problem(&self, code: &'static str, place: &Place, message: String, help: &str) -> Problem {
        let source = self
            .source
            .clone()
            .unwrap_or_else(|| Arc::new(Source { name: "the lock".into(), text: String::new() }));
        let span = self.places.get(place).cloned().unwrap_or_default();
        Problem { code, message, source, span, help: Some(help.to_owned()) }
    }

    /// The releases of which it holds hosts, such as `debian 12, debian 13`.
    pub(crate) fn releases(&self) -> String {
        let releases: Vec<String> = self.hosts.keys().map(|version| format!("debian {version}")).collect();
        releases.join(", ")
    }
}

fn read(table: &mut Table<'_>) -> Option<Lock> {
    table.rename("the lock");
    let mut places = BTreeMap::new();
    places.insert(Place::Recipe, table.place("recipe"));
    let recipe = table.required_string("recipe");
    let mut hashes = BTreeMap::new();
    if let Some(mut entries) = table.table("hashes") {
        for (name, value) in entries.take_all() {
            places.insert(Place::Hash(name.value.clone()), name.span);
            hashes.extend(hash(&entries, value).map(|hash| (name.value, hash)));
        }
    }
    let mut hosts = BTreeMap::new();
    for mut host in table.tables("host") {
        let release = host.required_string("release");
        let locked = read_host(&mut host, release.as_ref(), &mut places);
        host.finish();
        let (Some(release), Some(locked)) = (release, locked) else { continue };
        let Ok(known) = Release::parse(&release.value) else { continue };
        places.insert(Place::Host(known.version.to_owned()), release.span.clone());
        if hosts.insert(known.version.to_owned(), locked).is_some() {
            let message = format!("{known} stands in the lock twice");
            table.note("R052", release.span, message, None);
        }
    }
    Some(Lock { recipe: recipe?.value, hashes, hosts, source: None, places })
}

fn read_host(
    table: &mut Table<'_>,
    release: Option<&Located<String>>,
    places: &mut BTreeMap<Place, Range<usize>>,
) -> Option<LockedHost> {
    let version = match release.map(|release| (release, Release::parse(&release.value))) {
        Some((_, Ok(known))) => known.version,
        Some((release, Err(message))) => {
            table.note("R004", release.span.clone(), message, None);
            ""
        }
        None => "",
    };
    let kernel = table.required_string("kernel");
    let mut packages = BTreeMap::new();
    if let Some(mut entries) = table.table("packages") {
        for (name, value) in entries.take_all() {
            places.insert(Place::Package(version.to_owned(), name.value.clone()), name.span);
            match &value.value {
                Value::String(text) if text.parse::<Version>().is_ok() => {
                    packages.insert(name.value, text.clone());
                }
                _ => entries.note("R013", value.span, "this is no version of a Debian package", None),
            }
        }
    }
    let mut programs = BTreeMap::new();
    if let Some(entries) = table.table("programs") {
        for (name, mut program) in entries.into_tables() {
            let path = program.required_string("path").map(|path| path.value);
            let sha256 = program.required_string("sha256");
            let sha256 = sha256.and_then(|text| hash(&program, text.map(Value::String)));
            program.finish();
            programs
                .extend(path.zip(sha256).map(|(path, sha256)| (name.value, LockedProgram { path, sha256 })));
        }
    }
    Some(LockedHost { kernel: kernel?.value, packages, programs })
}

/// A hash of a file or the name of a commit.
fn hash(table: &Table<'_>, value: Located<Value>) -> Option<String> {
    match &value.value {
        Value::String(text)
            if matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            Some(text.to_ascii_lowercase())
        }
        _ => {
            let message = "this is neither the SHA-256 of a file, 64 hexadecimal digits, nor a commit, 40";
            table.note("R035", value.span, message, None);
            None
        }
    }
}

impl fmt::Display for Lock {
    /// As a lock file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Written by `toril recipe lock`. Keep it beside the recipe.")?;
        writeln!(f, "recipe = {}", Value::String(self.recipe.clone()))?;
        if !self.hashes.is_empty() {
            writeln!(f, "\n[hashes]")?;
            entries(f, &self.hashes)?;
        }
        for (version, host) in &self.hosts {
            writeln!(f, "\n[[host]]\nrelease = \"debian {version}\"")?;
            writeln!(f, "kernel = {}", Value::String(host.kernel.clone()))?;
            if !host.packages.is_empty() {
                writeln!(f, "\n[host.packages]")?;
                entries(f, &host.packages)?;
            }
            if !host.programs.is_empty() {
                writeln!(f, "\n[host.programs]")?;
            }
            for (name, LockedProgram { path, sha256 }) in &host.programs {
                let table = [("path", path), ("sha256", sha256)];
                let table =
                    Value::Table(table.map(|(key, text)| entry(key, Value::String(text.clone()))).into());
                lines(f, &Value::Table(vec![entry(name, table)]))?;
            }
        }
        Ok(())
    }
}

fn entries(f: &mut fmt::Formatter<'_>, texts: &BTreeMap<String, String>) -> fmt::Result {
    let texts = texts.iter().map(|(name, text)| entry(name, Value::String(text.clone())));
    lines(f, &Value::Table(texts.collect()))
}

fn lines(f: &mut fmt::Formatter<'_>, table: &Value) -> fmt::Result {
    table.entries().iter().try_for_each(|line| writeln!(f, "{line}"))
}

fn entry(key: &str, value: Value) -> (Located<String>, Located<Value>) {
    (Located { value: key.to_owned(), span: 0..0 }, Located { value, span: 0..0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Lock, Vec<String>> {
        let file = RecipeFile { origin: "r.lock".into(), text: text.into() };
        Lock::read(&file).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
    }

    prop_compose! {
        fn any_lock()(
            recipe in r"[^\x00]{0,12}",
            hashes in prop::collection::btree_map(r"[^\x00]{0,8}", "[0-9a-f]{40}|[0-9a-f]{64}", 0..4),
            versions in prop::sample::subsequence(vec!["10", "11", "12", "13"], 0..4),
            kernel in "[a-z0-9.-]{0,8}",
            packages in prop::collection::btree_map("[a-z][a-z0-9+.-]{0,8}", "[0-9]:[0-9.]{1,5}[0-9]-[0-9]", 0..4),
            programs in prop::collection::btree_map("[a-z]{1,5}", ("/[a-z/ \"]{0,8}", "[0-9a-f]{64}"), 0..3),
        ) -> Lock {
            let program = |(name, (path, sha256))| (name, LockedProgram { path, sha256 });
            let programs: BTreeMap<String, LockedProgram> = programs.into_iter().map(program).collect();
            let host = LockedHost { kernel, packages, programs };
            let hosts = versions.into_iter().map(|version| (version.to_owned(), host.clone())).collect();
            Lock { recipe, hashes, hosts, ..Lock::default() }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(lock in any_lock()) {
            let again = read(&lock.to_string()).unwrap();
            prop_assert_eq!(again.to_string(), lock.to_string());
            prop_assert_eq!((again.recipe, again.hashes, again.hosts), (lock.recipe, lock.hashes, lock.hosts));
        }

        #[test]
        fn any_text_is_read_or_has_mistakes_with_places(
            text in r#"(recipe|release|kernel|path|sha256|\[\[host\]\]\n|\[hashes\]\n|\[host\.packages\]\n|\[host\.programs\.[a-z]\]\n| = |"[a-z 0-9:~é]{0,4}"|"debian 12"|\n){0,30}"#
        ) {
            match read(&text) {
                Ok(lock) => prop_assert!(read(&lock.to_string()).is_ok()),
                Err(problems) => prop_assert!(problems.iter().all(|text| text.starts_with("r.lock:"))),
            }
        }
    }

    #[test]
    fn every_mistake_has_its_place() {
        let text = "recipe = 1\n[hashes]\n\"a b\" = \"main\"\n[[host]]\nrelease = \"debian 9\"\nkernel = \"6.1\"\n\
                    packages = { q = \"new!\" }\n[host.programs]\nqemu = { path = \"/q\", sah256 = \"\" }\n\
                    [[host]]\nrelease = \"debian 12\"\nkernel = \"\"\n[[host]]\nrelease = \"debian 12\"\nkernel = \"\"\n";
        let problems = read(text).unwrap_err();
        let expected = [
            ("r.lock:1:10: `recipe` must be a string", "[D004]"),
            ("r.lock:3:9: this is neither the SHA-256", "[R035]"),
            ("r.lock:5:11: `debian 9` is not a release", "[R004]"),
            ("r.lock:7:18: this is no version", "[R013]"),
            ("r.lock:9:8: `sha256` is missing", "[D005]"),
            ("r.lock:9:23: unknown key `sah256`", "[D003]"),
            ("r.lock:14:11: debian 12 stands in the lock twice", "[R052]"),
        ];
        for (problem, (start, code)) in problems.iter().zip(expected) {
            assert!(problem.starts_with(start) && problem.contains(code), "{start} is not {problem}");
        }
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    }
}
