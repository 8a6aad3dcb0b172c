use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::plan::Running;
use crate::{Error, files};

/// How long killed processes may take to end; the kernel takes milliseconds.
const END: Duration = Duration::from_secs(15);

/// The directory of one sandbox, held by one operation at a time.
pub(crate) struct HostDir {
    pub name: String,
    pub path: PathBuf,
    _lock: File,
}

impl HostDir {
    /// Waits for other operations on this sandbox; makes the directory.
    pub fn make_and_lock(path: &Path, name: &str) -> Result<HostDir, Error> {
        loop {
            files::make_private_dir(path)?;
            if let Some(host_dir) = HostDir::lock(path, name)? {
                return Ok(host_dir);
            }
        }
    }

    /// `None` if there is no such sandbox.
    pub fn lock(path: &Path, name: &str) -> Result<Option<HostDir>, Error> {
        loop {
            let lock = match File::open(path) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(Error::io("open", path)(error)),
            };
            rustix::fs::flock(&lock, FlockOperation::LockExclusive)
                .map_err(Error::sys(format!("lock {}", path.display())))?;
            // Whoever had it before may have removed it; then this is the lock of nothing.
            let locked = lock.metadata().map_err(Error::io("look at", path))?;
            match path.metadata() {
                Ok(there) if there.ino() == locked.ino() => {
                    return Ok(Some(HostDir { name: name.to_owned(), path: path.to_owned(), _lock: lock }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(Error::io("look at", path)(error)),
            }
        }
    }

    /// The lock that a sandbox's supervisor has from before its first moment to its end. `None`: it has it.
    pub fn take_life_lock(&self) -> Result<Option<File>, Error> {
        let path = self.path.join("alive");
        let file = files::open_private(&path)?;
        let taken = files::try_lock(&file).map_err(Error::io("lock", &path))?;
        Ok(taken.map(|()| file))
    }

    /// What runs, if it does. A supervisor that has only begun is waited for.
    pub fn running(&self) -> Result<Option<Running>, Error> {
        let until = Instant::now() + END;
        loop {
            let recorded = Running::read(&self.path);
            if let Ok(Some(running)) = &recorded
                && running.is_alive()?
            {
                return recorded;
            }
            // Nothing runs when nobody holds the lock, even if the record of it cannot be understood.
            if self.take_life_lock()?.is_some() {
                return Ok(None);
            }
            if Instant::now() > until {
                return recorded.map(|_| None);
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// Ends every process of the sandbox, and with them its mounts.
    pub fn kill(&self) -> Result<(), Error> {
        self.running()?;
        // What is recorded may also be half dead; each process is killed only if it is the one recorded.
        if let Ok(Some(running)) = Running::read(&self.path) {
            for process in [&running.init, &running.supervisor] {
                if !process.kill(END)? {
                    let (name, seconds) = (self.name.clone(), END.as_secs());
                    return Err(Error::StillAlive { name, pid: process.pid, seconds });
                }
            }
        }
        Ok(())
    }

    /// Makes room for a new sandbox: nothing of an old one is kept.
    pub fn clear(&self) -> Result<(), Error> {
        self.kill()?;
        files::remove_content(&self.path)
    }

    /// Takes the sandbox away.
    pub fn remove(self) -> Result<(), Error> {
        self.clear()?;
        fs::remove_dir(&self.path).map_err(Error::io("remove", &self.path))
    }
}
