//! Disks: a raw ext4 image that is the base, and layers of what was written over it.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use toril_machine::Command;

use crate::Error;

/// The layer of one sandbox, in its directory.
pub(crate) const DISK: &str = "disk.qcow2";
/// How large the disk seems; it takes as much room as was written to it.
const SIZE: &str = "20G";
/// A busy machine may write slowly.
const DEADLINE: Duration = Duration::from_secs(300);

/// Makes a base out of a tree of files.
pub(super) fn make_base(tree: &Path, disk: &Path) -> Result<(), Error> {
    // The image is a hole at first: neither mke2fs nor the kernel inside has to write the zeros again.
    let mut args: Vec<OsString> =
        ["-q", "-t", "ext4", "-L", "root", "-E", "assume_storage_prezeroed=1", "-d"].map(Into::into).into();
    args.extend([tree.into(), disk.into(), SIZE.into()]);
    Command::new("mke2fs", args).deadline(DEADLINE).output()?;
    Ok(())
}

/// Makes the layer of a sandbox, over another one or over a base.
pub(crate) fn make_overlay(below: &Path, host_dir: &Path) -> Result<(), Error> {
    let disk = host_dir.join(DISK);
    let format =
        if below.extension().is_some_and(|extension| extension == "qcow2") { "qcow2" } else { "raw" };
    let mut args: Vec<OsString> = ["create", "-q", "-f", "qcow2", "-F", format, "-b"].map(Into::into).into();
    args.extend([below.into(), disk.into()]);
    Command::new("qemu-img", args).deadline(DEADLINE).output()?;
    Ok(())
}
