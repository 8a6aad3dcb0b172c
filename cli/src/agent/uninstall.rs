//! What of toril is on a machine, and how it is taken away: what is toril's own goes, and what recipes have made stays.
//! Nothing but what is listed here is removed, and neither links nor mounts lead out of it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use toril_machine::{FIGURES, HostLock, LockError, LockHolder, Machine, room_taken};
use toril_provisioner::{Made, OWN, UNFINISHED, made, unfinished};
use toril_runner::{KeptFolder, STATE, kept_folders, remove_tree};

use super::Report;
use super::journal::has_ended;
use super::run_directory::{JOURNALS, KERNELS, RunDirectory};
use super::steer::worker_of;
use super::worker::{LOCK, TEST_USER};

/// Where the programs are that toril has put on hosts.
const AGENTS: &str = "/var/lib/toril/agents";

/// Where the folders of runs are.
const RUNS: &str = "/var/lib/toril/runs";

/// What is forgotten at a boot.
const VOLATILE: &str = "/run/toril";

/// How the name of a file begins that is being written, to replace another.
const REPLACING: &str = ".toril-";

/// Taking toril away, as a client asks for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Uninstall {
    pub(crate) who: String,
    /// Whether this agent was put there only for this.
    pub(crate) delivered: bool,
    /// The folders that somebody has wanted kept, and that may go.
    pub(crate) kept: Vec<PathBuf>,
}

/// What of toril is on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Footprint {
    /// What is its own, in the order in which it is removed.
    pub(crate) own: Vec<Own>,
    /// Folders among it that somebody has wanted kept.
    pub(crate) kept: Vec<KeptFolder>,
    /// What is not its own, and stays.
    pub(crate) stays: Vec<Made>,
}

/// A file or directory that is toril's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Own {
    pub(crate) path: PathBuf,
    pub(crate) what: String,
    /// What it takes of the disk.
    pub(crate) bytes: u64,
    /// Why it is still there, though it was to be removed.
    pub(crate) trouble: Option<String>,
}

/// What of toril is on a machine. An agent that was `delivered` only to answer this is not counted.
pub(super) fn footprint(machine: &Machine, delivered: bool) -> Result<Footprint, String> {
    let kept = kept(machine)?;
    let bounds = Bounds::of(machine)?;
    let mut own = Vec::new();
    for path in left_unfinished(machine)? {
        if !places().any(|(own, _)| path.starts_with(own)) {
            own.push(Own::new(machine, path, "what a killed apply has left"));
        }
    }
    for (path, what) in places() {
        if machine.exists(path).known()?.is_some() {
            own.push(Own::new(machine, path.into(), what));
        }
    }
    let mut stays = made(machine, TEST_USER);
    for name in names(&machine.path(STATE)).map_err(cannot_look(STATE))? {
        let path = Path::new(STATE).join(&name);
        if is_half_written(machine, &path) {
            own.push(Own::new(machine, path, "a file that was not finished"));
        } else if !is_known(&path) && bounds.home_in(&path).is_none() {
            let what = format!("{}: none of toril's own", path.display());
            stays.push(Made { what, by_hand: None });
        }
    }
    stays.extend(bounds.odd_state(machine));
    own.extend(agents(machine, delivered).map_err(cannot_look(AGENTS))?);
    Ok(Footprint { own, kept, stays })
}

/// Takes it away, unless somebody uses the machine. The agent's own program goes last, and the lock with it.
pub(super) fn uninstall(machine: &Machine, wish: &Uninstall) -> Result<Report, String> {
    // The lock makes this where it is not there.
    let was_used = machine.exists(VOLATILE).known()?.is_some();
    let lock = match lock(machine, &wish.who)? {
        Ok(lock) => lock,
        Err(holder) => return Ok(Report::InUse { holder }),
    };
    let mut footprint = footprint(machine, wish.delivered)?;
    if let Some(new) = footprint.kept.iter().find(|folder| !wish.kept.contains(&folder.directory)) {
        let new = new.directory.display();
        return Err(format!(
            "{new} was kept since you were told what would go; nothing was removed: look again"
        ));
    }
    let own = &mut footprint.own;
    own.retain(|own| was_used || own.path != Path::new(VOLATILE));
    // What is not counted goes with the rest.
    let counts = own.iter().any(|own| own.path == Path::new(AGENTS));
    if !counts {
        own.push(Own::new(machine, AGENTS.into(), "toril itself"));
    }
    let bounds = Bounds::of(machine)?;
    for own in own.iter_mut().filter(|own| own.path != Path::new(VOLATILE)) {
        own.trouble = bounds.allow(machine, &own.path).and_then(|()| remove(machine, &own.path)).err();
    }
    // It stays where something is in it.
    let _ = fs::remove_dir(machine.path(STATE));
    let released = release(machine, lock).map_err(|error| error.to_string());
    if let Some(own) = own.iter_mut().find(|own| own.path == Path::new(VOLATILE)) {
        own.trouble = released.err();
    }
    own.retain(|own| counts || own.trouble.is_some() || own.path != Path::new(AGENTS));
    Ok(Report::Footprint(footprint))
}

/// Takes the host's lock for who asks; otherwise the answer is who has it, or waits for it.
fn lock(machine: &Machine, who: &str) -> Result<Result<HostLock, Option<LockHolder>>, String> {
    let holder = LockHolder {
        who: who.to_owned(),
        what: "uninstall".into(),
        since: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        pid: std::process::id(),
    };
    let lock = match HostLock::try_acquire(&machine.path(LOCK), &holder) {
        Ok(lock) => lock,
        Err(LockError::Held(holder)) => return Ok(Err(Some(holder))),
        Err(LockError::HeldUnnamed) => return Ok(Err(None)),
        Err(error) => return Err(error.to_string()),
    };
    match under_way(machine).map_err(cannot_look(JOURNALS))? {
        None => Ok(Ok(lock)),
        Some(run) => waiting(&run).map(Err).map_err(cannot_look(JOURNALS)),
    }
}

impl Own {
    fn new(machine: &Machine, path: PathBuf, what: &str) -> Own {
        let place = machine.path(&path);
        let what = match fs::read_link(&place) {
            Ok(target) => format!("{what}; a link: what is in {} stays", target.display()),
            Err(_) => what.to_owned(),
        };
        Own { bytes: room_taken(&place), path, what, trouble: None }
    }
}

/// Each path that is toril's own, and what it is; but for the agents.
fn places() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_runs = [
        (RUNS, "folders of tests"),
        (JOURNALS, "what runs were told to do, and what came of it"),
        (KERNELS, "kernels of guests"),
        (FIGURES, "what verify has measured last"),
    ];
    of_runs.into_iter().chain(OWN).chain([(VOLATILE, "the host's lock, and numbers of guests")])
}

fn cannot_look(path: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot look at {path}: {error}")
}

/// Where killed applies have left something.
fn left_unfinished(machine: &Machine) -> Result<Vec<PathBuf>, String> {
    let paths = unfinished(machine).map_err(cannot_look(UNFINISHED))?;
    let root = machine.path("/");
    Ok(paths.iter().map(|path| Path::new("/").join(path.strip_prefix(&root).unwrap_or(path))).collect())
}

fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names =
        entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()?;
    names.sort();
    Ok(names)
}

/// What somebody has wanted kept. Behind a link nothing is removed.
fn kept(machine: &Machine) -> Result<Vec<KeptFolder>, String> {
    if fs::read_link(machine.path(RUNS)).is_ok() {
        return Ok(Vec::new());
    }
    kept_folders(&machine.path(STATE)).map_err(|error| format!("cannot look into {RUNS}: {error}"))
}

/// Whether it is what a write that was cut off has left beside the file that it was to replace.
fn is_half_written(machine: &Machine, path: &Path) -> bool {
    let is_file = || fs::symlink_metadata(machine.path(path)).is_ok_and(|file| file.is_file());
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(REPLACING.as_bytes())) && is_file()
}

/// Whether it is told of in another way: it is toril's own, or what a recipe has built programs from.
fn is_known(path: &Path) -> bool {
    path == Path::new(AGENTS) || path.ends_with("sources") || places().any(|(own, _)| path == Path::new(own))
}

/// The programs that were put there; the one that runs now counts unless it was put there only for that.
fn agents(machine: &Machine, delivered: bool) -> io::Result<Option<Own>> {
    let directory = machine.path(AGENTS);
    let programs = names(&directory)?;
    let own = fs::read_link("/proc/self/exe").unwrap_or_default();
    let others = programs.iter().filter(|name| !delivered || own.file_name() != Some(name.as_os_str()));
    let bytes = others.clone().map(|name| room_taken(&directory.join(name))).sum();
    let is_any = others.count() > 0 || (!delivered && directory.exists());
    Ok(is_any.then(|| Own { bytes, ..Own::new(machine, AGENTS.into(), "toril itself") }))
}

/// The run that is at work or waits, if there is one.
fn under_way(machine: &Machine) -> io::Result<Option<RunDirectory>> {
    let journals = machine.path(JOURNALS);
    for path in names(&journals)?.into_iter().map(|name| journals.join(name)).filter(|path| path.is_dir()) {
        let run = RunDirectory::at(path);
        if is_under_way(&run)? {
            return Ok(Some(run));
        }
    }
    Ok(None)
}

/// Whether a run is at work, waits, or is about to begin. One that has told its end may take a moment to be gone.
fn is_under_way(run: &RunDirectory) -> io::Result<bool> {
    Ok(run.is_alive()? && !has_ended(run)? || run.is_beginning()?)
}

/// Whose a run is that does not hold the lock, once it says so.
fn waiting(run: &RunDirectory) -> io::Result<Option<LockHolder>> {
    let what = match run.has_worker()? {
        true => "a run that waits for the host",
        false => "a run that was killed, and is being cleaned up after",
    };
    let began = run.name().split('-').next().and_then(|time| time.parse().ok()).map(Duration::from_micros);
    Ok(worker_of(run).map(|pid| LockHolder {
        who: run.who().unwrap_or_else(|| "somebody".into()),
        what: what.into(),
        since: began.unwrap_or_default().as_secs(),
        pid: pid.as_raw_nonzero().get().unsigned_abs(),
    }))
}

/// What nothing may be removed for: people's homes, and what is mounted.
struct Bounds {
    homes: Vec<(String, PathBuf)>,
    mounts: Vec<PathBuf>,
}

impl Bounds {
    fn of(machine: &Machine) -> Result<Bounds, String> {
        let users = machine.read("/etc/passwd").known()?.unwrap_or_default();
        let home = |line: &str| {
            let mut fields = line.split(':');
            Some((fields.next()?.to_owned(), PathBuf::from(fields.nth(4)?)))
        };
        let mounts = machine.read("/proc/self/mountinfo").known()?;
        let mounts =
            mounts.ok_or("there is no /proc/self/mountinfo, so it cannot be seen what is mounted where")?;
        Ok(Bounds {
            homes: users.lines().filter_map(home).collect(),
            mounts: mounts.lines().filter_map(mount_point).collect(),
        })
    }

    /// Whose home is this, or lies in it.
    fn home_in(&self, path: &Path) -> Option<&(String, PathBuf)> {
        self.homes.iter().find(|(_, home)| home.starts_with(path))
    }

    /// Whether a path may be removed with all that is in it.
    fn allow(&self, machine: &Machine, path: &Path) -> Result<(), String> {
        if let Some((user, home)) = self.home_in(path) {
            return Err(format!("{} is the home of the user {user}", home.display()));
        }
        // Mounts are listed by where they are, not by the links that lead there.
        let parent = path.parent().unwrap_or(Path::new("/"));
        let real = fs::canonicalize(machine.path(parent)).ok().zip(fs::canonicalize(machine.path("/")).ok());
        let real = real.and_then(|(real, root)| Some(Path::new("/").join(real.strip_prefix(root).ok()?)));
        let real = real.unwrap_or(parent.into()).join(path.file_name().unwrap_or_default());
        let Some(mount) = self.mounts.iter().find(|mount| mount.starts_with(&real)) else { return Ok(()) };
        let mount = mount.display();
        Err(format!("something is mounted at {mount}: unmount it, and give the same command again"))
    }

    /// Why toril's directory itself stays even when it is empty.
    fn odd_state(&self, machine: &Machine) -> Option<Made> {
        let what = match fs::read_link(machine.path(STATE)) {
            Ok(target) => format!("{STATE} itself: it is a link to {}", target.display()),
            Err(_) if self.mounts.iter().any(|mount| mount == Path::new(STATE)) => {
                format!("{STATE} itself: a file system is mounted there")
            }
            Err(_) => return None,
        };
        Some(Made { what, by_hand: None })
    }
}

/// Where a line of /proc/self/mountinfo says that something is mounted: the fifth field, in which white space and
/// backslashes are written as octal numbers, see proc(5).
fn mount_point(line: &str) -> Option<PathBuf> {
    let mut rest = line.split(' ').nth(4)?.as_bytes();
    let mut path = Vec::new();
    while let Some((first, others)) = rest.split_first() {
        let escaped = others.get(..3).filter(|_| *first == b'\\');
        let code = escaped.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        path.push(code.unwrap_or(*first));
        rest = if code.is_some() { others.get(3..).unwrap_or_default() } else { others };
    }
    Some(OsString::from_vec(path).into())
}

/// Removes a path with all that is in it. Links are removed and not followed.
fn remove(machine: &Machine, path: &Path) -> Result<(), String> {
    let place = machine.path(path);
    if path == Path::new(UNFINISHED) && !left_unfinished(machine)?.is_empty() {
        return Err("it says where to find what could not be removed".into());
    }
    let removed = match fs::symlink_metadata(&place) {
        Ok(file) if file.is_dir() && path == Path::new(JOURNALS) => remove_journals(&place),
        Ok(file) if file.is_dir() => remove_tree(&place),
        Ok(_) => fs::remove_file(place),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// A run that has begun in this moment waits for the lock, and keeps its own.
fn remove_journals(directory: &Path) -> io::Result<()> {
    for name in names(directory)? {
        let path = directory.join(&name);
        let run = RunDirectory::at(path.clone());
        if !fs::symlink_metadata(&path)?.is_dir() {
            fs::remove_file(path)?;
        } else if is_under_way(&run)? {
            return Err(io::Error::other(format!("the run {} has begun meanwhile", run.name())));
        } else {
            fs::remove_dir_all(path)?;
        }
    }
    fs::remove_dir(directory)
}

/// Gives the lock back, with what is beside it.
fn release(machine: &Machine, lock: HostLock) -> io::Result<()> {
    let directory = machine.path(VOLATILE);
    let is_lock = |name: &OsStr| Path::new(LOCK).file_name() == Some(name);
    for name in names(&directory)?.into_iter().filter(|name| !is_lock(name)) {
        let path = directory.join(name);
        match fs::symlink_metadata(&path)?.is_dir() {
            true => fs::remove_dir_all(path)?,
            false => fs::remove_file(path)?,
        }
    }
    lock.remove()?;
    fs::remove_dir(directory)
}

#[cfg(test)]
mod tests;
