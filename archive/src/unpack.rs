use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use crate::error::UnpackError;
use crate::name::{LONGEST, leads_out, relative};

/// What is taken of an archive, and whose its files become.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The owner of all that is made; nothing: the caller.
    pub owner: Option<Owner>,
    /// What is done with symbolic links.
    pub links: Links,
    /// How many bytes its files may have in all.
    pub most_bytes: u64,
    /// How many entries it may have.
    pub most_entries: u64,
}

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What is done with symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Those that stay inside are made.
    Inside,
    /// None is taken.
    Refuse,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Unpacks an archive into a directory that is there. Nothing outside of it is touched, whatever the archive says: no part
/// of a path is followed if it is a link, nothing that is there is replaced. Modes are 0644 or 0755, whatever it says; times
/// are kept. What was unpacked before an error stays.
///
/// # Errors
/// The archive is refused, is cut off, or a file cannot be made.
pub fn unpack(archive: impl Read, into: &Path, rules: &Rules) -> Result<Unpacked, UnpackError> {
    unpack_tar(GzDecoder::new(archive), into, rules, Dialect::Own)
}

/// Unpacks a tar, not compressed, that somebody else has made with a tool of theirs, as [`unpack`] does. Besides, `./` before
/// paths, long names in pax headers, and hard links to files that came before are taken. `strip`: so many parts are taken
/// off each path, and what has no more parts is left out.
///
/// # Errors
/// The archive is refused, is cut off, or a file cannot be made.
pub fn unpack_foreign(
    tar: impl Read,
    into: &Path,
    rules: &Rules,
    strip: usize,
) -> Result<Unpacked, UnpackError> {
    // What is no file's content costs time, too. Each entry has a header, and some have one more for a long name.
    let limit = rules.most_entries.saturating_mul(MOST_BESIDE).saturating_add(MOST_PADDING as u64);
    let limit = rules.most_bytes.saturating_add(limit);
    let limited = Limited { from: tar, left: limit, limit };
    unpack_tar(limited, into, rules, Dialect::Foreign { strip })
}

/// What makes archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// [`crate::pack()`].
    Own,
    /// Whatever somebody has.
    Foreign { strip: usize },
}

fn unpack_tar(tar: impl Read, into: &Path, rules: &Rules, dialect: Dialect) -> Result<Unpacked, UnpackError> {
    let top = rustix::fs::open(into, DIRECTORY, Mode::empty())
        .map_err(|error| UnpackError::Write { path: into.to_owned(), source: error.into() })?;
    let mut target = Target { into, top, rules, dialect, done: Unpacked::default(), last: None };
    let mut archive = Archive::new(tar);
    let mut names = LongNames::default();
    // Raw, because the reader of long names that comes with the crate takes names of any size into memory.
    let entries = archive.entries().map_err(UnpackError::Read)?.raw(true);
    for entry in entries {
        let mut entry = entry.map_err(UnpackError::Read)?;
        target.done.entries += 1;
        if target.done.entries > rules.most_entries {
            return Err(UnpackError::TooMuch { limit: rules.most_entries, what: "entries" });
        }
        match entry.header().entry_type() {
            EntryType::GNULongName => names.path = Some(long_name(&mut entry)?),
            EntryType::GNULongLink => names.link = Some(long_name(&mut entry)?),
            EntryType::XHeader if dialect != Dialect::Own => names.read_pax(&mut entry)?,
            // Of the whole archive, such as the commit that it was made of.
            EntryType::XGlobalHeader if dialect != Dialect::Own => {}
            _ => target.take(entry, std::mem::take(&mut names))?,
        }
    }
    // The checksum at the end is read, too.
    let mut rest = archive.into_inner();
    let mut buffer = [0; 8192];
    let mut padding = 0;
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => return Ok(target.done),
            // What may pad an archive to full blocks, and is no bomb.
            Ok(count) if buffer.iter().take(count).all(|byte| *byte == 0) => {
                padding += count;
                if padding > MOST_PADDING {
                    return Err(UnpackError::TooMuch {
                        limit: MOST_PADDING as u64,
                        what: "bytes of padding",
                    });
                }
            }
            Ok(_) => return Err(UnpackError::Read(io::Error::other("it goes on after its end"))),
            Err(error) => return Err(UnpackError::Read(error)),
        }
    }
}

/// tar's own is of 10 KiB.
const MOST_PADDING: usize = 1 << 20;

/// What an entry may have beside its content on average, in bytes: its header, the filling of its last block, and those of
/// a long name.
const MOST_BESIDE: u64 = 4096;

/// More of a pax header is not read, in bytes: it may hold attributes without end, and its names are at its beginning.
const MOST_PAX: u64 = 64 << 10;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Names that do not fit into a header and come before it.
#[derive(Default)]
struct LongNames {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl LongNames {
    /// Takes what a pax header says of the entry that follows.
    fn read_pax(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let mut text = Vec::new();
        entry.take(MOST_PAX).read_to_end(&mut text).map_err(UnpackError::Read)?;
        for record in PaxExtensions::new(&text) {
            let record = record.map_err(UnpackError::Read)?;
            match record.key_bytes() {
                b"path" => self.path = Some(record.value_bytes().to_owned()),
                b"linkpath" => self.link = Some(record.value_bytes().to_owned()),
                // The entry's own header would lie, and what follows be read at a wrong place.
                b"size" => return Err(UnpackError::Read(io::Error::other("it has a file of 8 GiB or more"))),
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(UnpackError::Read(io::Error::other("it has a sparse file")));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A reader that fails where more comes than there may be.
struct Limited<R> {
    from: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(format!("it is of more than {} bytes", self.limit))),
        }
        Ok(count)
    }
}

fn long_name(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, UnpackError> {
    let mut name = Vec::new();
    entry.take(LONGEST as u64 + 2).read_to_end(&mut name).map_err(UnpackError::Read)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

struct Target<'t> {
    into: &'t Path,
    top: OwnedFd,
    rules: &'t Rules,
    dialect: Dialect,
    done: Unpacked,
    /// The directory of the last entry: most that follow are in it, too.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Target<'_> {
    fn take(&mut self, mut entry: Entry<'_, impl Read>, names: LongNames) -> Result<(), UnpackError> {
        let path = names.path.unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let shown = String::from_utf8_lossy(&path).into_owned();
        let kind = match entry.header().entry_type() {
            // Old archives mark a directory by its name only.
            EntryType::Regular if self.dialect != Dialect::Own && path.ends_with(b"/") => {
                EntryType::Directory
            }
            kind => kind,
        };
        let what = match kind {
            EntryType::Regular | EntryType::Directory => None,
            EntryType::Symlink if self.rules.links == Links::Inside => None,
            EntryType::Symlink => Some("a symbolic link"),
            EntryType::Link if self.dialect != Dialect::Own => None,
            EntryType::Link => Some("a hard link"),
            EntryType::Char | EntryType::Block => Some("a device"),
            EntryType::Fifo => Some("a pipe"),
            _ => Some("something that is no file"),
        };
        if let Some(what) = what {
            return Err(UnpackError::Kind { path: shown, what });
        }
        let Some(parts) = self.parts(&path, &shown)? else { return Ok(()) };
        let Some((name, above)) = parts.split_last() else { return Ok(()) };
        let size = if kind == EntryType::Regular { entry.header().size() } else { Ok(0) };
        let size = size.map_err(UnpackError::Read)?;
        self.done.bytes = self.done.bytes.saturating_add(size);
        if self.done.bytes > self.rules.most_bytes {
            return Err(UnpackError::TooMuch { limit: self.rules.most_bytes, what: "bytes" });
        }
        let parent = self.directory(above, &shown)?;
        let failed = |error| self.failed(&shown, error);
        match kind {
            EntryType::Directory => {
                self.make_directory(parent.as_fd(), name).map_err(failed)?;
            }
            EntryType::Link => {
                let target = names.link.or_else(|| Some(entry.header().link_name_bytes()?.into_owned()));
                self.link(parent.as_fd(), name, &target.unwrap_or_default(), &shown)?;
            }
            EntryType::Symlink => {
                let target = names.link.or_else(|| Some(entry.header().link_name_bytes()?.into_owned()));
                let target = target.unwrap_or_default();
                if leads_out(above.len(), &target) {
                    let target = String::from_utf8_lossy(&target).into_owned();
                    return Err(UnpackError::LeadsOut { path: shown, target });
                }
                rustix::fs::symlinkat(target.as_slice(), &parent, *name).map_err(failed)?;
                if let Some(Owner { uid, gid }) = self.rules.owner {
                    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                    rustix::fs::chownat(&parent, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(failed)?;
                }
            }
            _ => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file =
                    rustix::fs::openat(&parent, *name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
                let mut file = File::from(file);
                fill(&mut file, &mut entry, size).map_err(|error| match error {
                    Filling::Read(error) => UnpackError::Read(error),
                    Filling::Cut => UnpackError::Cut,
                    Filling::Write(source) => UnpackError::Write { path: self.into.join(&shown), source },
                })?;
                let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
                let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
                let time = entry.header().mtime().ok().and_then(|time| i64::try_from(time).ok());
                self.finish(&file, mode, time).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The parts of a path below the top; none: it is left out.
    fn parts<'p>(&self, path: &'p [u8], shown: &str) -> Result<Option<Vec<&'p [u8]>>, UnpackError> {
        let wrong = |why| UnpackError::Name { path: shown.to_owned(), why };
        match self.dialect {
            Dialect::Own => relative(path).map(Some).map_err(wrong),
            Dialect::Foreign { strip } => {
                let mut path = path;
                while let Some(rest) = path.strip_prefix(b"./") {
                    path = rest;
                }
                // The top itself.
                if path.is_empty() || path == b"." {
                    return Ok(None);
                }
                let parts = relative(path).map_err(wrong)?;
                Ok(parts.get(strip..).filter(|parts| !parts.is_empty()).map(<[_]>::to_vec))
            }
        }
    }

    /// Gives a file that came before one more name. A link to a symbolic link would be one that leads elsewhere.
    fn link(
        &mut self,
        parent: impl AsFd,
        name: &[u8],
        target: &[u8],
        shown: &str,
    ) -> Result<(), UnpackError> {
        let refused = || {
            let target = String::from_utf8_lossy(target).into_owned();
            UnpackError::LinksTo { path: shown.to_owned(), target }
        };
        let parts = self.parts(target, shown).ok().flatten().ok_or_else(refused)?;
        let (file, above) = parts.split_last().ok_or_else(refused)?;
        let mut directory = rustix::io::fcntl_dupfd_cloexec(&self.top, 0).map_err(|_| refused())?;
        for part in above {
            directory =
                rustix::fs::openat(&directory, *part, DIRECTORY, Mode::empty()).map_err(|_| refused())?;
        }
        let found =
            rustix::fs::statat(&directory, *file, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| refused())?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(refused());
        }
        rustix::fs::linkat(&directory, *file, parent, name, AtFlags::empty())
            .map_err(|error| self.failed(shown, error))
    }

    /// The directory of these parts, made where it is not there.
    fn directory(&mut self, parts: &[&[u8]], shown: &str) -> Result<OwnedFd, UnpackError> {
        let failed =
            |error| UnpackError::Write { path: self.into.to_owned(), source: io::Error::from(error) };
        let name = parts.join(&b'/');
        if let Some((last, directory)) = &self.last
            && *last == name
        {
            return rustix::io::fcntl_dupfd_cloexec(directory, 0).map_err(failed);
        }
        let mut directory = rustix::io::fcntl_dupfd_cloexec(&self.top, 0).map_err(failed)?;
        for part in parts {
            directory =
                self.make_directory(directory.as_fd(), part).map_err(|error| self.failed(shown, error))?;
        }
        let copy = rustix::io::fcntl_dupfd_cloexec(&directory, 0).map_err(failed)?;
        self.last = Some((name, copy));
        Ok(directory)
    }

    fn make_directory(&self, parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) => {
                let made = rustix::fs::openat(&parent, name, DIRECTORY, Mode::empty())?;
                self.finish(&made, Mode::from_raw_mode(0o755), None)?;
                Ok(made)
            }
            Err(Errno::EXIST) => rustix::fs::openat(&parent, name, DIRECTORY, Mode::empty()),
            Err(error) => Err(error),
        }
    }

    fn finish(&self, file: impl AsFd, mode: Mode, time: Option<i64>) -> Result<(), Errno> {
        if let Some(Owner { uid, gid }) = self.rules.owner {
            rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        rustix::fs::fchmod(&file, mode)?;
        if let Some(seconds) = time {
            let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
            rustix::fs::futimens(&file, &Timestamps { last_access: omit, last_modification: time })?;
        }
        Ok(())
    }

    fn failed(&self, shown: &str, error: Errno) -> UnpackError {
        match error {
            Errno::EXIST | Errno::NOTDIR | Errno::LOOP => UnpackError::Twice(shown.to_owned()),
            error => {
                let path: PathBuf = self.into.join(shown);
                UnpackError::Write { path, source: error.into() }
            }
        }
    }
}

enum Filling {
    Read(io::Error),
    Cut,
    Write(io::Error),
}

fn fill(file: &mut File, content: &mut impl Read, size: u64) -> Result<(), Filling> {
    use io::Write;
    let mut buffer = [0; 32 << 10];
    let mut left = size;
    while left > 0 {
        match content.read(&mut buffer) {
            Ok(0) => return Err(Filling::Cut),
            Ok(count) => {
                file.write_all(buffer.get(..count).unwrap_or_default()).map_err(Filling::Write)?;
                left = left.saturating_sub(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Filling::Read(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
