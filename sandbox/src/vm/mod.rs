//! Sandboxes that are virtual machines: QEMU in the place of the container's runtime, a disk image in the place of the
//! overlay, and Debian's own kernel, systemd and udev in it.

mod disk;
mod image;
mod machine;
mod power;
mod qemu;
mod seed;

pub(crate) use disk::{DISK, make_overlay};
pub(crate) use image::IMAGE;
pub use machine::{Accelerator, Kind, Machine};
pub(crate) use power::off;
pub(crate) use qemu::run;
pub(crate) use seed::write_credential;
