//! Which versions of packages apt's sources offer.

use std::collections::BTreeMap;
use std::time::Duration;

use debversion::Version;
use toril_machine::Command;

use super::{Database, Requirement, Wish};
use crate::resource::ResourceError;

/// How many of them an error names.
const MOST: usize = 8;

/// Versions of less priority are only installed where that is asked for: apt_preferences(5).
const ORDINARY: i32 = 500;

/// What the sources offer of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Offers {
    /// What apt would install.
    candidate: Option<String>,
    versions: Vec<Offer>,
}

/// A version of a package, and where it can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    /// As the source spells it: apt takes no other spelling of the same version.
    version: String,
    source: String,
    priority: i32,
}

impl Offer {
    fn parsed(&self) -> Option<Version> {
        self.version.parse().ok()
    }

    /// The release that its source says to be, of `http://m/debian stable-backports/main`.
    fn release(&self) -> Option<&str> {
        self.source
            .split(' ')
            .nth(1)?
            .rsplit_once('/')
            .map(|(release, _)| release)
            .filter(|name| *name != ".")
    }
}

/// Has versions that are wanted spelled as the sources do.
///
/// # Errors
/// A version that is wanted is nowhere to be had; which ones are.
pub(super) fn settle(wishes: &[Wish], database: &Database) -> Result<Vec<String>, ResourceError> {
    let names: Vec<&str> =
        wishes.iter().filter(|wish| wish.requirement.is_some()).map(|wish| wish.name.as_str()).collect();
    let offers = if names.is_empty() { BTreeMap::new() } else { offers(&names)? };
    let none = Offers::default();
    let arguments = wishes.iter().map(|wish| {
        let Some(requirement) = &wish.requirement else { return Ok(wish.argument()) };
        choose(wish, requirement, offers.get(&wish.name).unwrap_or(&none), database)
    });
    let (good, bad): (Vec<_>, Vec<_>) = arguments.partition(Result::is_ok);
    let errors: Vec<String> = bad.into_iter().filter_map(Result::err).collect();
    match errors.is_empty() {
        true => Ok(good.into_iter().flatten().collect()),
        false => Err(ResourceError(format!("{}; nothing was begun", errors.join("; ")))),
    }
}

/// Those of some packages that a source offers, in whatever version.
pub(super) fn offered<'n>(names: &[&'n str]) -> Result<Vec<&'n str>, ResourceError> {
    let offers = if names.is_empty() { BTreeMap::new() } else { offers(names)? };
    let is_offered = |name: &&str| offers.get(*name).is_some_and(|offers| !offers.versions.is_empty());
    Ok(names.iter().copied().filter(is_offered).collect())
}

fn choose(
    wish: &Wish,
    requirement: &Requirement,
    offers: &Offers,
    database: &Database,
) -> Result<String, String> {
    let name = &wish.name;
    let fits = |version: &str| version.parse().is_ok_and(|version: Version| requirement.accepts(&version));
    let mut fitting = offers.versions.iter().filter(|offer| fits(&offer.version));
    match (fitting.clone().next(), requirement) {
        (Some(offer), Requirement::Exactly(_) | Requirement::Locked(_)) => {
            Ok(format!("{name}={}", offer.version))
        }
        // Where the release is named, it is the release's version.
        (Some(_), Requirement::Least(_))
            if wish.release.is_some() || offers.candidate.as_deref().is_none_or(fits) =>
        {
            Ok(wish.argument())
        }
        // What apt would install by itself is older.
        (Some(first), Requirement::Least(_)) => {
            let ordinary = fitting.clone().filter(|offer| offer.priority >= ORDINARY);
            if let Some(offer) = ordinary.min_by_key(|offer| offer.parsed()) {
                return Ok(format!("{name}={}", offer.version));
            }
            let named = fitting.find(|offer| offer.priority > 0 && offer.release().is_some());
            let remedy = match named.and_then(Offer::release) {
                Some(release) => format!("say `release = \"{release}\"` in the recipe"),
                None => "name it by `version` in the recipe, or raise its priority in /etc/apt/preferences.d"
                    .into(),
            };
            let Offer { version, source, priority } = named.unwrap_or(first);
            Err(format!(
                "{name} {requirement} is only offered where nothing is taken from by itself: {version} ({source}, priority \
                 {priority}), and apt would install {}; {remedy}",
                offers.candidate.as_deref().unwrap_or("none")
            ))
        }
        // It is there, and something else about it is to be mended.
        (None, _) if database.get(name).is_some_and(|package| fits(&package.version)) => Ok(name.clone()),
        (None, _) if offers.versions.is_empty() => {
            Err(format!("no source has the package {name}; look at /etc/apt/sources.list*"))
        }
        (None, _) => {
            let versions = &offers.versions;
            let shown =
                versions.iter().take(MOST).map(|offer| format!("{} ({})", offer.version, offer.source));
            let more = if versions.len() > MOST { ", …" } else { "" };
            Err(format!(
                "no source offers {name} {requirement}; offered are {}{more}: name one of these, or add the source that has \
                 it (apt-source)",
                shown.collect::<Vec<_>>().join(", ")
            ))
        }
    }
}

/// What the sources offer of packages, by package.
fn offers(names: &[&str]) -> Result<BTreeMap<String, Offers>, ResourceError> {
    let mut args = vec!["policy"];
    args.extend(names);
    let command = Command::new("apt-cache", args).deadline(Duration::from_secs(60));
    Ok(parse(&command.output().map_err(ResourceError::new)?))
}

/// Reads what `apt-cache policy` prints: for each package what is installed, what would be, and then the versions, each
/// with its priority, below it the sources that have it. The one that is installed is marked.
fn parse(text: &str) -> BTreeMap<String, Offers> {
    let mut packages: BTreeMap<String, Offers> = BTreeMap::new();
    let (mut offers, mut version): (Option<&mut Offers>, Option<(&str, i32)>) = (None, None);
    for line in text.lines() {
        if !line.starts_with(' ') {
            offers = line.strip_suffix(':').map(|name| packages.entry(name.to_owned()).or_default());
            version = None;
            continue;
        }
        let Some(offers) = offers.as_deref_mut() else { continue };
        if let Some(candidate) = line.strip_prefix("  Candidate: ") {
            offers.candidate = Some(candidate.to_owned()).filter(|candidate| candidate != "(none)");
        } else if let Some(source) = line.strip_prefix("        ") {
            let Some((_, source)) = source.trim_start().split_once(' ') else { continue };
            let (Some(source), Some((version, priority))) = (source.strip_suffix(" Packages"), version)
            else {
                continue;
            };
            // What two sources offer counts once.
            if offers.versions.iter().all(|offer| offer.version != version) {
                let source = source.strip_suffix(" amd64").unwrap_or(source).to_owned();
                offers.versions.push(Offer { version: version.to_owned(), source, priority });
            }
        } else if let Some(words) = line.strip_prefix("     ").or_else(|| line.strip_prefix(" *** ")) {
            let words = words.split_once(' ');
            version = words.and_then(|(version, priority)| Some((version, priority.trim().parse().ok()?)));
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "q:\n  Installed: (none)\n  Candidate: 1.0-1\n  Version table:\n     2:2.0-1 100\n        100 \
        http://m/debian stable-backports/main amd64 Packages\n     1.5-1 500\n        500 http://n/debian stable/main amd64 \
        Packages\n *** 1.0-1 990\n        990 http://m/debian stable/main amd64 Packages\n        500 http://n/debian \
        stable/main amd64 Packages\n        100 /var/lib/dpkg/status\n     0.1 100\n        100 /var/lib/dpkg/status\n";

    fn chosen(requirement: &Requirement) -> Result<String, String> {
        let (name, release) = ("q".to_owned(), None);
        let wish = Wish { name, release, requirement: Some(requirement.clone()), downgrade: false };
        choose(&wish, requirement, &parse(TEXT)["q"], &Database::default())
    }

    #[test]
    fn a_version_is_spelled_as_the_source_does() {
        assert_eq!(chosen(&Requirement::Exactly("0:1.0-1".parse().unwrap())), Ok("q=1.0-1".into()));
        assert_eq!(chosen(&Requirement::Least("1.0".parse().unwrap())), Ok("q".into()));
    }

    #[test]
    fn a_minimum_above_what_apt_would_install_is_named_or_refused() {
        assert_eq!(chosen(&Requirement::Least("1.1".parse().unwrap())), Ok("q=1.5-1".into()));
        let error = chosen(&Requirement::Least("1:0".parse().unwrap())).unwrap_err();
        assert!(
            error.contains("2:2.0-1 (http://m/debian stable-backports/main, priority 100)")
                && error.contains("apt would install 1.0-1; say `release = \"stable-backports\"`"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_offered_is_answered_with_what_is() {
        let error = chosen(&Requirement::Exactly("1.1".parse().unwrap())).unwrap_err();
        assert!(
            error.starts_with(
                "no source offers q exactly 1.1; offered are 2:2.0-1 (http://m/debian stable-backports/main), \
                 1.5-1 (http://n/debian stable/main), 1.0-1 (http://m/debian stable/main): name one"
            ),
            "{error}"
        );
        assert!(chosen(&Requirement::Least("3:0".parse().unwrap())).unwrap_err().contains("at least 3:0"));
    }

    proptest! {
        #[test]
        fn any_output_is_read(text in r"([a-z0-9.:~+-]{0,5}[ \n]| \*\*\* |[ ]{5}|[ ]{8}|:\n| Packages\n|  Candidate: |amd64){0,30}") {
            let offers = parse(&text);
            prop_assert!(offers.values().flat_map(|offers| &offers.versions).all(|offer| text.contains(&offer.version)));
        }
    }
}
