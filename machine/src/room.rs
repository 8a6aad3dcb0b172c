use std::fs::{self, DirEntry, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Keeps room on the disk for `bytes` more bytes of a file that is only appended to, so that what is written into it
/// can be written even when the disk becomes full. The file's size does not change; setting its length frees what
/// was not used. A file system that cannot do it does nothing.
///
/// # Errors
/// There is no room.
pub fn keep_room(file: &File, bytes: u64) -> io::Result<()> {
    let end = file.metadata()?.len();
    match fallocate(file, FallocateFlags::KEEP_SIZE, end, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What a file, or a directory with all that is in it, takes of the disk, in bytes. Links are not followed, and what cannot
/// be looked at is not counted.
pub fn room_taken(path: &Path) -> u64 {
    let of = |entry: DirEntry| room_taken(&entry.path());
    let Ok(file) = fs::symlink_metadata(path) else { return 0 };
    let below = if file.is_dir() { fs::read_dir(path).ok() } else { None };
    file.blocks() * 512 + below.map_or(0, |entries| entries.flatten().map(of).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_stays_and_the_room_goes_when_the_length_is_set() {
        let file = tempfile::tempfile().unwrap();
        let before = file.metadata().unwrap();
        keep_room(&file, 1 << 20).unwrap();
        let after = file.metadata().unwrap();
        assert_eq!(after.len(), 0);
        if after.blocks() == before.blocks() {
            eprintln!("skipped: this file system keeps no room");
            return;
        }
        file.set_len(0).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), before.blocks());
    }

    #[test]
    fn what_a_link_leads_to_takes_no_room() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("deep/file"), vec![1; 100_000]).unwrap();
        fs::write(other.path().join("file"), vec![1; 1_000_000]).unwrap();
        std::os::unix::fs::symlink(other.path(), dir.path().join("link")).unwrap();
        let taken = room_taken(dir.path());
        assert!((100_000..500_000).contains(&taken), "{taken}");
        assert_eq!(room_taken(&dir.path().join("nothing")), 0);
    }
}
