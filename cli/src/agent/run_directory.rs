use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::journal::has_ended;

/// Where runs keep their journals, readable by root only.
pub(super) const JOURNALS: &str = "/var/lib/toril/journals";

/// Where kernels are.
pub(super) const KERNELS: &str = "/var/lib/toril/kernels";

/// How many ended runs are kept.
const KEPT: usize = 20;

/// A run's directory on the host: its order, its journal, and a lock that its worker holds as long as it lives.
#[derive(Debug, Clone)]
pub(crate) struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// The directory of the run that a client has chosen this token for; made, and those of old runs removed, if there
    /// is none yet. The token is part of its name.
    pub(crate) fn of_token(token: &str) -> io::Result<RunDirectory> {
        if !is_token(token) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{token:?} is no token of a run"),
            ));
        }
        DirBuilder::new().recursive(true).mode(0o755).create("/var/lib/toril")?;
        DirBuilder::new().recursive(true).mode(0o755).create(KERNELS)?;
        DirBuilder::new().recursive(true).mode(0o700).create(JOURNALS)?;
        // The client may have asked another front the same, and lost it.
        let alone = File::open(JOURNALS)?;
        alone.lock()?;
        let names = names()?;
        if let Some(name) = names.iter().find(|name| name.split_once('-').is_some_and(|(_, of)| of == token))
        {
            return Ok(RunDirectory { path: Path::new(JOURNALS).join(name) });
        }
        prune()?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        // Sorts by age, even if the clock was set back.
        let newest = names.last().and_then(|name| name.split('-').next()?.parse::<u128>().ok());
        let number = newest.map_or(time, |newest| time.max(newest + 1));
        let path = Path::new(JOURNALS).join(format!("{number:020}-{token}"));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(RunDirectory { path })
    }

    /// The directory of an earlier run; of the newest where no name is given.
    pub(crate) fn find(name: Option<&str>) -> io::Result<Option<RunDirectory>> {
        let names = names()?;
        let found = match name {
            // The name comes from outside: it counts only if it is one of those that are there.
            Some(name) => names.into_iter().find(|other| other == name),
            // One that was not begun, because its client was lost while it sent what belongs to it, is no run.
            None => {
                names.into_iter().rev().find(|name| Path::new(JOURNALS).join(name).join("journal").exists())
            }
        };
        Ok(found.map(|name| RunDirectory { path: Path::new(JOURNALS).join(name) }))
    }

    /// The newest run that is at work; of those that `who` began, if that is given.
    pub(crate) fn find_alive(who: Option<&str>) -> io::Result<Option<RunDirectory>> {
        for name in names()?.into_iter().rev() {
            let run = RunDirectory { path: Path::new(JOURNALS).join(name) };
            if run.is_at_work()? && who.is_none_or(|who| run.is_of(who)) {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    pub(crate) fn at(path: PathBuf) -> RunDirectory {
        RunDirectory { path }
    }

    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn is_of(&self, who: &str) -> bool {
        self.who().is_some_and(|of| of == who)
    }

    /// Who has asked for it, if that can be read.
    pub(super) fn who(&self) -> Option<String> {
        /// What is read of an order: its builds and suites may be long.
        #[derive(serde::Deserialize)]
        struct Whose {
            who: String,
        }
        let text = fs::read(self.order()).ok()?;
        serde_json::from_slice::<Whose>(&text).ok().map(|order| order.who)
    }

    pub(crate) fn order(&self) -> PathBuf {
        self.path.join("order.json")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The journal, until the worker takes it.
    pub(crate) fn prepared_journal(&self) -> PathBuf {
        self.path.join("journal.prepared")
    }

    /// The kernel that came with the order. It stays as long as the journal does, where the test user can read it: the
    /// command that does the same by hand names it.
    pub(crate) fn kernel(&self) -> PathBuf {
        Path::new(KERNELS).join(format!("run-{}.elf", self.name()))
    }

    /// What its builds and tests printed, and how they ended.
    pub(crate) fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    /// The tree that came with the order, as an archive, until it is unpacked.
    pub(crate) fn source(&self) -> PathBuf {
        self.path.join("source.tar.gz")
    }

    /// The named pipe that the run's guest reads, if it reads one.
    pub(crate) fn input(&self) -> PathBuf {
        self.path.join("input")
    }

    pub(crate) fn stderr(&self) -> PathBuf {
        self.path.join("stderr")
    }

    /// Held by the worker as long as it lives: the kernel frees it, however the worker ends.
    pub(crate) fn hold_alive(&self) -> io::Result<File> {
        lock(&self.alive_file())
    }

    /// Whether its worker is there.
    pub(crate) fn has_worker(&self) -> io::Result<bool> {
        is_locked(&self.alive_file())
    }

    /// Whether its end is still to come, from its worker. One that has told it may take a moment to be gone.
    pub(crate) fn is_at_work(&self) -> io::Result<bool> {
        Ok(self.has_worker()? && !has_ended(self)?)
    }

    /// Held by the watcher as long as it lives, from before the worker begins.
    pub(super) fn hold_watched(&self) -> io::Result<File> {
        lock(&self.watched_file())
    }

    /// Whether entries may still come: from its worker or, where that was killed, from who watches it.
    pub(crate) fn is_alive(&self) -> io::Result<bool> {
        // In this order: the watcher outlives the worker.
        Ok(self.has_worker()? || is_locked(&self.watched_file())?)
    }

    /// Taken by the front that begins the run, and handed on to the worker until there is a journal: while it is held,
    /// nobody else may begin it. `None`: somebody else holds it.
    pub(crate) fn try_beginning(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.beginning_file())?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether somebody is about to begin it.
    pub(super) fn is_beginning(&self) -> io::Result<bool> {
        is_locked(&self.beginning_file())
    }

    fn beginning_file(&self) -> PathBuf {
        self.path.join("beginning")
    }

    /// Held by each front that follows the run for a client: the kernel frees it, however the front ends.
    pub(super) fn hold_followed(&self) -> io::Result<File> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.followed_file())?;
        file.lock_shared()?;
        Ok(file)
    }

    /// Whether somebody follows it.
    pub(super) fn is_followed(&self) -> io::Result<bool> {
        is_held(&self.followed_file(), File::try_lock)
    }

    /// Whether it is to end when nobody follows it. One whose order another version has written in its own way is not.
    pub(super) fn is_attended(&self) -> bool {
        #[derive(Deserialize)]
        struct Attended {
            #[serde(default)]
            attended: bool,
        }
        let order = fs::read(self.order()).ok();
        let order = order.and_then(|order| serde_json::from_slice::<Attended>(&order).ok());
        order.is_some_and(|order| order.attended)
    }

    fn followed_file(&self) -> PathBuf {
        self.path.join("followed")
    }

    fn alive_file(&self) -> PathBuf {
        self.path.join("alive")
    }

    fn watched_file(&self) -> PathBuf {
        self.path.join("watched")
    }
}

fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.lock()?;
    Ok(file)
}

fn is_locked(path: &Path) -> io::Result<bool> {
    is_held(path, File::try_lock_shared)
}

/// Whether somebody holds a lock on a file that keeps this one from being had.
fn is_held(path: &Path, try_lock: fn(&File) -> Result<(), TryLockError>) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match try_lock(&file) {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether it is 16 hexadecimal digits. It comes from outside and becomes part of a path.
fn is_token(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn names() -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(JOURNALS) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn prune() -> io::Result<()> {
    let names = names()?;
    for name in &names[..names.len().saturating_sub(KEPT)] {
        let run = RunDirectory { path: Path::new(JOURNALS).join(name) };
        if run.is_alive()? {
            continue;
        }
        // Most runs have none.
        drop(fs::remove_file(run.kernel()));
        match fs::remove_dir_all(&run.path) {
            // Another front may be removing it too.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_no_path() {
        assert!(is_token("0123456789abcdef"));
        for text in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789ABCDEF",
            "../../../../../et",
            "0123-56789abcdef",
        ] {
            assert!(!is_token(text), "{text}");
            assert!(RunDirectory::of_token(text).is_err());
        }
    }

    #[test]
    fn a_run_is_followed_as_long_as_anybody_does() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::at(dir.path().to_owned());
        assert!(!run.is_followed().unwrap());
        let (first, second) = (run.hold_followed().unwrap(), run.hold_followed().unwrap());
        drop(first);
        assert!(run.is_followed().unwrap());
        drop(second);
        assert!(!run.is_followed().unwrap());
    }

    #[test]
    fn a_run_is_attended_where_its_order_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::at(dir.path().to_owned());
        assert!(!run.is_attended());
        for (order, attended) in
            [("{\"attended\":true,\"jobs\":7}", true), ("{\"jobs\":[]}", false), ("?", false)]
        {
            fs::write(run.order(), order).unwrap();
            assert_eq!(run.is_attended(), attended, "{order}");
        }
    }

    #[test]
    fn one_at_a_time_begins_a_run_and_a_copy_of_the_lock_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::at(dir.path().to_owned());
        let lock = run.try_beginning().unwrap().unwrap();
        assert!(run.try_beginning().unwrap().is_none());
        let handed_on = lock.try_clone().unwrap();
        drop(lock);
        assert!(run.try_beginning().unwrap().is_none());
        drop(handed_on);
        assert!(run.try_beginning().unwrap().is_some());
    }
}
