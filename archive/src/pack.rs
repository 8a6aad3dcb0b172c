use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, readlinkat, statat};
use tar::{Builder, EntryType, Header};

use crate::error::PackError;
use crate::name::{leads_out, relative};
use crate::parcel::{Counted, Parcel, Receipt};

/// Packs these paths of a directory, each relative to it, in their order. Directories are packed without what is in
/// them; those above a path need not be named. The archive is a file without a name in the directory for temporary files.
/// `each` is told how many bytes of files were read.
///
/// # Errors
/// A path cannot be read or may not be in an archive, or the archive cannot be written.
pub fn pack<'p>(
    root: &Path,
    paths: impl IntoIterator<Item = &'p Path>,
    each: &mut dyn FnMut(u64),
) -> Result<Parcel, PackError> {
    pack_in(&std::env::temp_dir(), root, paths, each)
}

/// The same, with the archive in this directory: where files are large, the one for temporary files may be the machine's
/// memory, or too small.
///
/// # Errors
/// As [`pack()`].
pub fn pack_in<'p>(
    directory: &Path,
    root: &Path,
    paths: impl IntoIterator<Item = &'p Path>,
    each: &mut dyn FnMut(u64),
) -> Result<Parcel, PackError> {
    let file = tempfile::tempfile_in(directory).map_err(PackError::Write)?;
    let counted = Counted { file, receipt: Receipt::default() };
    let mut archive = Builder::new(GzEncoder::new(counted, Compression::fast()));
    let mut total = 0;
    let top = openat(CWD, root, ABOVE, Mode::empty())
        .map_err(|error| PackError::Read { path: root.to_owned(), source: error.into() })?;
    for path in paths {
        total += add(&mut archive, (root, &top), path)?;
        each(total);
    }
    let written = archive.into_inner().and_then(GzEncoder::finish).map_err(PackError::Write)?;
    Ok(written.into_parcel())
}

/// How a directory above a path is opened.
const ABOVE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the directory that a path is in, through directories alone: whoever owns the tree may put a link in the place of
/// one at any time, and the packer's rights may be more than that user's.
fn open_above(top: &OwnedFd, above: &[&[u8]]) -> io::Result<Option<OwnedFd>> {
    let mut last: Option<OwnedFd> = None;
    for part in above {
        let directory = last.as_ref().unwrap_or(top);
        let flags = ABOVE.union(OFlags::NOFOLLOW);
        last = Some(openat(directory, OsStr::from_bytes(part), flags, Mode::empty())?);
    }
    Ok(last)
}

/// Adds one path and returns how many bytes of content it has.
fn add(
    archive: &mut Builder<GzEncoder<Counted>>,
    (root, top): (&Path, &OwnedFd),
    path: &Path,
) -> Result<u64, PackError> {
    let named = |why| PackError::Name { path: path.to_owned(), why };
    let parts = relative(path.as_os_str().as_bytes()).map_err(named)?;
    let (name, above) = parts.split_last().ok_or_else(|| named("it is empty"))?;
    let full = root.join(path);
    let failed = |source| PackError::Read { path: full.clone(), source };
    let broken = |error: rustix::io::Errno| failed(error.into());
    let (name, depth) = (OsStr::from_bytes(name), above.len());
    let opened = open_above(top, above).map_err(failed)?;
    let directory = opened.as_ref().unwrap_or(top);
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(broken)?;
    let mut header = Header::new_gnu();
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header.set_size(0);
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind.is_symlink() {
        let target = readlinkat(directory, name, Vec::new()).map_err(broken)?;
        if leads_out(depth, target.as_bytes()) {
            let target = PathBuf::from(OsStr::from_bytes(target.as_bytes()));
            return Err(PackError::LeadsOut { path: full, target });
        }
        let target = OsStr::from_bytes(target.as_bytes());
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        archive.append_link(&mut header, path, target).map_err(PackError::Write)?;
        return Ok(0);
    }
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        archive.append_data(&mut header, path, io::empty()).map_err(PackError::Write)?;
        return Ok(0);
    }
    if !kind.is_file() {
        return Err(PackError::Special(full));
    }
    // It may have become something else in between, which must not hold this up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty()).map_err(broken)?);
    let size = file.metadata().map_err(failed)?.len();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(if stat.st_mode & 0o100 == 0 { 0o644 } else { 0o755 });
    header.set_size(size);
    let mut content = Content { file, left: size, trouble: None };
    let added = archive.append_data(&mut header, path, &mut content);
    match content.trouble {
        Some(Trouble::Read(source)) => Err(PackError::Read { path: full, source }),
        Some(Trouble::Changed) => Err(PackError::Changed(full)),
        None => added.map(|()| size).map_err(PackError::Write),
    }
}

/// Exactly the bytes that were announced.
struct Content {
    file: File,
    left: u64,
    trouble: Option<Trouble>,
}

enum Trouble {
    Read(io::Error),
    Changed,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = match self.file.read(buffer.get_mut(..most).unwrap_or_default()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let again = io::Error::from(error.kind());
                self.trouble = Some(Trouble::Read(error));
                return Err(again);
            }
            Ok(0) if self.left > 0 && !buffer.is_empty() => {
                self.trouble = Some(Trouble::Changed);
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(count) => count,
        };
        self.left -= count as u64;
        Ok(count)
    }
}

/// Every path below a directory, relative to it: directories before what is in them.
///
/// # Errors
/// A directory cannot be read.
pub fn everything(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut next = vec![PathBuf::new()];
    while let Some(directory) = next.pop() {
        let mut entries: Vec<_> = fs::read_dir(root.join(&directory))?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = directory.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                next.push(path.clone());
            }
            found.push(path);
        }
    }
    Ok(found)
}
