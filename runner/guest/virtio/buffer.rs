//! Memory that devices read and write. It is never given back: a guest's devices live as long as the guest.

use core::cell::UnsafeCell;
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};

const SIZE: usize = 1 << 20;

/// Addresses are physical ones: `entry.s` has mapped memory to itself.
#[repr(C, align(4096))]
struct Arena(UnsafeCell<[u8; SIZE]>);

// SAFETY: every byte is handed out once, and there is one CPU.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; SIZE]));
static USED: AtomicUsize = AtomicUsize::new(0);

/// A piece of memory that a device may know. It is accessed by pointer only, for the device may change it.
#[derive(Clone, Copy)]
pub struct Buffer {
    start: *mut u8,
    length: usize,
}

impl Buffer {
    /// A zeroed piece, aligned to 16 bytes. Panics if there is no room left.
    pub fn new(length: usize) -> Self {
        let offset = USED.fetch_add(length.next_multiple_of(16), Ordering::Relaxed);
        assert!(offset + length <= SIZE, "no memory is left for devices");
        // SAFETY: the piece is inside the arena, as just checked.
        Self { start: unsafe { ARENA.0.get().cast::<u8>().add(offset) }, length }
    }

    /// How many bytes there are.
    pub fn len(self) -> usize {
        self.length
    }

    /// Where the device finds it.
    pub fn address(self) -> u64 {
        self.start as u64
    }

    /// The piece from `offset` to the end. Panics if it has fewer bytes.
    pub fn from(self, offset: usize) -> Self {
        assert!(offset <= self.length, "outside of a device's memory");
        // SAFETY: inside the piece, as just checked.
        Self { start: unsafe { self.start.add(offset) }, length: self.length - offset }
    }

    /// The first `length` bytes. Panics if there are fewer.
    pub fn first(self, length: usize) -> Self {
        assert!(length <= self.length, "outside of a device's memory");
        Self { length, ..self }
    }

    /// Copies bytes to the beginning. Panics if they do not fit.
    pub fn write(self, bytes: &[u8]) {
        let to = self.first(bytes.len());
        // SAFETY: as many bytes as `to` has, which nothing refers to.
        unsafe { to.start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// The bytes, for as long as the device does not have the buffer.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: initialised memory of that length; it is not written to while the driver looks at it.
        unsafe { slice::from_raw_parts(self.start, self.length) }
    }

    /// A little-endian number at `offset`.
    pub fn u32_at(self, offset: usize) -> u32 {
        // SAFETY: four bytes of the piece, as `from` and `first` check.
        unsafe { self.from(offset).first(4).start.cast::<u32>().read_unaligned() }
    }

    /// A little-endian number at `offset`.
    pub fn u64_at(self, offset: usize) -> u64 {
        // SAFETY: eight bytes of the piece, as `from` and `first` check.
        unsafe { self.from(offset).first(8).start.cast::<u64>().read_unaligned() }
    }

    /// A value that the device may change at any time, or watches, at `offset`; volatile.
    pub fn read_shared(self, offset: usize) -> u16 {
        // SAFETY: two bytes of the piece; the callers' offsets are even and pieces are aligned.
        unsafe { self.from(offset).first(2).start.cast::<u16>().read_volatile() }
    }

    /// The other way.
    pub fn write_shared(self, offset: usize, value: u16) {
        // SAFETY: two bytes of the piece; the callers' offsets are even and pieces are aligned.
        unsafe { self.from(offset).first(2).start.cast::<u16>().write_volatile(value) }
    }
}
