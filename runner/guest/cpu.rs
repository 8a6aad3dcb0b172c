//! The instructions that Rust has no words for.

use core::arch::asm;

/// The extended feature enable register.
pub const EFER: u32 = 0xc000_0080;
/// The segments of `syscall` and `sysret`.
pub const STAR: u32 = 0xc000_0081;
/// Where `syscall` jumps to.
pub const LSTAR: u32 = 0xc000_0082;
/// The flags that `syscall` clears.
pub const FLAGS_MASK: u32 = 0xc000_0084;
/// The GS base that `swapgs` exchanges.
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Writes a byte to an I/O port.
///
/// # Safety
/// A device may do anything on a write: the caller knows which one is there.
pub unsafe fn write_port(port: u16, value: u8) {
    // SAFETY: as the caller promises.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) }
}

/// Reads a byte from an I/O port; 0xff where nothing answers.
///
/// # Safety
/// A device may do anything on a read: the caller knows which one is there.
pub unsafe fn read_port(port: u16) -> u8 {
    let value;
    // SAFETY: as the caller promises.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack, preserves_flags)) }
    value
}

/// Reads a model-specific register.
///
/// # Safety
/// The register must exist, else the CPU raises an exception.
pub unsafe fn read_msr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: as the caller promises; reading changes nothing.
    unsafe { asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(preserves_flags)) }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// The register must exist and take the value, and nothing may depend on the old one.
pub unsafe fn write_msr(register: u32, value: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(preserves_flags));
    }
}

/// CR0: paging, protection, caches.
pub fn control() -> u64 {
    let value;
    // SAFETY: reading CR0 changes nothing.
    unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) }
    value
}

/// CR2: the address of the last page fault.
pub fn fault_address() -> u64 {
    let value;
    // SAFETY: reading CR2 changes nothing.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) }
    value
}

/// Forgets every translation of an address that the CPU has cached.
pub fn flush_translations() {
    // SAFETY: CR3 gets the value that it has.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags)) }
}

/// Makes `table` the interrupt descriptor table. An empty one makes the next exception a triple fault.
///
/// # Safety
/// The gates in it must lead to code that handles their vectors.
pub unsafe fn load_interrupt_table<const SIZE: usize>(table: *const [u8; SIZE]) {
    #[repr(C, packed)]
    struct Pointer {
        limit: u16,
        base: u64,
    }
    let pointer = Pointer { limit: (SIZE as u16).saturating_sub(1), base: table as u64 };
    // SAFETY: the pointer is read by the instruction only; the gates are the caller's promise.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags)) }
}

/// Makes `table` the segment descriptor table and `task` in it the task. The segments in use stay as they are.
///
/// # Safety
/// The table must be a valid one with the segments in use where they are, and the task an available one; the CPU uses
/// both from here on.
pub unsafe fn load_segments<const COUNT: usize>(table: *const [u64; COUNT], task: u16) {
    #[repr(C, packed)]
    struct Pointer {
        limit: u16,
        base: u64,
    }
    let pointer = Pointer { limit: (COUNT * 8 - 1) as u16, base: table as u64 };
    // SAFETY: as the caller promises.
    unsafe {
        asm!("lgdt [{}]", "ltr {:x}", in(reg) &pointer, in(reg) task, options(nostack, preserves_flags))
    }
}

/// Lets interrupts in for a moment: those that wait are taken.
pub fn take_interrupts() {
    // SAFETY: whatever comes has an entry in the interrupt descriptor table. `sti` lets the next instruction pass.
    unsafe { asm!("sti", "nop", "nop", "cli") }
}

/// Stops for ever.
pub fn halt() -> ! {
    loop {
        // SAFETY: no interrupt comes, so nothing runs any more.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}
