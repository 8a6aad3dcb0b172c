use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use toril_machine::{FileAttributes, write_atomically};

use super::Patience;
use super::plan::error;
use super::tree::copy_bytes;
use crate::account::Account;
use crate::run::Options;
use crate::suite::Kernel;
use crate::toolkit;
use crate::verdict::Verdict;

/// Larger files are no kernels, in bytes.
const KERNEL_LIMIT: u64 = 1 << 30;

/// A kernel where QEMU opens it, and where a person finds it.
#[derive(Debug)]
pub(crate) struct KernelFile {
    pub used: PathBuf,
    pub original: PathBuf,
}

impl KernelFile {
    /// Puts a kernel (a relative path starts at `base`) where the user can open it. An error is the verdict, where
    /// it cannot be booted.
    pub(crate) fn prepare(
        kernel: &Kernel,
        base: &Path,
        options: &Options,
        account: &Account,
        folder: &Path,
        patience: &Patience<'_>,
    ) -> Result<KernelFile, Verdict> {
        match kernel {
            Kernel::Toolkit => {
                let path = install_toolkit(&options.state).map_err(|why| {
                    error(format!("cannot put the built-in guest into {}: {why}", options.state.display()))
                })?;
                Ok(KernelFile { used: path.clone(), original: path })
            }
            Kernel::File(path) => {
                let original = base.join(path);
                let used = folder.join("kernel");
                // A suite may name any file of the host: what its user cannot reach must not come to it as a kernel.
                account.act(|| copy_kernel(&original, &used, patience)).map_err(|why| {
                    let other = || match why.kind() {
                        io::ErrorKind::PermissionDenied => format!(
                            "user {} may not read the kernel {}, or not pass through a directory above it",
                            account.name,
                            original.display()
                        ),
                        _ => format!("cannot read the kernel {}: {why}", original.display()),
                    };
                    patience.verdict(&why, &original, other)
                })?;
                Ok(KernelFile { used, original })
            }
        }
    }
}

/// Copies a kernel with the rights of whoever calls it.
fn copy_kernel(original: &Path, used: &Path, patience: &Patience<'_>) -> io::Result<()> {
    // A pipe must not hold this up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = fs::File::from(rustix::fs::open(original, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > KERNEL_LIMIT {
        return Err(io::Error::other("it is no regular file of at most 1 GiB"));
    }
    let mut copy = fs::File::create_new(used)?;
    copy_bytes(&mut file, KERNEL_LIMIT, &mut copy, patience)?;
    copy.set_permissions(Permissions::from_mode(0o444))
}

/// Makes the built-in guest a file that stays, so that what reproduces a failure works after the run.
fn install_toolkit(state: &Path) -> io::Result<PathBuf> {
    let folder = state.join("kernels");
    let path = folder.join(concat!("toolkit-", env!("CARGO_PKG_VERSION"), ".elf"));
    if fs::read(&path).is_ok_and(|content| content == toolkit::IMAGE) {
        return Ok(path);
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
    let everybody = FileAttributes { uid: 0, gid: 0, mode: 0o644 };
    write_atomically(&path, toolkit::IMAGE, Some(everybody)).map_err(io::Error::other)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_kernel_is_what_its_user_could_read_himself() {
        let root = Account::root();
        if root.act(|| Ok(())).is_err() {
            println!("skipped: it is not root that runs this, and nobody else can become another user");
            return;
        }
        let nobody =
            Account { name: "nobody".into(), uid: 65534, gid: 65534, groups: vec![65534], ..Account::root() };
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        let stop = AtomicBool::new(false);
        let prepare = |account: &Account, path: &str| {
            let folder = tempfile::tempdir().unwrap();
            chown(folder.path(), Some(account.uid), Some(account.gid)).unwrap();
            let patience = Patience::from_now(&stop, Duration::from_secs(60));
            let kernel = Kernel::File(place.path().join(path));
            let base = Path::new("/");
            let made =
                KernelFile::prepare(&kernel, base, &Options::default(), account, folder.path(), &patience);
            made.map(|kernel| fs::read(kernel.used).unwrap()).map_err(|verdict| verdict.reason)
        };
        // Of a home: anybody may read the file, and nobody else comes to it.
        fs::create_dir(place.path().join("home")).unwrap();
        for (path, mode) in [("home/.netrc", 0o644), ("open", 0o644), ("closed", 0o600)] {
            fs::write(place.path().join(path), "content").unwrap();
            fs::set_permissions(place.path().join(path), Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(place.path().join("home"), Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("home/.netrc", place.path().join("link")).unwrap();
        assert_eq!(prepare(&nobody, "open").unwrap(), b"content");
        for path in ["home/.netrc", "link", "closed"] {
            let why = prepare(&nobody, path).unwrap_err();
            assert!(why.starts_with("user nobody may not read the kernel "), "{path}: {why}");
            assert_eq!(prepare(&root, path).unwrap(), b"content", "{path}");
        }
        let why = prepare(&nobody, "").unwrap_err();
        assert!(why.ends_with("it is no regular file of at most 1 GiB"), "{why}");
    }
}
