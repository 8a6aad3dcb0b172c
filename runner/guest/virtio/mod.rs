//! Virtio devices of version 1 (<https://docs.oasis-open.org/virtio/virtio/v1.2/virtio-v1.2.html>) on virtio-mmio, by
//! polling.

pub mod buffer;
pub mod console;
pub mod fs;
mod fuse;
mod mmio;
mod queue;
pub mod vsock;

use core::fmt;

/// Why a device cannot be used.
#[derive(Clone, Copy)]
pub enum Error {
    /// The command line names no device of this kind.
    Missing(&'static str),
    /// The device is of the kind before virtio 1.
    Legacy,
    /// The device does not want what the driver wants of it.
    Refused,
    /// The device has no such queue, or a smaller one than the driver's.
    Queue(u16),
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(to, "the machine has no {what}"),
            Self::Legacy => {
                to.write_str("the device is a legacy one: -global virtio-mmio.force-legacy=false is missing")
            }
            Self::Refused => to.write_str("the device refused what every virtio 1 driver asks for"),
            Self::Queue(index) => write!(to, "the device has no queue {index} of the size wanted"),
        }
    }
}
