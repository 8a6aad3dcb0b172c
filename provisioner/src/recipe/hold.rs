//! A recipe and its lock: do they belong together, and what does the lock hold the recipe's hosts to.

use toril_document::Problems;
use toril_machine::Facts;

use super::Bundle;
use super::head::Head;
use super::open::OpenSource;
use super::resources::Draft;
use crate::lock::{Lock, LockedHost, Place};

/// What to do about a lock that does not fit.
const ANEW: &str = "`toril recipe lock` writes it anew";

/// The bundle's lock, as far as it counts; an empty one where there is none.
///
/// # Errors
/// What is wrong with it; then nothing can be said of what it should have.
pub(super) fn read(bundle: &Bundle) -> Result<Lock, Problems> {
    let Some(file) = &bundle.lock else { return Ok(Lock::default()) };
    let mut lock = Lock::read(&file.file)?;
    if lock.recipe != bundle.lock_name() {
        let message =
            format!("this is the lock of `{}`, and the recipe is `{}`", lock.recipe, bundle.lock_name());
        let help = "each recipe has a lock of its own";
        return Err(Problems(vec![lock.problem("R050", &Place::Recipe, message, help)]));
    }
    if file.only_hashes {
        lock.hosts.clear();
    }
    Ok(lock)
}

/// A lock and what it is held against.
pub(super) struct Held<'r> {
    pub(super) lock: &'r Lock,
    pub(super) head: &'r Head,
    /// What the recipe leaves to its lock.
    pub(super) open: &'r [OpenSource],
    /// Whether it is about a machine that is there, of which the lock must know.
    pub(super) real: bool,
}

impl Held<'_> {
    /// Has resources want what the lock says of a machine; what no resource can want is returned.
    pub(super) fn hold(&self, drafts: &mut [Draft], facts: &Facts) -> Result<Option<LockedHost>, Problems> {
        let lock = self.lock;
        let mut problems = Problems::default();
        for name in lock.hashes.keys() {
            let message = match drafts.iter().any(|draft| draft.name.value == *name) {
                false => format!("the recipe has no resource `{name}`"),
                true if self.open.iter().any(|source| source.resource == *name) => continue,
                true => format!("the recipe says itself what `{name}` is"),
            };
            problems.0.push(lock.problem("R051", &Place::Hash(name.clone()), message, ANEW));
        }
        for version in lock.hosts.keys() {
            if !self.head.supports.iter().any(|release| release.version == version) {
                let message = format!("the recipe is not for debian {version}");
                problems.0.push(lock.problem("R052", &Place::Host(version.clone()), message, ANEW));
            }
        }
        let host = lock.hosts.get(&facts.version);
        if let Some(host) = host {
            for (name, version) in &host.packages {
                let held = self.hold_package(name, version, drafts);
                let place = || Place::Package(facts.version.clone(), name.clone());
                problems.0.extend(held.err().map(|message| lock.problem("R051", &place(), message, ANEW)));
            }
        } else if self.real && !lock.hosts.is_empty() {
            let (os, version) = (&facts.os, &facts.version);
            let message = format!("this host runs {os} {version}, and the lock holds {}", lock.releases());
            let help =
                "`toril recipe lock HOST` adds it; `--unlocked` leaves aside what the lock says of hosts";
            problems.0.push(lock.problem("R052", &Place::Recipe, message, help));
        }
        problems.or(host.cloned())
    }

    fn hold_package(&self, name: &str, version: &str, drafts: &mut [Draft]) -> Result<(), String> {
        let Ok(parsed) = version.parse() else { return Ok(()) };
        let mut known = false;
        for packages in drafts.iter_mut().filter_map(|draft| draft.resource.as_mut()?.as_packages_mut()) {
            let held = packages.lock(name, &parsed, self.head.holds_locked);
            known |= held
                .map_err(|wanted| format!("the lock has {name} {version}, and the recipe wants {wanted}"))?;
        }
        if known { Ok(()) } else { Err(format!("the recipe has no package `{name}`")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{HostInfo, LockFile, Recipe, RecipeFile, Release, sample_facts};
    use crate::resource::testing::Fake;

    const RECIPE: &str = "description = \"d\"\nsupports = [\"debian 11\", \"debian 12\"]\n
        [[resource]]\nname = \"packages\"\napt-packages = { install = [\"q\"], minimum = { q = \"1\" } }
        [[resource]]\nname = \"tar\"\ndownload = { url = \"https://h/f\", path = \"/srv/f\" }\n";

    const HOST: &str = "[[host]]\nrelease = \"debian 12\"\nkernel = \"6.1\"\npackages = { q = \"2:1-1\" }\n";

    fn bundle(recipe: &str, lock: &str) -> Bundle {
        let hash = "ab".repeat(32);
        let text = format!("recipe = \"r.toml\"\n[hashes]\ntar = \"{hash}\"\n{lock}");
        let file = RecipeFile { origin: "d/r.lock".into(), text };
        Bundle {
            lock: Some(LockFile { file, only_hashes: false }),
            ..Bundle::of("d/r.toml", recipe, Default::default())
        }
    }

    fn host() -> HostInfo {
        HostInfo { name: "h".into(), user: "u".into() }
    }

    fn problems(bundle: &Bundle) -> String {
        Recipe::check(bundle, &host()).unwrap_err().to_string()
    }

    #[test]
    fn packages_kernel_and_hashes_are_those_of_the_lock() {
        let bundle = bundle(RECIPE, HOST);
        Recipe::check(&bundle, &host()).unwrap();
        let fake = Fake::new();
        let recipe = Recipe::read(&bundle, &fake.facts, &host()).unwrap();
        std::fs::create_dir_all(fake.path("var/lib/dpkg")).unwrap();
        let status = "Package: q\nStatus: install ok installed\nVersion: 2:1-2\n";
        std::fs::write(fake.path("var/lib/dpkg/status"), status).unwrap();
        let changes = |index: usize| fake.changes(&*recipe.resources[index].resource);
        assert_eq!(changes(0), ["package q: 2:1-2 → 2:1-1, as locked, which is older"]);
        let names: Vec<&str> = recipe.names().collect();
        assert_eq!(names, ["packages", "tar", crate::resource::locked::NAME]);
        assert_eq!(changes(2), [format!("kernel: {} → 6.1, as locked", fake.facts.kernel)]);
        assert!(format!("{:?}", recipe.resources[1]).contains(&"ab".repeat(32)));
        let unlocked = Recipe::open_sources(&bundle, &host()).unwrap();
        assert_eq!((unlocked[0].resource.as_str(), unlocked[0].url.as_str()), ("tar", "https://h/f"));
        let held = RECIPE.replace("supports", "locked-packages = \"hold\"\nsupports");
        let recipe = Recipe::read(&super::tests::bundle(&held, HOST), &fake.facts, &host()).unwrap();
        assert_eq!(fake.changes(&*recipe.resources[0].resource)[1], "q held: no → yes");
    }

    #[test]
    fn a_lock_of_something_else_is_refused() {
        let other = bundle(&RECIPE.replace("\"tar\"", "\"rat\""), HOST);
        let text = problems(&other);
        assert!(text.contains("d/r.lock:3:1: the recipe has no resource `tar` [R051]"), "{text}");
        assert!(text.contains("`sha256` of `rat` is missing, and no lock has it [R053]"), "{text}");
        let text = problems(&bundle(&RECIPE.replace("\"1\"", "\"3:1\""), HOST));
        assert!(text.contains("the lock has q 2:1-1, and the recipe wants at least 3:1 [R051]"), "{text}");
        let text = problems(&bundle(
            &RECIPE.replace("\"q\"]", "\"p\"]").replace("minimum = { q", "minimum = { p"),
            HOST,
        ));
        assert!(text.contains("d/r.lock:7:14: the recipe has no package `q` [R051]"), "{text}");
        let text = problems(&bundle(RECIPE, &HOST.replace("debian 12", "debian 13")));
        assert!(text.contains("d/r.lock:5:11: the recipe is not for debian 13 [R052]"), "{text}");
        let renamed = Bundle {
            files: vec![RecipeFile { origin: "o.toml".into(), text: RECIPE.into() }],
            ..bundle(RECIPE, HOST)
        };
        let text = problems(&renamed);
        assert!(text.contains("this is the lock of `r.toml`, and the recipe is `o.toml` [R050]"), "{text}");
        let eleven = sample_facts(Release::parse("debian 11").unwrap());
        let text = Recipe::read(&bundle(RECIPE, HOST), &eleven, &host()).unwrap_err().to_string();
        assert!(text.contains("this host runs debian 11, and the lock holds debian 12 [R052]"), "{text}");
        let mut aside = bundle(RECIPE, HOST);
        aside.lock.as_mut().unwrap().only_hashes = true;
        assert_eq!(Recipe::read(&aside, &eleven, &host()).unwrap().names().count(), 2);
    }
}
