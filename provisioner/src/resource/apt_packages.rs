//! `apt-packages`: packages that are installed, at least at the versions named.

use debversion::Version;
use toril_document::{Table, Value};

use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, is_name};
use crate::apt::{self, Database};

/// Packages to have.
#[derive(Debug)]
pub(crate) struct AptPackages {
    pub(crate) install: Vec<String>,
    minimum: Vec<(String, Version)>,
    pub(crate) recommends: bool,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let install = table.required_strings("install");
    for name in install.iter().flatten().filter(|name| !is_name(&name.value)) {
        table.note("R012", name.span.clone(), format!("`{}` is no name of a package", name.value), None);
    }
    let recommends = table.boolean("recommends").unwrap_or(false);
    let mut minimum = Vec::new();
    if let Some((_, value)) = table.take("minimum") {
        let Value::Table(entries) = value.value else {
            table.note("D004", value.span, "`minimum` must be a table of packages and versions", None);
            return None;
        };
        for (name, version) in entries {
            let known = install.iter().flatten().any(|package| package.value == name.value);
            if !known {
                table.note("R012", name.span, format!("`{}` is not among `install`", name.value), None);
                continue;
            }
            let parsed = match &version.value {
                Value::String(text) => text.parse::<Version>().ok(),
                _ => None,
            };
            match parsed {
                Some(version) => minimum.push((name.value, version)),
                None => table.note("R013", version.span, "this is no version of a Debian package", None),
            }
        }
    }
    let install = install?.into_iter().map(|name| name.value).collect();
    Some(Box::new(AptPackages { install, minimum, recommends }))
}

impl Kind for AptPackages {
    type State = Database;

    fn observe(&self, context: Context<'_>) -> Result<Database, ResourceError> {
        Database::read(context.machine)
    }

    fn compare(&self, _: Context<'_>, database: &Database) -> Judged {
        let mut changes = Vec::new();
        for name in &self.install {
            let what = format!("package {name}");
            let minimum =
                self.minimum.iter().find(|(package, _)| package == name).map(|(_, version)| version);
            let wanted = minimum.map_or("installed".into(), |version| format!("at least {version}"));
            match database.get(name) {
                None => changes.push(Change::new(what, "not installed", wanted)),
                Some(package) if package.state == "config-files" || package.state == "not-installed" => {
                    changes.push(Change::new(what, "not installed", wanted));
                }
                Some(package) if !package.is_installed() => {
                    let flag = if package.reinstall_required { ", damaged" } else { "" };
                    changes.push(Change::new(what, format!("{}{flag}", package.state), wanted));
                }
                Some(package) => {
                    let old_enough = |minimum: &Version| match package.version.parse::<Version>() {
                        Ok(version) => version >= *minimum,
                        Err(_) => false,
                    };
                    if !minimum.is_none_or(old_enough) {
                        changes.push(Change::new(what, &package.version, wanted));
                    }
                }
            }
        }
        if changes.is_empty() && database.pending_updates > 0 {
            changes.push(Change::new("dpkg", "interrupted or at work", "at rest"));
        }
        Judged { changes, impossible: None }
    }

    fn apply(&self, _: Context<'_>, _: &[Change], log: &mut dyn FnMut(&str)) -> Result<(), ResourceError> {
        let packages: Vec<&str> = self.install.iter().map(String::as_str).collect();
        apt::install(&packages, self.recommends, log)
    }

    fn provides(&self) -> Vec<Thing> {
        vec![Thing::Packages]
    }

    fn as_packages(&self) -> Option<&AptPackages> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::testing::Fake;

    #[test]
    fn versions_compare_as_debian_does() {
        let fake = Fake::new();
        std::fs::create_dir_all(fake.path("var/lib/dpkg")).unwrap();
        let status = "Package: q\nStatus: install ok installed\nVersion: 1:5.2+dfsg-9~bpo10+1\n";
        std::fs::write(fake.path("var/lib/dpkg/status"), status).unwrap();
        let resource = |minimum: &str| AptPackages {
            install: vec!["q".into()],
            minimum: vec![("q".into(), minimum.parse().unwrap())],
            recommends: false,
        };
        assert_eq!(fake.changes(&resource("1:5.2")), [""; 0]);
        assert_eq!(fake.changes(&resource("7.2")), [""; 0], "the epoch counts first");
        assert_eq!(
            fake.changes(&resource("1:5.2+dfsg-9")),
            ["package q: 1:5.2+dfsg-9~bpo10+1 → at least 1:5.2+dfsg-9"],
            "a tilde sorts before the end"
        );
    }
}
