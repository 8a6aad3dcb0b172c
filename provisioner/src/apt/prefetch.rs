//! Fetching what a transaction will need, before its turn and beside other work. It holds apt's lock on the lists while
//! it fetches these, and no other: what is fetched after that lies in a place of its own until it is whole.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use toril_machine::Machine;

use super::refresh::update;
use super::run::run_until;
use super::transaction::{ARCHIVES, has_room};
use super::{AptState, Database, Wish, offers};
use crate::resource::ResourceError;
use crate::unfinished::Unfinished;

/// Where packages lie until all of them are here. On the file system of [`ARCHIVES`], so that they can be moved there.
pub(crate) const PLACE: &str = "/var/cache/apt/toril";

/// What says where packages come from.
const SOURCES: &str = "/etc/apt";

/// How long a mirror may take for the lists: others wait for them. In the packages' turn it has longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long fetched lists count as the newest.
const FRESH: Duration = Duration::from_secs(15 * 60);

/// What fetching beforehand came to.
#[derive(Debug)]
pub(crate) struct Prefetched {
    /// The lists, where they were fetched.
    pub(crate) lists: Option<Lists>,
    /// How many packages came, and their bytes; or why none did.
    pub(crate) packages: Result<(usize, u64), ResourceError>,
}

/// Package lists that were fetched, and what they were fetched by.
#[derive(Debug)]
pub(crate) struct Lists {
    fetched: Instant,
    sources: BTreeMap<PathBuf, (u64, u64, i64, i64)>,
}

impl Lists {
    /// Lists that are being fetched now.
    fn begin(machine: &Machine) -> io::Result<Lists> {
        Ok(Lists { fetched: Instant::now(), sources: sources(machine)? })
    }

    /// Whether nothing can have made them other ones: neither time, nor a change of the sources.
    pub(super) fn are_current(&self, machine: &Machine) -> bool {
        let same = || sources(machine).is_ok_and(|now| now == self.sources);
        self.fetched.elapsed() < FRESH && same()
    }
}

/// The files of apt's configuration, each as its node says that it is: number, size, and the time of its last change.
fn sources(machine: &Machine) -> io::Result<BTreeMap<PathBuf, (u64, u64, i64, i64)>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![machine.path(SOURCES)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let data = fs::symlink_metadata(&path)?;
            if data.is_dir() {
                directories.push(path.clone());
            }
            found.insert(path, (data.ino(), data.size(), data.ctime(), data.ctime_nsec()));
        }
    }
    Ok(found)
}

/// Fetches the lists, and then what it takes to have these packages; tells when the lists are done with. Neither harm nor
/// a change is done by ending it, which it does when `is_over`.
pub(crate) fn prefetch(
    wishes: &[Wish],
    recommends: bool,
    is_over: &dyn Fn() -> bool,
    lists_done: &dyn Fn(),
    log: &mut dyn FnMut(&str),
) -> Prefetched {
    let machine = Machine::this();
    let lists = fetch_lists(&machine, is_over, log);
    lists_done();
    match lists {
        Err(error) => Prefetched { lists: None, packages: Err(error) },
        Ok(lists) => Prefetched {
            lists: Some(lists),
            packages: fetch_packages(&machine, wishes, recommends, is_over, log),
        },
    }
}

fn fetch_lists(
    machine: &Machine,
    is_over: &dyn Fn() -> bool,
    log: &mut dyn FnMut(&str),
) -> Result<Lists, ResourceError> {
    if let Some(hindrance) = AptState::observe(machine)?.hindrance() {
        return Err(ResourceError(hindrance));
    }
    let lists =
        Lists::begin(machine).map_err(|error| ResourceError(format!("cannot read {SOURCES}: {error}")))?;
    let is_over = || is_over() || lists.fetched.elapsed() > PATIENCE;
    update(|args| run_until(&is_over, "apt-get", args, log)).map_err(|failure| failure.error)?;
    Ok(lists)
}

fn fetch_packages(
    machine: &Machine,
    wishes: &[Wish],
    recommends: bool,
    is_over: &dyn Fn() -> bool,
    log: &mut dyn FnMut(&str),
) -> Result<(usize, u64), ResourceError> {
    let names = offers::settle(wishes, &Database::read(machine)?)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    has_room(&names, recommends)?;
    let place = Place::make(machine, Path::new(PLACE), Path::new(ARCHIVES))?;
    let archives = format!("Dir::Cache::archives={PLACE}/");
    let mut args = vec!["install", "--yes", "--download-only", "--fix-broken", "-o", "Acquire::Retries=3"];
    args.extend(["-o", "Debug::NoLocking=1", "-o", &archives, "-o", "Dpkg::Use-Pty=0"]);
    args.push(if recommends { "--install-recommends" } else { "--no-install-recommends" });
    // Whether that is allowed is asked before.
    args.extend(["--allow-downgrades", "--allow-change-held-packages", "--"]);
    args.extend(&names);
    let fetched = run_until(is_over, "apt-get", &args, log).map_err(|failure| failure.error);
    // What came whole is of use in any case.
    let moved = place.hand_over();
    fetched.and(moved)
}

/// A directory for what is being fetched, gone when this is dropped.
struct Place<'p> {
    directory: &'p Path,
    archives: &'p Path,
    _unfinished: Unfinished,
}

impl<'p> Place<'p> {
    /// Makes it with what is in the archives already, so that this is not fetched again.
    fn make(machine: &Machine, directory: &'p Path, archives: &'p Path) -> Result<Place<'p>, ResourceError> {
        let failed =
            |error: io::Error| ResourceError(format!("cannot make {}: {error}", directory.display()));
        let unfinished = Unfinished::begin(machine, directory).map_err(failed)?;
        DirBuilder::new().mode(0o755).create(directory).map_err(failed)?;
        let place = Place { directory, archives, _unfinished: unfinished };
        let device = |path: &Path| fs::metadata(path).map(|data| data.dev()).map_err(failed);
        if device(directory)? != device(archives)? {
            let archives = archives.display();
            return Err(ResourceError(format!("{archives} is a file system of its own")));
        }
        for path in packages(archives).map_err(failed)? {
            if let Some(name) = path.file_name() {
                // One that is gone again, or cannot be linked, is fetched.
                let _ = fs::hard_link(&path, directory.join(name));
            }
        }
        Ok(place)
    }

    /// Puts what has come where apt looks for it; how many that were, and their bytes.
    fn hand_over(&self) -> Result<(usize, u64), ResourceError> {
        let mut sum = (0, 0);
        let mut moved = || -> io::Result<()> {
            for path in packages(self.directory)? {
                let data = fs::metadata(&path)?;
                // Others were there before.
                if let (1, Some(name)) = (data.nlink(), path.file_name()) {
                    fs::rename(&path, self.archives.join(name))?;
                    sum = (sum.0 + 1, sum.1 + data.len());
                }
            }
            Ok(())
        };
        match moved() {
            Ok(()) => Ok(sum),
            Err(error) => {
                Err(ResourceError(format!("cannot put packages into {}: {error}", self.archives.display())))
            }
        }
    }
}

/// The packages in a directory.
fn packages(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_file() && path.extension().is_some_and(|extension| extension == "deb") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_handed_over_and_the_rest_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let (place, archives) = (root.path().join("toril"), root.path().join("archives"));
        fs::create_dir(&archives).unwrap();
        fs::create_dir(&place).unwrap();
        fs::write(place.join("of-a-killed-one_1.deb"), "x").unwrap();
        fs::write(archives.join("here_1.deb"), "here").unwrap();
        let made = Place::make(&Machine::at(root.path()), &place, &archives).unwrap();
        assert_eq!(packages(&place).unwrap(), [place.join("here_1.deb")]);
        fs::write(place.join("new_1.deb"), "new").unwrap();
        fs::create_dir(place.join("partial")).unwrap();
        fs::write(place.join("partial/half_1.deb"), "h").unwrap();
        assert_eq!(made.hand_over().unwrap(), (1, 3));
        drop(made);
        assert!(!place.exists());
        let mut names: Vec<_> = fs::read_dir(&archives).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["here_1.deb", "new_1.deb"]);
    }

    #[test]
    fn lists_are_current_until_the_sources_change() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::at(root.path());
        let parts = root.path().join("etc/apt/sources.list.d");
        fs::create_dir_all(&parts).unwrap();
        fs::write(parts.join("a.list"), "deb http://h/debian a main\n").unwrap();
        let lists = Lists::begin(&machine).unwrap();
        assert!(lists.are_current(&machine));
        // As long as it was, but put in its place by a rename, as everybody does.
        fs::write(parts.join(".new"), "deb http://h/debian b main\n").unwrap();
        fs::rename(parts.join(".new"), parts.join("a.list")).unwrap();
        assert!(!lists.are_current(&machine));
    }
}
