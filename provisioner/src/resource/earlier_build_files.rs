//! The files of earlier builds: in homes, whose owners may do with them what they like at any time.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat, statat, symlinkat, unlinkat};
use rustix::io::Errno;
use toril_machine::Probe;

/// How far into a file its version is looked for, in bytes: a QEMU with debugging information has 100 MiB.
const REACH: u64 = 512 << 20;

/// How long a version is at most.
const LENGTH: usize = 80;

/// Where what was there is kept.
pub(super) fn beside(path: &str) -> String {
    format!("{path}.toril-kept")
}

/// The version of an executable file, as its own text has it after `mark`; else its size. Nothing is run: whoever owns
/// the file could have it do anything. `Known(None)`: it is no executable file.
pub(super) fn version(path: &Path, mark: Option<&str>) -> Probe<Option<String>> {
    // Never waits for the other end of a pipe.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match Probe::of_io(opened, &path.to_string_lossy()) {
        Probe::Known(file) => file,
        Probe::Absent => return Probe::Absent,
        Probe::Unreadable(reason) => return Probe::Unreadable(reason),
    };
    let found = file.metadata().and_then(|metadata| {
        if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
            return Ok(None);
        }
        let version = mark.map(|mark| text_after(&file, mark.as_bytes())).transpose()?.flatten();
        Ok(Some(version.unwrap_or_else(|| format!("a program of {} bytes", metadata.len()))))
    });
    Probe::of_io(found, &path.to_string_lossy())
}

fn text_after(file: &File, mark: &[u8]) -> std::io::Result<Option<String>> {
    let mut reader = file.take(REACH);
    let overlap = mark.len() + LENGTH;
    let mut buffer = Vec::with_capacity((1 << 20) + overlap);
    loop {
        let more = reader.by_ref().take(1 << 20).read_to_end(&mut buffer)?;
        let is_last = more == 0;
        // What may go on in the next piece is looked at then.
        let end = if is_last { buffer.len() } else { buffer.len().saturating_sub(overlap) };
        for start in starts(&buffer[..end], mark) {
            let text = printable(&buffer[start + mark.len()..]);
            // The same text may stand elsewhere, with a place to be filled in after it.
            if text.starts_with(|c: char| c.is_ascii_digit()) {
                return Ok(Some(text));
            }
        }
        if is_last {
            return Ok(None);
        }
        buffer.drain(..end.saturating_sub(mark.len()));
    }
}

/// Where in the bytes the mark begins.
fn starts<'b>(bytes: &'b [u8], mark: &'b [u8]) -> impl Iterator<Item = usize> + 'b {
    let first = mark.first().copied();
    let candidates = bytes.iter().enumerate().filter(move |(_, byte)| Some(**byte) == first);
    candidates.map(|(at, _)| at).filter(move |at| bytes[*at..].starts_with(mark))
}

/// The printable text up to the first byte that is none.
fn printable(bytes: &[u8]) -> String {
    let text = bytes.iter().take(LENGTH).take_while(|byte| byte.is_ascii_graphic() || **byte == b' ');
    text.map(|byte| char::from(*byte)).collect::<String>().trim_end().to_owned()
}

/// The first directory on the way from `root` to a file, or the file itself, that not everybody may pass or run; as a path
/// of the machine that has this root.
pub(super) fn closed_to_others(root: &Path, real: &Path) -> Option<String> {
    let root = fs::canonicalize(root).ok()?;
    let below = real.strip_prefix(&root).ok()?;
    let mut way: Vec<&Path> = below.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    way.reverse();
    let closed = way
        .into_iter()
        .find(|part| fs::metadata(root.join(part)).is_ok_and(|metadata| metadata.mode() & 0o001 == 0));
    closed.map(|part| Path::new("/").join(part).to_string_lossy().into_owned())
}

/// Puts a link to `target` in the place of `base`/`rest`, and keeps what was there beside it. No link below `base` is
/// followed: its owner could lead this anywhere.
///
/// # Errors
/// Which step could not be done, and why.
pub(super) fn set_aside(base: &Path, rest: &str, target: &str) -> Result<(), String> {
    let open = |at: &OwnedFd, name: &str| {
        openat(at, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    };
    let mut directory = openat(CWD, base, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| format!("cannot open {}: {error}", base.display()))?;
    let mut parts: Vec<&str> = rest.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    for part in parts {
        directory = open(&directory, part).map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR => {
                format!("`{part}` on the way to it is a link, which is not followed; name the real path")
            }
            other => format!("cannot open `{part}` on the way to it: {other}"),
        })?;
    }
    let kept = beside(name);
    let temporary = format!(".{name}.toril-new");
    // At every moment there is the old one or the link, and the old one is never without a name.
    match linkat(&directory, name, &directory, &kept, AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let number =
                |name: &str| statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.st_ino);
            // An interrupted run has come so far.
            if number(name) != number(&kept) {
                return Err(format!("there is a {kept} already; move one of them away and run this again"));
            }
        }
        Err(error) => return Err(format!("cannot keep it as {kept}: {error}")),
    }
    match unlinkat(&directory, &temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(format!("cannot remove {temporary}: {error}")),
    }
    symlinkat(target, &directory, &temporary)
        .and_then(|()| renameat(&directory, &temporary, &directory, name))
        .map_err(|error| format!("cannot put a link in its place: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    #[test]
    fn a_version_is_found_wherever_it_stands() {
        for before in [0, 1, (1 << 20) - 95, (1 << 20) - 90, (1 << 20) - 5, (1 << 20) + 1, 3 << 20] {
            let text = [vec![b'v'; before], b"version %s\nversion 1.2 (x)\nmore".to_vec()].concat();
            let found = version(file(&text).path(), Some("version "));
            assert_eq!(found, Probe::Known(Some("1.2 (x)".into())), "{before}");
        }
        let none = version(file(b"abc").path(), Some("version "));
        assert_eq!(none, Probe::Known(Some("a program of 3 bytes".into())));
        assert_eq!(version(Path::new("/nonexistent/x"), None), Probe::Absent);
        assert_eq!(version(Path::new("/tmp"), None), Probe::Known(None));
    }

    proptest! {
        #[test]
        fn whatever_a_file_holds_its_version_is_plain_text(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = [b"v ".as_slice(), &bytes].concat();
            let Probe::Known(Some(version)) = version(file(&text).path(), Some("v ")) else {
                return Err(TestCaseError::fail("a file was not read"));
            };
            prop_assert!(version.len() <= LENGTH && version.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }

    #[test]
    fn an_interrupted_run_is_gone_on_with_and_another_file_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("qemu"), "old").unwrap();
        fs::hard_link(path("qemu"), path("qemu.toril-kept")).unwrap();
        fs::write(path(".qemu.toril-new"), "").unwrap();
        set_aside(dir.path(), "qemu", "/usr/bin/qemu").unwrap();
        assert_eq!(fs::read_to_string(path("qemu.toril-kept")).unwrap(), "old");
        assert_eq!(fs::read_link(path("qemu")).unwrap(), Path::new("/usr/bin/qemu"));
        fs::remove_file(path("qemu")).unwrap();
        fs::write(path("qemu"), "another").unwrap();
        let error = set_aside(dir.path(), "qemu", "/usr/bin/qemu").unwrap_err();
        assert!(error.contains("already"), "{error}");
        assert_eq!(fs::read_to_string(path("qemu")).unwrap(), "another");
    }
}
