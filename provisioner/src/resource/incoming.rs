//! A file on its way to its place: beside it under another name, and there in one step.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use toril_machine::{FileAttributes, Machine};

use crate::unfinished::Unfinished;

/// The directory that a file is to be in. It is looked up once: others may be able to put a link in its place.
#[derive(Debug)]
pub(super) struct Incoming {
    directory: OwnedFd,
    path: PathBuf,
}

impl Incoming {
    pub(super) fn to(path: &Path) -> io::Result<Incoming> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path.parent().unwrap_or(Path::new("/")), flags, Mode::empty())?;
        Ok(Incoming { directory, path: path.to_owned() })
    }

    /// Has a new file filled, and puts it in its place unless that fails. Nobody else can write to it until then.
    pub(super) fn put<E>(
        &self,
        machine: &Machine,
        attributes: FileAttributes,
        fill: impl FnOnce(&mut File) -> Result<(), E>,
        failed: impl Fn(io::Error) -> E,
    ) -> Result<(), E> {
        let name = self.path.file_name().unwrap_or_default();
        let mut other = OsString::from(".toril-download-");
        other.push(name);
        let unfinished = Unfinished::begin(machine, &self.path.with_file_name(&other)).map_err(&failed)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.directory, &other, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(file.map_err(|error| failed(error.into()))?);
        let filled = fill(&mut file).and_then(|()| {
            let finish = || -> io::Result<()> {
                fchown(&file, Some(attributes.uid), Some(attributes.gid))?;
                // After the change of owner, which clears the set-id bits.
                file.set_permissions(Permissions::from_mode(attributes.mode))?;
                file.sync_all()?;
                renameat(&self.directory, &other, &self.directory, name)?;
                Ok(rustix::fs::fsync(&self.directory)?)
            };
            finish().map_err(&failed)
        });
        if filled.is_err() {
            // The directory may have another path by now.
            let _ = unlinkat(&self.directory, &other, AtFlags::empty());
        }
        unfinished.remove().map_err(failed).and(filled)
    }
}
