//! `apt-source`: where packages come from, and the key that they are signed with; other lists that this one replaces.

use std::fs;
use std::time::SystemTime;

use toril_document::{Located, Table};
use toril_machine::Probe;

use super::apt_source_pins::{self, Pins, PinsState};
use super::attributes::Attributes;
use super::file::FileResource;
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, parsed, read_name};
use crate::apt::keyring;
use crate::apt::lists::{self, Retired};

/// What the changes of the files are called by.
const SOURCE: &str = "source";
const KEY: &str = "key";

/// The first line of what is written.
pub(crate) const WRITTEN: &str = "# Written by toril.";

const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

#[derive(Debug)]
struct AptSource {
    source: FileResource,
    suites: Vec<String>,
    /// The file with the key, which the recipe or something else brings.
    key_path: Option<String>,
    /// Where the recipe brings it.
    key: Option<FileResource>,
    pins: Pins,
    retired: Retired,
}

struct SourceState {
    source: Judged,
    key: Judged,
    pins: PinsState,
    /// Of the keys, those that end soon, or have ended.
    ending: Option<String>,
    /// Other lists with something to take out of use: path, text now, text then.
    others: Vec<(String, String, String)>,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let name = read_name(table, "name");
    let types = words(table, "types", parse_type).unwrap_or_else(|| vec!["deb".into()]);
    let uris = required_words(table, "uris", parse_uri);
    let suites = required_words(table, "suites", parse_suite);
    let components = words(table, "components", parse_component).unwrap_or_default();
    let key = match table.has("key") {
        true => parsed(table, "key", "R038", parse_key),
        false => {
            drop(table.take("key"));
            None
        }
    };
    let valid_until = table.boolean("check-valid-until").unwrap_or(true);
    let pins = match table.has("in-release") {
        true => parsed(table, "in-release", "R035", apt_source_pins::parse),
        false => {
            drop(table.take("in-release"));
            Some(Vec::new())
        }
    };
    let enabled = table.boolean("enabled").unwrap_or(true);
    let files = words(table, "replaces", parse_list).unwrap_or_default();
    let retired_uris = words(table, "retires", parse_uri).unwrap_or_default();
    let retired_suites = words(table, "retires-suites", parse_suite_pattern).unwrap_or_default();
    if retired_uris.is_empty() && !retired_suites.is_empty() {
        table.note("R036", table.span(), "`retires-suites` says nothing without `retires`", None);
    }
    let retired = Retired { files, uris: retired_uris, suites: retired_suites };
    let (name, uris, suites, pins) = (name?, uris?, suites?, pins?);
    // sources.list(5): a suite that ends with a slash is a path, and has no components.
    let exact = suites.iter().filter(|suite| suite.ends_with('/')).count();
    if (exact > 0) != components.is_empty() || (exact > 0 && exact < suites.len()) {
        let help = "`components` is left out if, and only if, every suite ends with a slash".to_owned();
        table.note("R036", table.span(), "these suites and components do not go together", Some(help));
    }
    let system = |path: String, content: String| FileResource {
        path,
        content,
        attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
    };
    let key_path = match &key {
        Some(Key::Path(path)) => Some(path.clone()),
        Some(Key::Text(_)) => Some(format!("/etc/apt/keyrings/{name}.asc")),
        None => None,
    };
    let mut text = format!("{WRITTEN}\n");
    let mut field = |name: &str, value: &str| text.push_str(&format!("{name}: {value}\n"));
    if !enabled {
        field("Enabled", "no");
    }
    field("Types", &types.join(" "));
    field("URIs", &uris.join(" "));
    field("Suites", &suites.join(" "));
    if !components.is_empty() {
        field("Components", &components.join(" "));
    }
    if let Some(path) = &key_path {
        field("Signed-By", path);
    }
    if !valid_until {
        field("Check-Valid-Until", "no");
    }
    let source = system(format!("/etc/apt/sources.list.d/{name}.sources"), text);
    let key = match (key, &key_path) {
        (Some(Key::Text(text)), Some(path)) => Some(system(path.clone(), text)),
        _ => None,
    };
    let pins = Pins::new(&name, &pins);
    Some(Box::new(AptSource { source, suites, key_path, key, pins, retired }))
}

enum Key {
    /// A file that something else brings.
    Path(String),
    /// The key itself.
    Text(String),
}

fn parse_key(text: &str) -> Result<Key, String> {
    if text.starts_with('/') && !text.contains(char::is_whitespace) {
        return Ok(Key::Path(text.to_owned()));
    }
    match text.trim_start().starts_with(ARMOR) {
        true => Ok(Key::Text(format!("{}\n", text.trim()))),
        false => Err(format!("a key is the path of a file, or a text that begins with {ARMOR}")),
    }
}

fn parse_type(text: &str) -> Result<(), String> {
    match text {
        "deb" | "deb-src" => Ok(()),
        _ => Err(format!("`{text}` is no type of a source: deb or deb-src")),
    }
}

fn parse_uri(text: &str) -> Result<(), String> {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    let known = ["http", "https", "file", "copy", "cdrom", "ftp", "mirror", "mirror+http", "mirror+https"];
    match scheme.is_some_and(|scheme| known.contains(&scheme)) && text.chars().all(|c| c.is_ascii_graphic()) {
        true => Ok(()),
        false => {
            Err(format!("`{text}` is no URI of a mirror: write it such as http://mirror.example/debian"))
        }
    }
}

fn parse_suite(text: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._/+~-".contains(c);
    match !text.is_empty() && text.chars().all(good) {
        true => Ok(()),
        false => Err(format!("`{text}` is no suite: write it such as bookworm or bookworm-backports")),
    }
}

/// A suite in which `*` may stand for anything but a slash.
fn parse_suite_pattern(text: &str) -> Result<(), String> {
    parse_suite(&text.replace('*', "x"))
}

fn parse_component(text: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._/+-".contains(c);
    match !text.is_empty() && text.chars().all(good) {
        true => Ok(()),
        false => Err(format!("`{text}` is no component: write it such as main or non-free-firmware")),
    }
}

fn parse_list(text: &str) -> Result<(), String> {
    let is_list = text.ends_with(".list") || text.ends_with(".sources");
    match text.starts_with("/etc/apt/") && is_list && !text.contains("/../") {
        true => Ok(()),
        false => Err(format!("`{text}` is no list of sources: write it such as /etc/apt/sources.list")),
    }
}

/// Takes a list of words, each of which `parse` accepts.
fn words(
    table: &mut Table<'_>,
    key: &'static str,
    parse: fn(&str) -> Result<(), String>,
) -> Option<Vec<String>> {
    let list = table.strings(key)?;
    let checked = list.into_iter().filter_map(|Located { value, span }| match parse(&value) {
        Ok(()) => Some(value),
        Err(message) => {
            table.note("R036", span, message, None);
            None
        }
    });
    Some(checked.collect())
}

fn required_words(
    table: &mut Table<'_>,
    key: &'static str,
    parse: fn(&str) -> Result<(), String>,
) -> Option<Vec<String>> {
    let list = table.required_strings(key)?;
    for Located { value, span } in &list {
        if let Err(message) = parse(value) {
            table.note("R036", span.clone(), message, None);
        }
    }
    Some(list.into_iter().map(|word| word.value).collect())
}

impl AptSource {
    /// Those of the keys that end soon, in a file that is not armoured.
    fn ending_keys(&self, context: Context<'_>) -> Result<Option<String>, ResourceError> {
        let Some(path) = &self.key_path else { return Ok(None) };
        let bytes =
            Probe::of_io(fs::read(context.machine.path(path)), path).known().map_err(ResourceError)?;
        Ok(bytes.and_then(|bytes| keyring::ends(&keyring::keys(&bytes), &self.suites, SystemTime::now())))
    }
}

impl Kind for AptSource {
    type State = SourceState;

    fn observe(&self, context: Context<'_>) -> Result<SourceState, ResourceError> {
        let key = self.key.as_ref().map(|key| Resource::judge(key, context)).transpose()?;
        Ok(SourceState {
            source: Resource::judge(&self.source, context)?,
            key: key.unwrap_or_default(),
            pins: self.pins.observe(context)?,
            ending: self.ending_keys(context)?,
            others: lists::to_retire(context.machine, &self.retired, &self.source.path)?,
        })
    }

    fn compare(&self, _: Context<'_>, state: &SourceState) -> Judged {
        let mut changes = Change::of_part(KEY, &state.key.changes);
        // Nobody reads hundreds of lines of a key.
        changes.iter_mut().for_each(|change| change.diff = None);
        changes.extend(self.pins.compare(&state.pins));
        changes.extend(Change::of_part(SOURCE, &state.source.changes));
        for (path, before, after) in &state.others {
            changes.extend(Change::of_part(path, &[Change::of_text(path, Some(before), after)]));
        }
        let pinned = match self.pins.files().next() {
            Some(_) => "; the release files that `in-release` names may be used after that",
            None => "; apt refuses the source after that, unless `in-release` names its release files",
        };
        let notices = state.ending.iter().map(|ending| format!("of its keys, {ending}{pinned}"));
        Judged { changes, notices: notices.collect(), ..Judged::default() }
    }

    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        // The key first: a source without it would be an error to every apt in between.
        for (part, file) in [(KEY, self.key.as_ref()), (SOURCE, Some(&self.source))] {
            let own = Change::for_part(part, changes);
            if let Some(file) = file.filter(|_| !own.is_empty()) {
                file.apply_with_directory(context, &own, log)?;
            }
        }
        self.pins.apply(context, changes, log)?;
        for (path, _, after) in lists::to_retire(context.machine, &self.retired, &self.source.path)? {
            lists::replace(context.machine, &path, &after)?;
        }
        Ok(())
    }

    fn provides(&self) -> Vec<Thing> {
        let files = self.key.iter().chain(self.pins.files()).chain([&self.source]);
        let paths = files.map(|file| Thing::Path(file.path.clone()));
        paths.chain([Thing::AptSource]).collect()
    }

    fn follows(&self) -> Vec<Wanted> {
        self.key.iter().chain([&self.source]).flat_map(Kind::follows).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::testing::{self, Fake};

    const BACKPORTS: &str = r#"apt-source = {
        name = "old-backports", uris = ["http://archive.debian.org/debian"], suites = ["buster-backports"],
        components = ["main"], key = "/usr/share/keyrings/debian-archive-keyring.gpg",
        check-valid-until = false, replaces = ["/etc/apt/sources.list"],
    }"#;

    fn fake() -> Fake {
        let fake = Fake::new();
        fs::create_dir_all(fake.path("etc/apt/sources.list.d")).unwrap();
        fake
    }

    #[test]
    fn is_written_other_lists_are_replaced_and_all_of_it_is_mended() {
        let fake = fake();
        let resource = testing::read(&BACKPORTS.replace('\n', " ").replace(",    }", " }")).unwrap();
        let list = "# main\ndeb http://mirror.example/debian buster main\n";
        fs::write(fake.path("etc/apt/sources.list"), list).unwrap();
        assert_eq!(
            fake.changes(&*resource),
            ["source: content: no such file → 7 lines", "/etc/apt/sources.list: content: 2 lines → 2 lines"]
        );
        fake.apply(&*resource);
        assert_eq!(fake.changes(&*resource), [""; 0]);
        let text = fs::read_to_string(fake.path("etc/apt/sources.list.d/old-backports.sources")).unwrap();
        assert_eq!(
            text,
            "# Written by toril.\nTypes: deb\nURIs: http://archive.debian.org/debian\nSuites: buster-backports\n\
             Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\nCheck-Valid-Until: no\n"
        );
        let text = fs::read_to_string(fake.path("etc/apt/sources.list")).unwrap();
        assert_eq!(text, "# main\n# toril: deb http://mirror.example/debian buster main\n");
        fs::write(fake.path("etc/apt/sources.list"), list).unwrap();
        assert_eq!(fake.changes(&*resource).len(), 1);
    }

    #[test]
    fn a_key_of_the_recipe_comes_along() {
        let fake = fake();
        let text = format!(
            "[resource.apt-source]\nname = \"x\"\nuris = [\"https://e.org/apt\"]\nsuites = [\"./\"]\n\
             key = \"\"\"\n{ARMOR}\nabc\n-----END PGP PUBLIC KEY BLOCK-----\n\"\"\"\n"
        );
        let resource = testing::read(&text).unwrap();
        assert_eq!(
            fake.changes(&*resource),
            ["key: content: no such file → 3 lines", "source: content: no such file → 5 lines"]
        );
        fake.apply(&*resource);
        assert_eq!(fake.changes(&*resource), [""; 0]);
        let source = fs::read_to_string(fake.path("etc/apt/sources.list.d/x.sources")).unwrap();
        assert!(source.contains("Signed-By: /etc/apt/keyrings/x.asc\n"), "{source}");
        fs::write(fake.path("etc/apt/keyrings/x.asc"), "another").unwrap();
        assert_eq!(fake.changes(&*resource), ["key: content: 1 line → 3 lines"]);
    }

    #[test]
    fn pins_of_a_frozen_archive_come_and_go() {
        let fake = fake();
        let hash = "AB".repeat(32);
        let read = |pins: &str| {
            let rest = "uris = [\"file:/srv/a\"], suites = [\"buster\"], components = [\"main\"]";
            testing::read(&format!("apt-source = {{ name = \"a\", {rest}, in-release = \"{pins}\" }}"))
                .unwrap()
        };
        let pinned = read(&format!(" {hash}\\n"));
        let what = |changes: Vec<String>| -> Vec<String> {
            changes.iter().map(|change| change.split_once(':').unwrap().0.to_owned()).collect()
        };
        assert_eq!(what(fake.changes(&*pinned)), ["pins", "gpgv", "configuration", "source"]);
        fake.apply(&*pinned);
        assert_eq!(fake.changes(&*pinned), [""; 0]);
        let text = fs::read_to_string(fake.path("etc/apt/toril-pins.d/a")).unwrap();
        assert!(text.ends_with(&format!("\n{}\n", "ab".repeat(32))), "{text}");
        let script = fs::metadata(fake.path("usr/local/lib/toril/gpgv-pinned")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&script.permissions()) & 0o777, 0o755);
        // Without pins, none are left.
        let bare = read("");
        assert_eq!(fake.changes(&*bare), ["pins: /etc/apt/toril-pins.d/a → no file"]);
        fake.apply(&*bare);
        assert_eq!(fake.changes(&*bare), [""; 0]);
    }

    #[test]
    fn wrong_words_are_refused() {
        let with = |keys: &str| format!("apt-source = {{ name = \"x\", {keys} }}");
        let good = "uris = [\"http://e.org\"], suites = [\"s\"], components = [\"main\"]";
        testing::refuses(&[
            (&with("uris = [\"e.org\"], suites = [\"s\"], components = [\"m\"]"), "is no URI of a mirror"),
            (&with("uris = [\"http://e.org\"], suites = [\"s\"]"), "do not go together"),
            (
                &with("uris = [\"http://e.org\"], suites = [\"s/\"], components = [\"m\"]"),
                "do not go together",
            ),
            (&with("uris = [], suites = [\"s\"], components = [\"m\"]"), "must not be empty"),
            (&with(&format!("{good}, key = \"abc\"")), "a key is the path of a file"),
            (&with(&format!("{good}, types = [\"rpm\"]")), "deb or deb-src"),
            (&with(&format!("{good}, replaces = [\"/etc/passwd\"]")), "is no list of sources"),
            (&with(&format!("{good}, retires-suites = [\"s*\"]")), "says nothing without `retires`"),
            (&with(&format!("{good}, in-release = \"abc\"")), "is not 64 hexadecimal digits"),
            (&with(&format!("{good}, enable = false")), "did you mean `enabled`?"),
        ]);
    }
}
