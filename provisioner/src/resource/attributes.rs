use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown, lchown};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use toril_document::Table;
use toril_machine::{FileAttributes, Machine, Probe};

use super::{Change, ResourceError, Wanted, optional_name};

/// Owner, group and mode of a file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) owner: String,
    pub(super) group: String,
    pub(super) mode: u32,
}

impl Attributes {
    /// Takes `owner`, `group` and `mode`; root's where nothing is said.
    pub(super) fn read(table: &mut Table<'_>, mode: u32) -> Attributes {
        Attributes {
            owner: optional_name(table, "owner").unwrap_or_else(|| "root".into()),
            group: optional_name(table, "group").unwrap_or_else(|| "root".into()),
            mode: table.parsed("mode", parse_mode).unwrap_or(mode),
        }
    }

    pub(super) fn of(metadata: &Metadata, machine: &Machine) -> Attributes {
        Attributes {
            owner: machine.user_name(metadata.uid()),
            group: machine.group_name(metadata.gid()),
            mode: metadata.mode() & 0o7777,
        }
    }

    pub(super) fn compare(&self, now: &Attributes) -> Vec<Change> {
        let mut changes = Vec::new();
        if now.owner != self.owner {
            changes.push(Change::new("owner", &now.owner, &self.owner));
        }
        if now.group != self.group {
            changes.push(Change::new("group", &now.group, &self.group));
        }
        if now.mode != self.mode {
            changes.push(Change::new("mode", format!("{:04o}", now.mode), format!("{:04o}", self.mode)));
        }
        changes
    }

    /// The numbers behind the names.
    pub(super) fn resolve(&self, machine: &Machine) -> Result<FileAttributes, ResourceError> {
        let uid = match machine.user(&self.owner) {
            Probe::Known(user) => user.uid,
            Probe::Absent => return Err(ResourceError(format!("there is no user `{}`", self.owner))),
            Probe::Unreadable(reason) => return Err(ResourceError(reason)),
        };
        let gid = match machine.group(&self.group) {
            Probe::Known(group) => group.gid,
            Probe::Absent => return Err(ResourceError(format!("there is no group `{}`", self.group))),
            Probe::Unreadable(reason) => return Err(ResourceError(reason)),
        };
        Ok(FileAttributes { uid, gid, mode: self.mode })
    }

    pub(super) fn apply(&self, path: &str, machine: &Machine) -> Result<(), ResourceError> {
        let FileAttributes { uid, gid, mode } = self.resolve(machine)?;
        let place = machine.path(path);
        set(&place, uid, gid, mode)
            .map_err(|error| ResourceError(format!("cannot set owner and mode of {path}: {error}")))
    }

    pub(super) fn follows(&self, path: &str) -> Vec<Wanted> {
        vec![Wanted::Above(path.into()), Wanted::User(self.owner.clone()), Wanted::Group(self.group.clone())]
    }
}

/// A path is followed once only: who may write to its directory could else put a link to any file there in between.
fn set(place: &Path, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
    let kind = fs::symlink_metadata(place)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        // Opening a device may do things; devices lie where only root writes.
        lchown(place, Some(uid), Some(gid))?;
        return fs::set_permissions(place, Permissions::from_mode(mode));
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(place, flags, Mode::empty())?);
    fchown(&file, Some(uid), Some(gid))?;
    file.set_permissions(Permissions::from_mode(mode))
}

/// A regular file, to be read; nothing where something else is there: a link or a pipe that who may write to its directory has put
/// in its place since it was looked at.
pub(super) fn open_regular(place: &Path) -> io::Result<Option<fs::File>> {
    // Opening a device may do things.
    if !fs::symlink_metadata(place)?.is_file() {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(place, flags, Mode::empty()) {
        Ok(file) => fs::File::from(file),
        Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let is_file = file.metadata()?.is_file();
    Ok(is_file.then_some(file))
}

/// Reads `0644`.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    // The number's own reader would take a sign.
    let digits = text.len() >= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777 && digits)
        .ok_or_else(|| format!("`{text}` is not a mode: write it in octal, such as 0644"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_regular_file_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        fs::write(of("file"), "text").unwrap();
        symlink(of("file"), of("link")).unwrap();
        let _socket = UnixListener::bind(of("socket")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, of("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(open_regular(&of("file")).unwrap().is_some());
        for name in ["link", "socket", "pipe", "."] {
            assert!(open_regular(&of(name)).unwrap().is_none(), "{name}");
        }
        assert_eq!(open_regular(&of("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
