//! A split virtqueue, without interrupts: the driver asks whether the device is done.

use core::sync::atomic::{Ordering, fence};

use super::buffer::Buffer;
use super::mmio::Device;

const DESCRIPTOR_SIZE: usize = 16;
const NEXT: u16 = 1;
const DEVICE_WRITES: u16 = 2;

/// In the ring of the driver: flags, index, entries of two bytes.
const NO_INTERRUPT: u16 = 1;
const INDEX: usize = 2;
const ENTRIES: usize = 4;
/// In the ring of the device an entry is a descriptor's number and the length written, four bytes each.
const USED_SIZE: usize = 8;

/// A queue that its device knows.
pub struct Queue {
    device: Device,
    index: u16,
    descriptors: Buffer,
    offered: Buffer,
    used: Buffer,
    /// How many chains were offered, and how many came back; they wrap.
    offers: u16,
    returns: u16,
}

/// A piece of a chain.
#[derive(Clone, Copy)]
pub enum Part {
    /// For the device to read.
    Out(Buffer),
    /// For the device to write to.
    In(Buffer),
}

/// A chain that the device is done with.
pub struct Done {
    /// The number of its first descriptor.
    pub first: u16,
    /// How many bytes the device says to have written.
    pub written: usize,
}

impl Queue {
    /// How many descriptors there are.
    pub const SIZE: u16 = 16;

    /// A queue that the device does not know yet.
    pub fn new(device: Device, index: u16) -> Self {
        let size = usize::from(Self::SIZE);
        let queue = Self {
            device,
            index,
            descriptors: Buffer::new(size * DESCRIPTOR_SIZE),
            offered: Buffer::new(ENTRIES + size * 2 + 2),
            used: Buffer::new(ENTRIES + size * USED_SIZE + 2),
            offers: 0,
            returns: 0,
        };
        queue.offered.write_shared(0, NO_INTERRUPT);
        queue
    }

    /// Where descriptors, the driver's ring and the device's ring are.
    pub fn parts(&self) -> [u64; 3] {
        [self.descriptors, self.offered, self.used].map(Buffer::address)
    }

    /// Offers a chain, in the descriptors from `first` on, and tells the device. The device must have given back
    /// whatever was offered in these descriptors before. Panics if there are not so many descriptors.
    pub fn offer(&mut self, first: u16, parts: &[Part]) {
        for (number, part) in (first..).zip(parts) {
            let (buffer, direction) = match part {
                Part::Out(buffer) => (buffer, 0),
                Part::In(buffer) => (buffer, DEVICE_WRITES),
            };
            let last = usize::from(number - first) + 1 == parts.len();
            let (next, flags) = if last { (0, direction) } else { (number + 1, direction | NEXT) };
            let descriptor = self.descriptors.from(usize::from(number) * DESCRIPTOR_SIZE);
            descriptor.write(&buffer.address().to_le_bytes());
            descriptor.from(8).write(&(buffer.len() as u32).to_le_bytes());
            descriptor.from(12).write(&flags.to_le_bytes());
            descriptor.from(14).write(&next.to_le_bytes());
        }
        self.offered.write_shared(ENTRIES + usize::from(self.offers % Self::SIZE) * 2, first);
        // The device may look as soon as the index says so: everything else must be in memory by then.
        fence(Ordering::SeqCst);
        self.offers = self.offers.wrapping_add(1);
        self.offered.write_shared(INDEX, self.offers);
        fence(Ordering::SeqCst);
        self.device.notify(self.index);
    }

    /// A chain that the device is done with, if there is one.
    pub fn take(&mut self) -> Option<Done> {
        if self.used.read_shared(INDEX) == self.returns {
            return None;
        }
        // What the device wrote is read after its index, not before.
        fence(Ordering::SeqCst);
        let entry = ENTRIES + usize::from(self.returns % Self::SIZE) * USED_SIZE;
        self.returns = self.returns.wrapping_add(1);
        Some(Done { first: self.used.u32_at(entry) as u16, written: self.used.u32_at(entry + 4) as usize })
    }

    /// Offers one chain and waits for it, as long as it takes; returns how many bytes the device says to have written.
    pub fn exchange(&mut self, parts: &[Part]) -> usize {
        self.offer(0, parts);
        loop {
            if let Some(done) = self.take() {
                return done.written;
            }
            core::hint::spin_loop();
        }
    }
}
