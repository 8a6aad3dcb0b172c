//! Where this machine's apt gets Debian from, so that sandboxes get it from there too.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use deb822_fast::Deb822;
use toril_machine::Command;

use crate::{Error, Release, files};

/// What a base's apt is set up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Apt {
    /// Sources in the deb822 format.
    pub sources: String,
    /// Files of this machine that the sources name, wanted at the same place in the base.
    pub keyrings: BTreeSet<PathBuf>,
    /// Lines of apt.conf: proxies and how strict to be with dates.
    pub settings: Vec<String>,
}

/// The fields of one deb822 paragraph.
type Source = Vec<(String, String)>;

/// Settings that decide whether and how the mirror is reached.
const SETTINGS: [&str; 6] = [
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::https::CAInfo",
    "Acquire::Check-Date",
    "Acquire::Check-Valid-Until",
    "Acquire::Retries",
];

/// The component that Debian 12 was the first to have.
const FIRMWARE: &str = "non-free-firmware";

impl Apt {
    /// The set-up of this machine, for a release.
    pub fn of_this_machine(release: Release) -> Result<Apt, Error> {
        let mut apt = Apt::of_root(Path::new("/"), release)?;
        apt.add_settings()?;
        Ok(apt)
    }

    /// Sources that somebody wrote, over this machine's way to the network.
    pub fn of_file(path: &Path, release: Release) -> Result<Apt, Error> {
        let text = fs::read_to_string(path).map_err(Error::io("read the sources", path))?;
        let wrong = |problem: String| Error::AptConfiguration { path: path.to_owned(), problem };
        let mut apt = Apt { sources: String::new(), keyrings: BTreeSet::new(), settings: Vec::new() };
        let mut suites = Vec::new();
        for source in parse_deb822(&text).map_err(wrong)? {
            let own = source.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Suites"));
            suites.extend(own.flat_map(|(_, value)| value.split_whitespace()).map(str::to_owned));
            apt.add(&source);
        }
        if apt.sources.is_empty() {
            return Err(wrong("there is no source in it".to_owned()));
        }
        if !suites.iter().any(|suite| suite == release.codename) {
            let found = format!("the suites {}", suites.join(", "));
            return Err(Error::WrongRelease { wanted: release, found });
        }
        apt.add_settings()?;
        Ok(apt)
    }

    /// Without these suites; a source that has no other is left out.
    pub fn without(&self, suites: &[String]) -> Result<Apt, Error> {
        let wrong = |problem: String| Error::AptConfiguration { path: PathBuf::from("/etc/apt"), problem };
        let mut apt = Apt { sources: String::new(), ..self.clone() };
        for mut source in parse_deb822(&self.sources).map_err(wrong)? {
            let mut left = 0;
            for (_, value) in source.iter_mut().filter(|(name, _)| name.eq_ignore_ascii_case("Suites")) {
                let kept: Vec<_> =
                    value.split_whitespace().filter(|s| !suites.iter().any(|gone| gone == s)).collect();
                left = kept.len();
                *value = kept.join(" ");
            }
            if left > 0 {
                apt.add(&source);
            }
        }
        Ok(apt)
    }

    /// How this machine reaches the mirror.
    fn add_settings(&mut self) -> Result<(), Error> {
        let dump = Command::new("apt-config", ["dump"]).output()?;
        let mut settings: Vec<_> = dump.lines().filter(|line| is_wanted(line)).map(str::to_owned).collect();
        for scheme in ["http", "https"] {
            let key = format!("Acquire::{scheme}::Proxy");
            // apt itself reads the environment last; in a sandbox this one is not there.
            if let Ok(proxy) = env::var(format!("{scheme}_proxy"))
                && !proxy.is_empty()
                && !settings.iter().any(|line| line.starts_with(&format!("{key} ")))
            {
                settings.push(format!("{key} \"{proxy}\";"));
            }
        }
        let ca_files = settings.iter().filter(|line| line.starts_with("Acquire::https::CAInfo "));
        let ca_files: BTreeSet<_> =
            ca_files.filter_map(|line| line.split('"').nth(1)).map(PathBuf::from).collect();
        self.settings = settings;
        self.keyrings.extend(ca_files);
        Ok(())
    }

    /// The sources only, from files under `root`.
    fn of_root(root: &Path, release: Release) -> Result<Apt, Error> {
        let own = own_codename(root)?;
        let etc = root.join("etc/apt");
        let mut paths = vec![etc.join("sources.list")];
        let parts = etc.join("sources.list.d");
        paths.extend(files::list(&parts)?.iter().map(|name| parts.join(name)));
        let mut apt = Apt { sources: String::new(), keyrings: BTreeSet::new(), settings: Vec::new() };
        for path in paths {
            let extension = path.extension().and_then(|extension| extension.to_str());
            let parse = match extension {
                Some("list") => parse_list,
                Some("sources") => parse_deb822,
                _ => continue,
            };
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("read", &path)(error)),
            };
            let sources = parse(&text).map_err(|problem| Error::AptConfiguration { path, problem })?;
            for source in sources.into_iter().filter_map(|source| for_release(source, &own, release)) {
                apt.add(&source);
            }
        }
        if apt.sources.is_empty() { Err(Error::NoSources { codename: own }) } else { Ok(apt) }
    }

    fn add(&mut self, source: &Source) {
        for (name, value) in source {
            // The lines after the first one of a value have lost their indentation.
            let value = value.replace('\n', "\n ");
            let _infallible = writeln!(self.sources, "{name}: {value}");
            if name.eq_ignore_ascii_case("Signed-By") {
                let paths = value.split_whitespace().filter(|word| word.starts_with('/'));
                self.keyrings.extend(paths.map(PathBuf::from));
            }
        }
        self.sources.push('\n');
    }
}

fn is_wanted(line: &str) -> bool {
    let Some((key, value)) = line.split_once(' ') else { return false };
    let named = |name: &str| key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"));
    value != "\"\";" && SETTINGS.into_iter().any(named)
}

fn own_codename(root: &Path) -> Result<String, Error> {
    let path = root.join("etc/os-release");
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let codename = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(codename.unwrap_or_default().trim_matches('"').to_owned())
}

/// The source as it is for another release, if it is one of Debian's own: a third party's suites and components are
/// called otherwise.
fn for_release(mut source: Source, own: &str, wanted: Release) -> Option<Source> {
    let field = |name: &str| {
        let value = source
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str());
        value.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    if field("Enabled").iter().any(|value| value.eq_ignore_ascii_case("no"))
        || !field("Types").contains(&"deb".into())
    {
        return None;
    }
    let suites: Vec<_> = field("Suites")
        .iter()
        .filter_map(|suite| suite.strip_prefix(own))
        .filter(|pocket| matches!(*pocket, "" | "-updates" | "-security" | "-backports"))
        .map(|pocket| wanted.suite(pocket))
        .collect();
    const COMPONENTS: [&str; 4] = ["main", "contrib", "non-free", FIRMWARE];
    let components = field("Components");
    let debian =
        components.contains(&"main".into()) && components.iter().all(|c| COMPONENTS.contains(&c.as_str()));
    let uris = field("URIs");
    if own.is_empty() || suites.is_empty() || !debian || uris.iter().any(|uri| uri.starts_with("cdrom:")) {
        return None;
    }
    for (name, value) in &mut source {
        if name.eq_ignore_ascii_case("Types") {
            *value = "deb".to_owned();
        } else if name.eq_ignore_ascii_case("Suites") {
            *value = suites.join(" ");
        } else if name.eq_ignore_ascii_case("Components") && !wanted.has_firmware_component() {
            let known = components.iter().filter(|component| *component != FIRMWARE);
            *value = known.map(String::as_str).collect::<Vec<_>>().join(" ");
        }
    }
    Some(source)
}

fn parse_deb822(text: &str) -> Result<Vec<Source>, String> {
    // apt skips comments anywhere, this parser only between paragraphs.
    let text: String =
        text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    let parsed: Deb822 = text.parse().map_err(|error: deb822_fast::Error| error.to_string())?;
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Ok(parsed.iter().map(|paragraph| paragraph.iter().map(owned).collect()).collect())
}

/// `deb [option=value,value …] URI SUITE COMPONENT…`
fn parse_list(text: &str) -> Result<Vec<Source>, String> {
    let mut sources = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some((kind, rest)) = line.split_once([' ', '\t']) else {
            if line.is_empty() {
                continue;
            }
            return Err(format!("line {}: {line:?} is no source", number + 1));
        };
        let rest = rest.trim();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                bracketed.split_once(']').ok_or(format!("line {}: no closing ]", number + 1))?
            }
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
            return Err(format!("line {}: {line:?} has no URI or suite", number + 1));
        };
        let mut source: Source = [("Types", kind), ("URIs", uri), ("Suites", suite)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        source.push(("Components".to_owned(), words.collect::<Vec<_>>().join(" ")));
        for option in options.split_whitespace() {
            let Some((name, value)) = option.split_once('=') else {
                return Err(format!("line {}: option {option:?} has no value", number + 1));
            };
            let name = match name {
                "arch" => "Architectures",
                "lang" => "Languages",
                "target" => "Targets",
                "signed-by" => "Signed-By",
                other => other,
            };
            source.push((name.to_owned(), value.replace(',', " ")));
        }
        sources.push(source);
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIRD_PARTIES: &str = "Types: deb\nURIs: http://third.example/apt\nSuites: bookworm\nComponents: stable\n\n\
        Types: deb\nURIs: http://other.example/apt\nSuites: bookworm-other\nComponents: main\n";

    fn root(codename: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/apt/sources.list.d")).unwrap();
        fs::write(root.path().join("etc/os-release"), format!("ID=debian\nVERSION_CODENAME={codename}\n"))
            .unwrap();
        for (name, text) in files {
            fs::write(root.path().join("etc/apt").join(name), text).unwrap();
        }
        root
    }

    #[test]
    fn takes_debian_only_from_deb822() {
        let text = "# a comment\nTypes: deb deb-src\n# another\nURIs: http://mirror.example/debian\n\
            Suites: bookworm bookworm-updates sid\nComponents: main contrib\nSigned-By: /keys/a.gpg\n\n\
            Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n";
        let root = root(
            "bookworm",
            &[("sources.list.d/a.sources", text), ("sources.list.d/b.sources", THIRD_PARTIES)],
        );
        let apt = Apt::of_root(root.path(), Release::default()).unwrap();
        assert_eq!(
            apt.sources,
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
            Components: main contrib\nSigned-By: /keys/a.gpg\n\n"
        );
        assert_eq!(apt.keyrings, BTreeSet::from([PathBuf::from("/keys/a.gpg")]));
    }

    #[test]
    fn takes_one_line_sources_and_other_releases() {
        let text = "deb [arch=amd64,i386 signed-by=/keys/b.gpg] http://mirror.example/debian trixie main # why\n\
            deb-src http://mirror.example/debian trixie main\n\ndeb cdrom:[Debian]/ trixie main\n\
            deb http://mirror.example/debian-security trixie-security main\n";
        let text = text.replace("deb cdrom:[Debian]/ trixie main\n", "deb cdrom:/x trixie main\n");
        let root = root("trixie", &[("sources.list", &text), ("sources.list.d/x.list.save", "nonsense")]);
        let apt = Apt::of_root(root.path(), Release::default()).unwrap();
        assert_eq!(
            apt.sources,
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n\
            Architectures: amd64 i386\nSigned-By: /keys/b.gpg\n\n\
            Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n\n"
        );
    }

    #[test]
    fn older_releases_have_fewer_components() {
        let text = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-backports\n\
            Components: main non-free-firmware\n";
        let root = root("bookworm", &[("sources.list.d/a.sources", text)]);
        let apt = Apt::of_root(root.path(), Release::parse("11").unwrap()).unwrap();
        assert_eq!(
            apt.sources,
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bullseye bullseye-backports\n\
            Components: main\n\n"
        );
        let gone = ["bullseye-backports".to_owned()];
        let left = apt.without(&gone).unwrap();
        assert_eq!(left.sources, apt.sources.replace(" bullseye-backports", ""));
        let all = ["bullseye".to_owned(), "bullseye-backports".to_owned()];
        assert_eq!(apt.without(&all).unwrap().sources, "");
    }

    #[test]
    fn keeps_a_key_that_is_written_out() {
        let text = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n\
            Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----\n";
        let root = root("bookworm", &[("sources.list.d/a.sources", text)]);
        let apt = Apt::of_root(root.path(), Release::default()).unwrap();
        let again = parse_deb822(&apt.sources).unwrap();
        assert_eq!(again, parse_deb822(text).unwrap());
        assert!(apt.sources.contains("\n .\n abc\n"), "{}", apt.sources);
    }

    #[test]
    fn says_what_is_missing_or_broken() {
        let none = Apt::of_root(
            root("bookworm", &[("sources.list.d/b.sources", THIRD_PARTIES)]).path(),
            Release::default(),
        );
        assert!(matches!(none, Err(Error::NoSources { .. })));
        let broken =
            root("bookworm", &[("sources.list", "deb [arch=amd64 http://mirror.example/ bookworm main\n")]);
        let error = Apt::of_root(broken.path(), Release::default()).unwrap_err().to_string();
        assert!(error.contains("sources.list: line 1: no closing ]"), "{error}");
    }

    #[test]
    fn settings_of_the_way_to_the_mirror() {
        for wanted in ["Acquire::http::Proxy \"http://p:3128\";", "Acquire::http::Proxy::host \"DIRECT\";"] {
            assert!(is_wanted(wanted), "{wanted}");
        }
        for other in
            ["Acquire::http::Proxy \"\";", "Acquire::http::Proxy-Auto-Detect \"/x\";", "Dir \"/\";", ""]
        {
            assert!(!is_wanted(other), "{other}");
        }
    }
}
