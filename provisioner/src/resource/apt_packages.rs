//! `apt-packages`: packages that are installed, at the versions named, from a release, held there or not.

use std::collections::BTreeMap;

use debversion::Version;
use toril_document::Table;
use toril_machine::{Machine, Probe};

use super::apt_versions::read_versions;
use super::attributes::Attributes;
use super::file::FileResource;
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, is_name, optional_name};
use crate::apt::{self, Database, Lists, PackageState, Prefetched, Requirement, Wish};

/// What the changes of the pin's file are called by.
const PIN: &str = "pin";

/// Packages to have.
#[derive(Debug)]
pub(crate) struct AptPackages {
    pub(crate) install: Vec<String>,
    versions: BTreeMap<String, Requirement>,
    /// Whether newer versions than those named may give way to them.
    downgrade: bool,
    pub(crate) recommends: bool,
    /// Such as `buster-backports`, and what has apt stay with it for these packages: apt_preferences(5).
    release: Option<(String, FileResource)>,
    hold: Option<bool>,
}

pub(crate) struct PackagesState {
    database: Database,
    pin: Judged,
    /// What is worth knowing of their configuration files.
    kept: Vec<String>,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let install = table.required_strings("install");
    for name in install.iter().flatten().filter(|name| !is_name(&name.value)) {
        table.note("R012", name.span.clone(), format!("`{}` is no name of a package", name.value), None);
    }
    let recommends = table.boolean("recommends").unwrap_or(false);
    let release = optional_name(table, "release");
    let hold = table.boolean("hold");
    let downgrade = table.boolean("downgrade").unwrap_or(false);
    let install: Option<Vec<String>> =
        install.map(|names| names.into_iter().map(|name| name.value).collect());
    let versions = read_versions(table, install.as_deref().unwrap_or_default());
    let (install, versions) = (install?, versions?);
    let release = release.map(|release| {
        let pin = pin(&release, &install);
        (release, pin)
    });
    Some(Box::new(AptPackages { install, versions, downgrade, recommends, release, hold }))
}

/// Prefers a release for just these packages, so that later upgrades stay with it too.
fn pin(release: &str, install: &[String]) -> FileResource {
    // apt passes over files with other characters, or with another extension.
    let name: String = format!("{release}-{}", install.first().map_or("", String::as_str))
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    FileResource {
        path: format!("/etc/apt/preferences.d/toril-{name}.pref"),
        content: format!(
            "# Written by toril.\nPackage: {}\nPin: release {release}\nPin-Priority: 990\n",
            install.join(" ")
        ),
        attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
    }
}

impl AptPackages {
    /// What is to change about a package: what it is now, and what it should be.
    fn lacks(&self, name: &str, database: &Database) -> Option<(String, String)> {
        let requirement = self.versions.get(name);
        let wanted = requirement.map_or("installed".into(), ToString::to_string);
        let now = match database.get(name) {
            None => "not installed".into(),
            Some(package) if matches!(package.state.as_str(), "config-files" | "not-installed") => {
                "not installed".into()
            }
            Some(package) if !package.is_installed() => {
                let flag = if package.reinstall_required { ", damaged" } else { "" };
                format!("{}{flag}", package.state)
            }
            Some(package) => {
                let is_enough = |requirement: &Requirement| {
                    package.version.parse().is_ok_and(|version: Version| requirement.accepts(&version))
                };
                if requirement.is_none_or(is_enough) {
                    return None;
                }
                package.version.clone()
            }
        };
        let how = match (self.is_newer(name, database), self.downgrade) {
            (false, _) => "",
            (true, true) => ", by a downgrade",
            (true, false) => ", which is older",
        };
        Some((now, format!("{wanted}{how}")))
    }

    /// Whether a package is there in a newer version than will do.
    fn is_newer(&self, name: &str, database: &Database) -> bool {
        let installed = database.get(name).and_then(|package| package.version.parse::<Version>().ok());
        let requirement = self.versions.get(name);
        requirement.zip(installed).is_some_and(|(requirement, version)| requirement.is_older_than(&version))
    }

    /// Refuses to take packages back to older versions where the recipe does not say that they may be.
    fn refuse_downgrades(&self, database: &Database) -> Result<(), ResourceError> {
        let newer = self.install.iter().filter(|name| !self.downgrade && self.is_newer(name, database));
        let newer = newer.filter_map(|name| {
            let (now, wanted) = self.lacks(name, database)?;
            Some(format!("{name} is at {now}, and wanted is {wanted}"))
        });
        let newer: Vec<String> = newer.collect();
        match newer.is_empty() {
            true => Ok(()),
            false => Err(ResourceError(format!(
                "{}: packages are only downgraded where the recipe says `downgrade = true`; nothing was begun",
                newer.join("; ")
            ))),
        }
    }

    /// Holds a package to the version that a lock has; with `hold`, nothing else may upgrade it either, unless the recipe
    /// says itself whether it is held. Whether the package is one of these.
    ///
    /// # Errors
    /// The recipe wants another version; which.
    pub(crate) fn lock(&mut self, name: &str, version: &Version, hold: bool) -> Result<bool, String> {
        if !self.install.iter().any(|known| known == name) {
            return Ok(false);
        }
        if let Some(wanted) = self.versions.get(name).filter(|wanted| !wanted.accepts(version)) {
            return Err(wanted.to_string());
        }
        self.versions.insert(name.to_owned(), Requirement::Locked(version.clone()));
        self.hold = self.hold.or(hold.then_some(true));
        Ok(true)
    }

    /// Whether the recipe says if they are to be held.
    pub(crate) fn says_hold(&self) -> bool {
        self.hold.is_some()
    }

    fn judge_pin(&self, context: Context<'_>) -> Result<Judged, ResourceError> {
        match &self.release {
            Some((_, pin)) => Resource::judge(pin, context),
            None => Ok(Judged::default()),
        }
    }

    /// Those that have to change, each with the release, which then counts for what they depend on too, as far as they
    /// need it.
    pub(crate) fn wishes(&self, context: Context<'_>, database: &Database) -> Vec<Wish> {
        // A pin that is new, or has changed, is for packages from elsewhere.
        let is_new_pin = self.judge_pin(context).is_ok_and(|judged| !judged.changes.is_empty());
        let names = self.install.iter().filter(|name| is_new_pin || self.lacks(name, database).is_some());
        let wish = |name: &String| Wish {
            name: name.clone(),
            release: self.release.as_ref().map(|(release, _)| release.clone()),
            requirement: self.versions.get(name).cloned(),
            downgrade: self.is_newer(name, database),
        };
        names.map(wish).collect()
    }

    /// Those whose being held is not as it should be; `hold`: for those that should be.
    fn to_mark(&self, hold: bool, database: &Database) -> impl Iterator<Item = &str> {
        let names = self.install.iter().filter(move |_| self.hold == Some(hold));
        names.filter(move |name| is_held(database, name) != hold).map(String::as_str)
    }

    /// Those that lack something and that somebody else has dpkg hold: the recipe says nothing of that.
    fn held_by_others<'s>(&'s self, database: &'s Database) -> impl Iterator<Item = &'s str> {
        let names = self.install.iter().map(String::as_str);
        names.filter(|name| {
            self.hold.is_none() && is_held(database, name) && self.lacks(name, database).is_some()
        })
    }

    fn refuse_held(&self, database: &Database) -> Result<(), ResourceError> {
        let held: Vec<&str> = self.held_by_others(database).collect();
        match held.is_empty() {
            true => Ok(()),
            false => Err(ResourceError(format!(
                "held by somebody, and would have to change: {}; `apt-mark unhold` it, or say `hold` in the recipe; nothing \
                 was begun",
                held.join(", ")
            ))),
        }
    }

    /// Configuration files that were changed here and kept, where the package has brought others.
    fn kept(&self, machine: &Machine, database: &Database) -> Vec<String> {
        let packages = self.install.iter().filter_map(|name| Some((name, database.get(name)?)));
        let files = packages.flat_map(|(name, package)| package.conffiles().map(move |file| (name, file)));
        let is_kept = |file: &str| matches!(machine.exists(&format!("{file}.dpkg-dist")), Probe::Known(()));
        let kept = files.filter(|(_, file)| is_kept(file));
        kept.map(|(name, file)| {
            format!(
                "{file} of {name} was changed here, and is kept; what the package brings is {file}.dpkg-dist"
            )
        })
        .collect()
    }

    /// What several resources lack of packages, unless somebody has to decide something first.
    fn wishes_of(
        all: &[&AptPackages],
        context: Context<'_>,
        database: &Database,
    ) -> Result<Vec<Wish>, ResourceError> {
        all.iter().try_for_each(|one| one.refuse_downgrades(database).and(one.refuse_held(database)))?;
        Ok(all.iter().flat_map(|one| one.wishes(context, database)).collect())
    }

    /// Fetches what the changes of several resources will need.
    pub(crate) fn prefetch_together(
        all: &[&AptPackages],
        context: Context<'_>,
        is_over: &dyn Fn() -> bool,
        lists_done: &dyn Fn(),
        log: &mut dyn FnMut(&str),
    ) -> Prefetched {
        let wishes = Database::read(context.machine)
            .and_then(|database| AptPackages::wishes_of(all, context, &database));
        let recommends = all.iter().any(|one| one.recommends);
        match wishes {
            Ok(wishes) => apt::prefetch(&wishes, recommends, is_over, lists_done, log),
            Err(error) => Prefetched { lists: None, packages: Err(error) },
        }
    }

    /// Carries out the changes of several resources in one transaction. `lists`: package lists that were fetched
    /// beforehand.
    pub(crate) fn apply_together(
        all: &[&AptPackages],
        context: Context<'_>,
        lists: Option<&Lists>,
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let database = Database::read(context.machine)?;
        let wishes = AptPackages::wishes_of(all, context, &database)?;
        if !wishes.is_empty() || database.is_unfinished() || !database.broken().is_empty() {
            // What the recipe itself holds may change for it, and is held again whatever becomes of this.
            let own = all.iter().filter(|one| one.hold.is_some());
            let own = own.flat_map(|one| one.install.iter().filter(|name| is_held(&database, name)));
            let own: Vec<&str> = own.map(String::as_str).collect();
            let recommends = all.iter().any(|one| one.recommends);
            apt::install(&wishes, recommends, lists, &own, context.stop, log)
                .inspect_err(|_| AptPackages::hold_what_came(all, context, log))?;
        }
        // Only now: a pin that is there says that its release has been applied.
        for (_, pin) in all.iter().filter_map(|one| one.release.as_ref()) {
            let changes = Resource::judge(pin, context)?.changes;
            if !changes.is_empty() {
                pin.apply_with_directory(context, &changes, log)?;
            }
        }
        let database = Database::read(context.machine)?;
        for (hold, verb) in [(true, "hold"), (false, "unhold")] {
            let names: Vec<&str> = all.iter().flat_map(|one| one.to_mark(hold, &database)).collect();
            apt::mark(verb, &names, context.stop, log)?;
        }
        Ok(())
    }
}

impl AptPackages {
    /// Holds those that are to be held and are here, after an apply that failed.
    fn hold_what_came(all: &[&AptPackages], context: Context<'_>, log: &mut dyn FnMut(&str)) {
        let Ok(database) = Database::read(context.machine) else { return };
        let names = all.iter().flat_map(|one| one.to_mark(true, &database));
        let is_here = |name: &&str| {
            let package = database.get(name);
            package.is_some_and(|package| !matches!(package.state.as_str(), "config-files" | "not-installed"))
        };
        apt::hold_at_once(&names.filter(is_here).collect::<Vec<_>>(), log);
    }
}

fn is_held(database: &Database, name: &str) -> bool {
    database.get(name).is_some_and(|package: &PackageState| package.held)
}

impl Kind for AptPackages {
    type State = PackagesState;

    fn observe(&self, context: Context<'_>) -> Result<PackagesState, ResourceError> {
        let database = Database::read(context.machine)?;
        let kept = self.kept(context.machine, &database);
        Ok(PackagesState { database, pin: self.judge_pin(context)?, kept })
    }

    fn compare(&self, _: Context<'_>, PackagesState { database, pin, kept }: &PackagesState) -> Judged {
        let mut changes = Change::of_part(PIN, &pin.changes);
        let lacking = self.install.iter().filter_map(|name| {
            let (now, wanted) = self.lacks(name, database)?;
            Some(Change::new(format!("package {name}"), now, wanted))
        });
        changes.extend(lacking);
        for (hold, before, after) in [(true, "no", "yes"), (false, "yes", "no")] {
            let marks = self.to_mark(hold, database);
            changes.extend(marks.map(|name| Change::new(format!("{name} held"), before, after)));
        }
        if changes.is_empty() && database.is_unfinished() {
            let names: Vec<&str> = database.interrupted().collect();
            let of = if names.is_empty() { String::new() } else { format!(" in {}", names.join(", ")) };
            changes.push(Change::new("dpkg", format!("interrupted or at work{of}"), "at rest"));
        }
        if changes.is_empty() {
            let broken = database.broken().into_iter();
            let needs =
                broken.map(|(name, what)| Change::new("dependencies", format!("{name} needs {what}"), "met"));
            changes.extend(needs);
        }
        let held = self.held_by_others(database).map(|name| {
            format!(
                "{name} is held by somebody, so an apply leaves it: unhold it, or say `hold` in the recipe"
            )
        });
        let notices = held.chain(kept.iter().cloned()).collect();
        Judged { changes, notices, ..Judged::default() }
    }

    fn apply(
        &self,
        context: Context<'_>,
        _: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        AptPackages::apply_together(&[self], context, None, log)
    }

    fn provides(&self) -> Vec<Thing> {
        vec![Thing::Packages]
    }

    fn follows(&self) -> Vec<Wanted> {
        vec![Wanted::AptSources]
    }

    fn as_packages(&self) -> Option<&AptPackages> {
        Some(self)
    }

    fn as_packages_mut(&mut self) -> Option<&mut AptPackages> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::testing::{self, Fake};

    fn fake(status: &str, version: &str) -> Fake {
        let fake = Fake::new();
        std::fs::create_dir_all(fake.path("var/lib/dpkg")).unwrap();
        let status = format!("Package: q\nStatus: {status}\nVersion: {version}\n");
        std::fs::write(fake.path("var/lib/dpkg/status"), status).unwrap();
        fake
    }

    fn resource(keys: &str) -> Box<dyn Resource> {
        testing::read(&format!("apt-packages = {{ install = [\"q\"], {keys} }}")).unwrap()
    }

    #[test]
    fn versions_compare_as_debian_does() {
        let fake = fake("install ok installed", "1:5.2+dfsg-9~bpo10+1");
        let changes = |minimum: &str| fake.changes(&*resource(&format!("minimum = {{ q = \"{minimum}\" }}")));
        assert_eq!(changes("1:5.2"), [""; 0]);
        assert_eq!(changes("7.2"), [""; 0], "the epoch counts first");
        assert_eq!(
            changes("1:5.2+dfsg-9"),
            ["package q: 1:5.2+dfsg-9~bpo10+1 → at least 1:5.2+dfsg-9"],
            "a tilde sorts before the end"
        );
    }

    #[test]
    fn one_version_and_no_other() {
        let fake = fake("install ok installed", "0:2.0-1");
        let changes = |keys: &str| fake.changes(&*resource(keys));
        assert_eq!(changes("version = { q = \"2.0-1\" }"), [""; 0], "an epoch of 0 is none");
        assert_eq!(changes("version = { q = \"2.1\" }"), ["package q: 0:2.0-1 → exactly 2.1"]);
        let older = "version = { q = \"1.9\" }";
        assert_eq!(changes(older), ["package q: 0:2.0-1 → exactly 1.9, which is older"]);
        let allowed = format!("{older}, downgrade = true");
        assert_eq!(changes(&allowed), ["package q: 0:2.0-1 → exactly 1.9, by a downgrade"]);
        let refused = resource(older).apply(fake.context(), &[], &mut |_| {}).unwrap_err().to_string();
        assert!(refused.contains("q is at 0:2.0-1") && refused.contains("`downgrade = true`"), "{refused}");
        let database = Database::read(fake.context().machine).unwrap();
        let wishes = resource(&allowed).as_packages().unwrap().wishes(fake.context(), &database);
        assert_eq!((wishes[0].argument().as_str(), wishes[0].downgrade), ("q=1.9", true));
    }

    #[test]
    fn being_held_is_a_thing_of_its_own() {
        let (held, free) = (fake("hold ok installed", "1"), fake("install ok installed", "1"));
        assert_eq!(held.changes(&*resource("hold = true")), [""; 0]);
        assert_eq!(held.changes(&*resource("hold = false")), ["q held: yes → no"]);
        assert_eq!(held.changes(&*resource("recommends = false")), [""; 0], "left alone");
        assert_eq!(free.changes(&*resource("hold = true")), ["q held: no → yes"]);
        let newer = resource("minimum = { q = \"2\" }");
        let judged = newer.judge(held.context()).unwrap();
        assert!(judged.notices[0].starts_with("q is held by somebody"), "{judged:?}");
        let refused = newer.apply(held.context(), &[], &mut |_| {}).unwrap_err().to_string();
        assert!(refused.starts_with("held by somebody, and would have to change: q; "), "{refused}");
        let none = fake("deinstall ok config-files", "1");
        let expected = ["package q: not installed → installed", "q held: no → yes"];
        assert_eq!(none.changes(&*resource("hold = true")), expected);
    }

    #[test]
    fn a_release_is_a_pin_on_just_these_packages() {
        let fake = fake("install ok installed", "1");
        let packages = "install = [\"q\", \"libstdc++-dev\"], release = \"buster-backports\"";
        let resource = testing::read(&format!("apt-packages = {{ {packages} }}")).unwrap();
        let expected =
            ["pin: content: no such file → 4 lines", "package libstdc++-dev: not installed → installed"];
        assert_eq!(fake.changes(&*resource), expected);
        let packages = resource.as_packages().unwrap();
        let database = Database::read(fake.context().machine).unwrap();
        let arguments = || -> Vec<String> {
            packages.wishes(fake.context(), &database).iter().map(Wish::argument).collect()
        };
        assert_eq!(arguments(), ["q/buster-backports", "libstdc++-dev/buster-backports"], "the pin is new");
        let (_, pin) = packages.release.as_ref().unwrap();
        assert_eq!(pin.path, "/etc/apt/preferences.d/toril-buster-backports-q.pref");
        let changes = Resource::judge(pin, fake.context()).unwrap().changes;
        pin.apply_with_directory(fake.context(), &changes, &mut |_| {}).unwrap();
        assert_eq!(
            std::fs::read_to_string(fake.path(&pin.path[1..])).unwrap(),
            "# Written by toril.\nPackage: q libstdc++-dev\nPin: release buster-backports\nPin-Priority: 990\n"
        );
        assert_eq!(fake.changes(&*resource), ["package libstdc++-dev: not installed → installed"]);
        assert_eq!(arguments(), ["libstdc++-dev/buster-backports"]);
    }

    #[test]
    fn wrong_words_are_refused() {
        testing::refuses(&[
            ("apt-packages = { install = [\"a b\"] }", "`a b` is no name of a package"),
            ("apt-packages = { install = [\"a\"], minimum = { b = \"1\" } }", "`b` is not among `install`"),
            ("apt-packages = { install = [\"a\"], minimum = { a = \"1 2\" } }", "no version of a Debian"),
            ("apt-packages = { install = [\"a\"], version = { a = \"1 2\" } }", "no version of a Debian"),
            (
                "apt-packages = { install = [\"a\"], minimum = { a = \"1\" }, version = { a = \"2\" } }",
                "`a` has a `minimum` already",
            ),
            ("apt-packages = { install = [\"a\"], release = \"a=b\" }", "`a=b` is no name"),
            ("apt-packages = { install = [\"a\"], relase = \"b\" }", "did you mean `release`?"),
        ]);
    }
}
