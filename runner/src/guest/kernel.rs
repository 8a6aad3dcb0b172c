use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
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
                // The user's way to it may be closed, though the file itself is for it.
                copy_kernel(&original, &used, account, patience).map_err(|why| {
                    let other = || format!("cannot read the kernel {}: {why}", original.display());
                    patience.verdict(&why, &original, other)
                })?;
                Ok(KernelFile { used, original })
            }
        }
    }
}

/// Copies a kernel, as root, for a user who could read it: nothing else, however it is named.
fn copy_kernel(original: &Path, used: &Path, account: &Account, patience: &Patience<'_>) -> io::Result<()> {
    // A pipe must not hold this up; where a link leads is judged by the file that was opened.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = fs::File::from(rustix::fs::open(original, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    let mode = metadata.mode();
    let readable = mode & 0o004 != 0
        || (mode & 0o040 != 0 && account.groups.contains(&metadata.gid()))
        || (mode & 0o400 != 0 && metadata.uid() == account.uid)
        || account.uid == 0;
    if !metadata.is_file() || metadata.len() > KERNEL_LIMIT {
        return Err(io::Error::other("it is no regular file of at most 1 GiB"));
    }
    if !readable {
        return Err(io::Error::other(format!("user {} may not read it", account.name)));
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
