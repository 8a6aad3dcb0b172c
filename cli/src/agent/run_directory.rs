use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where runs keep their journals, readable by root only.
const JOURNALS: &str = "/var/lib/toril/journals";

/// Where kernels are.
const KERNELS: &str = "/var/lib/toril/kernels";

/// How many ended runs are kept.
const KEPT: usize = 20;

/// A run's directory on the host: its order, its journal, and a lock that its worker holds as long as it lives.
#[derive(Debug, Clone)]
pub(crate) struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Makes a directory for a new run, and removes those of old ones.
    pub(crate) fn create() -> io::Result<RunDirectory> {
        DirBuilder::new().recursive(true).mode(0o755).create("/var/lib/toril")?;
        DirBuilder::new().recursive(true).mode(0o755).create(KERNELS)?;
        DirBuilder::new().recursive(true).mode(0o700).create(JOURNALS)?;
        prune()?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        // Sorts by age, even if the clock was set back; one process does not begin two runs in one microsecond.
        let newest = names()?.pop().and_then(|name| name.split('-').next()?.parse::<u128>().ok());
        let number = newest.map_or(time, |newest| time.max(newest + 1));
        let name = format!("{number:020}-{}", std::process::id());
        let path = Path::new(JOURNALS).join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(RunDirectory { path })
    }

    /// The directory of an earlier run; of the newest where no name is given.
    pub(crate) fn find(name: Option<&str>) -> io::Result<Option<RunDirectory>> {
        let names = names()?;
        let found = match name {
            // The name comes from outside: it counts only if it is one of those that are there.
            Some(name) => names.into_iter().find(|other| other == name),
            None => names.into_iter().next_back(),
        };
        Ok(found.map(|name| RunDirectory { path: Path::new(JOURNALS).join(name) }))
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

    pub(crate) fn stderr(&self) -> PathBuf {
        self.path.join("stderr")
    }

    /// Held by the worker as long as it lives: the kernel frees it, however the worker ends.
    pub(crate) fn hold_alive(&self) -> io::Result<File> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.alive_file())?;
        file.lock()?;
        Ok(file)
    }

    pub(crate) fn is_alive(&self) -> io::Result<bool> {
        let file = match File::open(self.alive_file()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn alive_file(&self) -> PathBuf {
        self.path.join("alive")
    }
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
