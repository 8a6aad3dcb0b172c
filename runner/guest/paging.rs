//! The page tables that `entry.s` has set up: the first 4 GiB, mapped to themselves.

use core::cell::UnsafeCell;

use crate::cpu;

/// Where the window begins: the first address that is not mapped, a GiB of them.
pub const WINDOW: u64 = 4 << 30;

const PRESENT_WRITABLE: u64 = 0b11;

/// Where user mode sees the first 2 MiB, the GiB after that.
const USER_WINDOW: u64 = 5 << 30;

const PRESENT_USER: u64 = 0b101;
const LARGE_PAGE: u64 = 1 << 7;

/// A table that the CPU reads too.
#[repr(C, align(4096))]
struct Table(UnsafeCell<[u64; 512]>);

// SAFETY: there is one CPU and nothing interrupts it.
unsafe impl Sync for Table {}

unsafe extern "C" {
    safe static page_map: Table;
    safe static page_directory_pointers: Table;
    safe static page_directories: Table;
}

static USER_DIRECTORY: Table = Table(UnsafeCell::new([0; 512]));

/// Where user mode has what is at `address`, inside the first 2 MiB.
pub fn user_address(address: u64) -> u64 {
    USER_WINDOW + address
}

/// Lets user mode read and run the first 2 MiB, where the kernel's code is; returns where it has what is at `address`.
pub fn open_user_window(address: u64) -> u64 {
    let directory = USER_DIRECTORY.0.get().cast::<u64>();
    let map = page_map.0.get().cast::<u64>();
    // SAFETY: both are first entries of their tables. User mode is let through at the top only: below, the entries of the
    // kernel's own addresses still refuse it.
    unsafe {
        directory.write_volatile(PRESENT_USER | LARGE_PAGE);
        map.write_volatile(map.read_volatile() | PRESENT_USER);
    }
    set_window(USER_WINDOW, directory as u64 | PRESENT_USER);
    user_address(address)
}

/// Takes that away.
pub fn close_user_window() {
    set_window(USER_WINDOW, 0);
}

/// Maps the first GiB at [`WINDOW`] a second time.
pub fn open_window() {
    set_window(WINDOW, &raw const page_directories as u64 | PRESENT_WRITABLE);
}

/// Takes the second mapping away.
pub fn close_window() {
    set_window(WINDOW, 0);
}

fn set_window(window: u64, entry: u64) {
    let entries = page_directory_pointers.0.get().cast::<u64>();
    // SAFETY: the entry is inside the table and translates the window only, which no Rust object is in.
    unsafe { entries.add((window >> 30) as usize).write_volatile(entry) };
    cpu::flush_translations();
}
