//! Which versions of packages apt's sources offer.

use std::collections::BTreeMap;
use std::time::Duration;

use debversion::Version;
use toril_machine::Command;

use super::{Database, Requirement, Wish};
use crate::resource::ResourceError;

/// How many of them an error names.
const MOST: usize = 8;

/// A version of a package, and where it can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    /// As the source spells it: apt takes no other spelling of the same version.
    version: String,
    source: String,
}

/// Has versions that are wanted spelled as the sources do.
///
/// # Errors
/// A version that is wanted is nowhere to be had; which ones are.
pub(super) fn settle(wishes: &[Wish], database: &Database) -> Result<Vec<String>, ResourceError> {
    let names: Vec<&str> =
        wishes.iter().filter(|wish| wish.requirement.is_some()).map(|wish| wish.name.as_str()).collect();
    let offers = if names.is_empty() { BTreeMap::new() } else { offers(&names)? };
    let none = Vec::new();
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

fn choose(
    wish: &Wish,
    requirement: &Requirement,
    offers: &[Offer],
    database: &Database,
) -> Result<String, String> {
    let fits = |version: &str| version.parse().is_ok_and(|version: Version| requirement.accepts(&version));
    let found = offers.iter().find(|offer| fits(&offer.version));
    match (found, requirement) {
        (Some(offer), Requirement::Exactly(_) | Requirement::Locked(_)) => {
            Ok(format!("{}={}", wish.name, offer.version))
        }
        (Some(_), Requirement::Least(_)) => Ok(wish.argument()),
        // It is there, and something else about it is to be mended.
        (None, _) if database.get(&wish.name).is_some_and(|package| fits(&package.version)) => {
            Ok(wish.name.clone())
        }
        (None, _) if offers.is_empty() => {
            Err(format!("no source has the package {}; look at /etc/apt/sources.list*", wish.name))
        }
        (None, _) => {
            let shown = offers.iter().take(MOST).map(|offer| format!("{} ({})", offer.version, offer.source));
            let more = if offers.len() > MOST { ", …" } else { "" };
            Err(format!(
                "no source offers {} {requirement}; offered are {}{more}: name one of these, or add the source that has it \
                 (apt-source)",
                wish.name,
                shown.collect::<Vec<_>>().join(", ")
            ))
        }
    }
}

/// What the sources offer of packages, by package.
fn offers(names: &[&str]) -> Result<BTreeMap<String, Vec<Offer>>, ResourceError> {
    let mut args = vec!["madison"];
    args.extend(names);
    let command = Command::new("apt-cache", args).deadline(Duration::from_secs(60));
    Ok(parse(&command.output().map_err(ResourceError::new)?))
}

/// Reads lines such as `socat | 1.7.4.4-2 | http://m/debian bookworm/main amd64 Packages`. What two sources offer counts
/// once.
fn parse(text: &str) -> BTreeMap<String, Vec<Offer>> {
    let mut offers: BTreeMap<String, Vec<Offer>> = BTreeMap::new();
    for line in text.lines() {
        let [name, version, source] = line.splitn(3, '|').map(str::trim).collect::<Vec<_>>()[..] else {
            continue;
        };
        let Some(source) = source.strip_suffix(" Packages") else { continue };
        let known = offers.entry(name.to_owned()).or_default();
        if known.iter().all(|offer| offer.version != version) {
            let source = source.strip_suffix(" amd64").unwrap_or(source);
            known.push(Offer { version: version.to_owned(), source: source.to_owned() });
        }
    }
    offers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = " q | 2:2.0-1 | http://m/debian stable-backports/main amd64 Packages\n \
                        q | 1.0-1 | http://m/debian stable/main amd64 Packages\n \
                        q | 1.0-1 | http://n/debian stable/main amd64 Packages\n \
                        q | 1.0-1 | http://m/debian stable/main Sources\n";

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
    fn what_is_not_offered_is_answered_with_what_is() {
        let error = chosen(&Requirement::Exactly("1.1".parse().unwrap())).unwrap_err();
        assert!(
            error.starts_with(
                "no source offers q exactly 1.1; offered are 2:2.0-1 (http://m/debian stable-backports/main), \
                 1.0-1 (http://m/debian stable/main): name one"
            ),
            "{error}"
        );
        assert!(chosen(&Requirement::Least("3:0".parse().unwrap())).unwrap_err().contains("at least 3:0"));
    }

    proptest! {
        #[test]
        fn any_output_is_read(text in r"([a-z0-9.:~+-]{0,5}[ |\n]|Packages|Sources|amd64){0,30}") {
            let offers = parse(&text);
            prop_assert!(offers.values().flatten().all(|offer| text.contains(&offer.version)));
        }
    }
}
