use std::fs::File;
use std::io;

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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

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
}
