//! The page tables that `entry.s` has set up: the first 4 GiB, mapped to themselves.

use core::cell::UnsafeCell;

use crate::cpu;

/// Where the window begins: the first address that is not mapped, a GiB of them.
pub const WINDOW: u64 = 4 << 30;

const PRESENT_WRITABLE: u64 = 0b11;

/// A table that the CPU reads too.
#[repr(transparent)]
struct Table(UnsafeCell<[u64; 512]>);

// SAFETY: there is one CPU and nothing interrupts it.
unsafe impl Sync for Table {}

unsafe extern "C" {
    safe static page_directory_pointers: Table;
    safe static page_directories: Table;
}

/// Maps the first GiB at [`WINDOW`] a second time.
pub fn open_window() {
    set_window(&raw const page_directories as u64 | PRESENT_WRITABLE);
}

/// Takes the second mapping away.
pub fn close_window() {
    set_window(0);
}

fn set_window(entry: u64) {
    let entries = page_directory_pointers.0.get().cast::<u64>();
    // SAFETY: entry 4 is inside the table and translates the window only, which no Rust object is in.
    unsafe { entries.add((WINDOW >> 30) as usize).write_volatile(entry) };
    cpu::flush_translations();
}
