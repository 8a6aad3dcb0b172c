//! The user ids of sandboxes on this machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use rustix::fs::XattrFlags;

use crate::Error;

/// What root in a sandbox is on this machine. In the range that systemd's conventions leave to containers, a multiple
/// of 65536, and unlike what any tool takes by default.
pub(crate) const ROOT: u32 = 0x5452_0000;
/// How many ids a sandbox has.
pub(crate) const COUNT: u32 = 65_536;

const CAPABILITY: &str = "security.capability";

/// Gives a tree that belongs to the machine's users to the sandbox's users of the same numbers. Idempotent.
pub(crate) fn tree(path: &Path) -> Result<(), Error> {
    let meta = path.symlink_metadata().map_err(Error::io("look at", path))?;
    if meta.uid() < COUNT {
        // The change of owner drops both of these.
        let capability = read_capability(path)?;
        lchown(path, Some(meta.uid() + ROOT), Some(meta.gid() + ROOT))
            .map_err(Error::io("change the owner of", path))?;
        if !meta.is_symlink() {
            let mode = Permissions::from_mode(meta.mode() & 0o7777);
            fs::set_permissions(path, mode).map_err(Error::io("change the mode of", path))?;
        }
        if let Some(value) = capability.as_deref().and_then(shifted_capability) {
            rustix::fs::lsetxattr(path, CAPABILITY, &value, XattrFlags::empty())
                .map_err(Error::sys(format!("set capabilities of {}", path.display())))?;
        }
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
            tree(&entry.map_err(Error::io("list", path))?.path())?;
        }
    }
    Ok(())
}

fn read_capability(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let mut value = [0_u8; 64];
    match rustix::fs::lgetxattr(path, CAPABILITY, &mut value) {
        Ok(length) => Ok(Some(value[..length].to_vec())),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(Error::sys(format!("read capabilities of {}", path.display()))(errno)),
    }
}

/// A file's capabilities of revision 2 are the machine's root's to give; revision 3 names another root
/// (`vfs_ns_cap_data` in linux/capability.h).
fn shifted_capability(value: &[u8]) -> Option<Vec<u8>> {
    let (&revision, rest) = value.split_at_checked(4).map(|(magic, rest)| (&magic[3], rest))?;
    if revision != 2 || rest.len() != 16 {
        return None;
    }
    Some([&value[..3], &[3], rest, &ROOT.to_le_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn capabilities_get_the_root_of_sandboxes() {
        let old = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let new = shifted_capability(&old).unwrap();
        assert_eq!(new[..4], [1, 0, 0, 3]);
        assert_eq!(new[4..20], old[4..20]);
        assert_eq!(new[20..], [0, 0, 0x52, 0x54]);
        assert_eq!(shifted_capability(&new), None);
        assert_eq!(shifted_capability(&[]), None);
    }

    #[test]
    fn keeps_set_id_bits_and_does_not_follow_links() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can change owners");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let program = dir.path().join("program");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
        symlink(outside.path(), dir.path().join("link")).unwrap();
        fs::hard_link(&program, dir.path().join("same")).unwrap();
        tree(dir.path()).unwrap();
        tree(dir.path()).unwrap();
        let meta = program.metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (ROOT, ROOT, 0o4755));
        assert_eq!(outside.path().metadata().unwrap().uid(), 0);
        assert_eq!(dir.path().join("link").symlink_metadata().unwrap().uid(), ROOT);
    }
}
