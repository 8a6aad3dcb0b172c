use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{OFlags, SeekFrom as HoleSeek};

use super::Patience;

/// How much of a directory is copied for a guest, at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// In bytes of data; holes of sparse files do not count.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

/// What fits into a copy that is made for every run of a test.
pub(crate) const BOUNDS: Bounds = Bounds { bytes: 4 << 30, entries: 200_000 };

/// Copies what is in a directory into an empty one, with the rights of whoever calls it. Links are copied as links, wherever
/// they lead, and holes in files stay holes.
///
/// # Errors
/// Something in it cannot be read, or is neither a file, a directory nor a link; it is too large; or the time is over.
pub(crate) fn copy_tree(from: &Path, to: &Path, bounds: Bounds, patience: &Patience<'_>) -> io::Result<()> {
    let mut left = bounds;
    copy_entries(from, to, &mut left, patience).map_err(|error| match error.kind() {
        io::ErrorKind::QuotaExceeded => {
            let most = format!("{} MiB or {} entries", bounds.bytes >> 20, bounds.entries);
            io::Error::new(error.kind(), format!("{} has more than {most}", from.display()))
        }
        _ => error,
    })
}

fn copy_entries(from: &Path, to: &Path, left: &mut Bounds, patience: &Patience<'_>) -> io::Result<()> {
    let about =
        |error: io::Error, path: &Path| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    for entry in fs::read_dir(from).map_err(|error| about(error, from))? {
        patience.look()?;
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        left.entries = left.entries.checked_sub(1).ok_or(io::ErrorKind::QuotaExceeded)?;
        copy_entry(&path, &to.join(name), left, patience).map_err(|error| match error.kind() {
            io::ErrorKind::QuotaExceeded => error,
            // It has said where already.
            _ if error.raw_os_error().is_none() => error,
            _ => about(error, &path),
        })?;
    }
    Ok(())
}

fn copy_entry(from: &Path, to: &Path, left: &mut Bounds, patience: &Patience<'_>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let kind = metadata.file_type();
    // Neither does the copy belong to another user, nor may it give its rights to one.
    let mode = Permissions::from_mode(metadata.permissions().mode() & 0o777);
    if kind.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if kind.is_dir() {
        DirBuilder::new().mode(0o700).create(to)?;
        copy_entries(from, to, left, patience)?;
    } else if kind.is_file() {
        let mut source = OpenOptions::new().read(true).custom_flags(NOT_A_LINK).open(from)?;
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        copy_data(&mut source, &mut copy, left, patience)?;
    } else {
        return Err(io::Error::other(format!(
            "{} is neither a file, a directory nor a link",
            from.display()
        )));
    }
    fs::set_permissions(to, mode)?;
    let times = FileTimes::new().set_modified(metadata.modified()?);
    match File::open(to) {
        Ok(copy) => copy.set_times(times),
        // Its own mode forbids it, as that of the original does.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// What was a file a moment ago must not be followed, nor waited for, as anything else.
const NOT_A_LINK: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits() as i32;

/// Copies what is data, and lets holes be holes.
fn copy_data(
    source: &mut File,
    copy: &mut File,
    left: &mut Bounds,
    patience: &Patience<'_>,
) -> io::Result<()> {
    let size = source.metadata()?.len();
    copy.set_len(size)?;
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(&*source, HoleSeek::Data(at)) {
            Ok(data) => data,
            // No data follows.
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&*source, HoleSeek::Hole(data))?.min(size);
        left.bytes = left.bytes.checked_sub(end.saturating_sub(data)).ok_or(io::ErrorKind::QuotaExceeded)?;
        source.seek(SeekFrom::Start(data))?;
        copy.seek(SeekFrom::Start(data))?;
        copy_bytes(source, end.saturating_sub(data), copy, patience)?;
        // A file that shrinks meanwhile has no data there any more.
        at = end.max(data + 1);
    }
    copy.flush()
}

/// How much is copied until the time is looked at, in bytes.
const PIECE: u64 = 1 << 20;

/// Copies as many bytes from where the file stands, or as many as there are.
pub(super) fn copy_bytes(
    source: &mut File,
    bytes: u64,
    copy: &mut File,
    patience: &Patience<'_>,
) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        patience.look()?;
        let copied = io::copy(&mut source.take(left.min(PIECE)), copy)?;
        if copied == 0 {
            break;
        }
        left = left.saturating_sub(copied);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;

    static GOES_ON: AtomicBool = AtomicBool::new(false);
    static STOPPED: AtomicBool = AtomicBool::new(true);
    const LONG: Duration = Duration::from_secs(60);

    fn copied(from: &Path, to: &Path, bounds: Bounds) -> io::Result<()> {
        fs::create_dir(to)?;
        copy_tree(from, to, bounds, &Patience::from_now(&GOES_ON, LONG))
    }

    #[test]
    fn a_copy_heeds_the_stop_and_the_time() {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir(from.path().join("deep")).unwrap();
        fs::write(from.path().join("deep/file"), "content").unwrap();
        let place = tempfile::tempdir().unwrap();
        for (name, stop, limit, kind) in [
            ("stopped", &STOPPED, LONG, io::ErrorKind::Interrupted),
            ("late", &GOES_ON, Duration::ZERO, io::ErrorKind::TimedOut),
        ] {
            let patience = Patience::from_now(stop, limit);
            let to = place.path().join(name);
            fs::create_dir(&to).unwrap();
            let error = copy_tree(from.path(), &to, BOUNDS, &patience).unwrap_err();
            assert_eq!((error.kind(), error.get_ref().is_none()), (kind, true), "{name}: {error}");
            assert_eq!(fs::read_dir(&to).unwrap().count(), 0, "{name}");
            let mut source = File::open(from.path().join("deep/file")).unwrap();
            let mut copy = File::create(place.path().join(name.to_owned() + "-file")).unwrap();
            let error = copy_bytes(&mut source, 7, &mut copy, &patience).unwrap_err();
            assert_eq!((error.kind(), copy.metadata().unwrap().len()), (kind, 0), "{name}");
        }
    }

    #[test]
    fn a_file_of_several_pieces_is_whole_and_one_that_shrank_is_no_endless_work() {
        let place = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..3 * PIECE + 5).map(|at| u8::try_from(at % 251).unwrap()).collect();
        fs::write(place.path().join("file"), &content).unwrap();
        let mut source = File::open(place.path().join("file")).unwrap();
        let mut copy = File::create(place.path().join("copy")).unwrap();
        let patience = Patience::from_now(&GOES_ON, LONG);
        copy_bytes(&mut source, 9 * PIECE, &mut copy, &patience).unwrap();
        assert!(fs::read(place.path().join("copy")).unwrap() == content);
    }

    #[test]
    fn a_copy_has_all_there_is_and_nothing_from_outside() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let from = tempfile::tempdir().unwrap();
        let of = |name: &str| from.path().join(name);
        fs::create_dir_all(of("deep/er")).unwrap();
        fs::write(of("deep/er/file"), "content").unwrap();
        fs::set_permissions(of("deep/er/file"), Permissions::from_mode(0o4751)).unwrap();
        symlink(outside.path().join("secret"), of("link")).unwrap();
        symlink(outside.path(), of("to-directory")).unwrap();
        let sparse = File::create(of("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        std::os::unix::fs::FileExt::write_at(&sparse, b"end", (1 << 30) - 3).unwrap();

        let place = tempfile::tempdir().unwrap();
        let to = place.path().join("copy");
        copied(from.path(), &to, Bounds { bytes: 1 << 20, entries: 6 }).unwrap();
        assert_eq!(fs::read(to.join("deep/er/file")).unwrap(), b"content");
        assert_eq!(fs::metadata(to.join("deep/er/file")).unwrap().mode() & 0o7777, 0o751);
        assert!(fs::symlink_metadata(to.join("link")).unwrap().is_symlink());
        assert!(fs::symlink_metadata(to.join("to-directory")).unwrap().is_symlink());
        let copied = fs::metadata(to.join("sparse")).unwrap();
        assert_eq!(copied.len(), 1 << 30);
        assert!(copied.blocks() * 512 < 1 << 20, "{} blocks", copied.blocks());
    }

    #[test]
    fn what_is_too_large_or_no_file_is_refused_by_name() {
        let from = tempfile::tempdir().unwrap();
        let place = tempfile::tempdir().unwrap();
        fs::write(from.path().join("large"), vec![1; 5000]).unwrap();
        let copy = |name: &str, bounds| copied(from.path(), &place.path().join(name), bounds);
        let error = copy("a", Bounds { bytes: 4999, entries: 9 }).unwrap_err().to_string();
        assert!(error.ends_with("has more than 0 MiB or 9 entries"), "{error}");
        assert!(copy("b", Bounds { bytes: 1 << 20, entries: 0 }).is_err());
        let _socket = UnixListener::bind(from.path().join("socket")).unwrap();
        let error = copy("c", BOUNDS).unwrap_err().to_string();
        assert!(error.ends_with("socket is neither a file, a directory nor a link"), "{error}");
        let error = copied(Path::new("/nonexistent"), &place.path().join("d"), BOUNDS).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent: "), "{error}");
    }
}
