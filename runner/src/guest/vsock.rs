use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use toril_machine::{Probe, STANDARD_PATH};

use crate::account::Account;

const DEVICE: &str = "/dev/vhost-vsock";

/// The program that does without the kernel's module.
const DAEMON: &str = "vhost-device-vsock";

/// Where toril's own guests say which CIDs they have: a host has one set of them. /run is empty after a boot.
const CIDS: &str = "/run/toril/cids";

/// The lowest that is given to a guest; people who start guests by hand begin at 3.
pub(crate) const FIRST_CID: u32 = 1000;

/// How many are tried.
const MOST_TRIES: u32 = 1000;

/// A guest's own address, where no daemon shares it with others.
const PRIVATE_CID: u32 = 3;

/// What gives a guest its vsock.
#[derive(Debug)]
pub(crate) enum Vsock {
    /// The kernel, by /dev/vhost-vsock.
    Vhost(Cid),
    /// A daemon of its own, at the end of this path.
    User { program: PathBuf },
}

impl Vsock {
    /// Finds out what can be had, with the user's rights; the CID is `from` or above. An error is why there is none,
    /// and what to do.
    pub(crate) fn find(account: &Account, from: u32) -> Result<Vsock, String> {
        // To open it is what has the kernel load the module, where the node is there before it.
        let opened = account.act(|| File::options().read(true).write(true).open(DEVICE).map(drop));
        let lacking = match opened {
            Ok(()) => {
                let cid = Cid::allocate(Path::new(CIDS), from);
                return cid
                    .map(Vsock::Vhost)
                    .map_err(|error| format!("cannot find a free CID for a vsock: {error}"));
            }
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => format!("there is no {DEVICE}"),
                io::ErrorKind::PermissionDenied => format!("user {} may not open {DEVICE}", account.name),
                _ => format!("{DEVICE} cannot be opened ({error})"),
            },
        };
        match on_path(DAEMON) {
            Some(program) => Ok(Vsock::User { program }),
            None => Err(format!(
                "the host has no vsock for guests: {lacking}, and {DAEMON} is not on the path; load the module by \
                 `modprobe vhost_vsock` and apply the recipe, or install {DAEMON}"
            )),
        }
    }

    pub(crate) fn cid(&self) -> u32 {
        match self {
            Vsock::Vhost(cid) => cid.number,
            Vsock::User { .. } => PRIVATE_CID,
        }
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let places = STANDARD_PATH.split(':').map(|folder| Path::new(folder).join(program));
    places
        .into_iter()
        .find(|path| matches!(Probe::of_io(fs::metadata(path), DAEMON), Probe::Known(file) if file.is_file()))
}

/// A CID that no other guest of toril's has as long as this lives.
#[derive(Debug)]
pub(crate) struct Cid {
    pub number: u32,
    path: PathBuf,
    _lock: File,
}

impl Cid {
    fn allocate(folder: &Path, from: u32) -> io::Result<Cid> {
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        for number in from..from.saturating_add(MOST_TRIES) {
            let path = folder.join(number.to_string());
            let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            match lock.try_lock() {
                // Whoever had it may have removed the file in between, and another one may have made it anew.
                Ok(()) if lock.metadata()?.nlink() > 0 => return Ok(Cid { number, path, _lock: lock }),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other(format!("{MOST_TRIES} are in use")))
    }
}

impl Drop for Cid {
    fn drop(&mut self) {
        // Before the lock is given up. What a killed run leaves is an empty file that nobody holds.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_a_cid_that_another_has() {
        let folder = tempfile::tempdir().unwrap();
        let one = Cid::allocate(folder.path(), 1000).unwrap();
        let two = Cid::allocate(folder.path(), 1000).unwrap();
        assert_eq!([one.number, two.number], [1000, 1001]);
        drop(one);
        assert_eq!(Cid::allocate(folder.path(), 1000).unwrap().number, 1000);
        drop(two);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(folder.path().join("1000"), "").unwrap();
        assert_eq!(Cid::allocate(folder.path(), 1000).unwrap().number, 1000, "what a killed run left");
    }
}
