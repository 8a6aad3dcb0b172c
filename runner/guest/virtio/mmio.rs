//! A device's registers (virtio-mmio), and how it is brought up.

use super::Error;
use super::queue::Queue;

const MAGIC: usize = 0x000;
const VERSION: usize = 0x004;
const DEVICE_ID: usize = 0x008;
const DEVICE_FEATURES: usize = 0x010;
const DEVICE_FEATURES_SELECT: usize = 0x014;
const DRIVER_FEATURES: usize = 0x020;
const DRIVER_FEATURES_SELECT: usize = 0x024;
const QUEUE_SELECT: usize = 0x030;
const QUEUE_SIZE_MOST: usize = 0x034;
const QUEUE_SIZE: usize = 0x038;
const QUEUE_READY: usize = 0x044;
const QUEUE_NOTIFY: usize = 0x050;
const STATUS: usize = 0x070;
const QUEUE_DESCRIPTORS: usize = 0x080;
const QUEUE_DRIVER: usize = 0x090;
const QUEUE_DEVICE: usize = 0x0a0;
const CONFIGURATION: usize = 0x100;

const MAGIC_VALUE: u32 = 0x7472_6976;
const LEGACY: u32 = 1;

const ACKNOWLEDGED: u32 = 1;
const DRIVER: u32 = 2;
const RUNNING: u32 = 4;
const FEATURES_AGREED: u32 = 8;

const FEATURE_VERSION_1: u64 = 1 << 32;

/// The word of the command line that names a device: `virtio_mmio.device=SIZE@ADDRESS:INTERRUPT`.
const WORD: &str = "virtio_mmio.device=";

/// A device at its place.
#[derive(Clone, Copy)]
pub struct Device {
    base: *mut u32,
}

/// The devices of kind `id` that the command line names, in its order.
pub fn devices(command_line: &str, id: u32) -> impl Iterator<Item = Device> {
    command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(WORD)?.split_once("@0x"))
        .filter_map(|(_, place)| u32::from_str_radix(place.split(':').next()?, 16).ok())
        .map(|base| Device { base: base as usize as *mut u32 })
        .filter(move |device| device.read(MAGIC) == MAGIC_VALUE && device.read(DEVICE_ID) == id)
}

impl Device {
    /// Resets the device and agrees with it on those of the features `wanted` that it has; they are returned.
    pub fn begin(self, wanted: u64) -> Result<u64, Error> {
        if self.read(VERSION) == LEGACY {
            return Err(Error::Legacy);
        }
        self.write(STATUS, 0);
        while self.read(STATUS) != 0 {
            core::hint::spin_loop();
        }
        self.write(STATUS, ACKNOWLEDGED | DRIVER);
        let features = self.features() & (wanted | FEATURE_VERSION_1);
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.write(DRIVER_FEATURES_SELECT, select);
            self.write(DRIVER_FEATURES, half);
        }
        self.write(STATUS, ACKNOWLEDGED | DRIVER | FEATURES_AGREED);
        let agreed = features & FEATURE_VERSION_1 != 0 && self.read(STATUS) & FEATURES_AGREED != 0;
        if agreed { Ok(features) } else { Err(Error::Refused) }
    }

    /// Gives the device its queue number `index`.
    pub fn queue(self, index: u16) -> Result<Queue, Error> {
        self.write(QUEUE_SELECT, index.into());
        if self.read(QUEUE_READY) != 0 || self.read(QUEUE_SIZE_MOST) < Queue::SIZE.into() {
            return Err(Error::Queue(index));
        }
        let queue = Queue::new(self, index);
        self.write(QUEUE_SIZE, Queue::SIZE.into());
        for (register, part) in [QUEUE_DESCRIPTORS, QUEUE_DRIVER, QUEUE_DEVICE].into_iter().zip(queue.parts())
        {
            self.write(register, part as u32);
            self.write(register + 4, (part >> 32) as u32);
        }
        self.write(QUEUE_READY, 1);
        Ok(queue)
    }

    /// All queues are there: the device may work.
    pub fn start(self) {
        self.write(STATUS, ACKNOWLEDGED | DRIVER | FEATURES_AGREED | RUNNING);
    }

    /// There is something new in queue `index`.
    pub fn notify(self, index: u16) {
        self.write(QUEUE_NOTIFY, index.into());
    }

    /// A number of the device's own configuration.
    pub fn configuration_u32(self, offset: usize) -> u32 {
        self.read(CONFIGURATION + offset)
    }

    /// Bytes of the device's own configuration.
    pub fn configuration_bytes(self, offset: usize, bytes: &mut [u8]) {
        for (index, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: a register of a device that answers; reading bytes of the configuration changes nothing.
            *byte = unsafe { self.base.cast::<u8>().add(CONFIGURATION + offset + index).read_volatile() };
        }
    }

    fn features(self) -> u64 {
        let half = |select| {
            self.write(DEVICE_FEATURES_SELECT, select);
            u64::from(self.read(DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    fn read(self, register: usize) -> u32 {
        // SAFETY: the command line says that there are 512 bytes of registers; memory is mapped to itself up to 4 GiB.
        unsafe { self.base.byte_add(register).read_volatile() }
    }

    fn write(self, register: usize, value: u32) {
        // SAFETY: as above; what a register does is known.
        unsafe { self.base.byte_add(register).write_volatile(value) }
    }
}
