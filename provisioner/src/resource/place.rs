//! Directories that take the place of others in one step.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Gives the new directory the place, in one step where the file system can; the old one then has the new one's name.
pub(super) fn put_in_place(new: &Path, place: &Path) -> io::Result<()> {
    if !place.exists() {
        return fs::rename(new, place);
    }
    match renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let aside = new.with_extension("old");
            fs::rename(place, &aside)?;
            fs::rename(new, place).inspect_err(|_| drop(fs::rename(&aside, place)))?;
            fs::rename(&aside, new)
        }
        result => Ok(result?),
    }
}
