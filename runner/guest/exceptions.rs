//! Exceptions and software interrupts: the descriptor table, and who handles what.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, Ordering};
use core::{mem, ptr};

use crate::cpu;

core::arch::global_asm!(include_str!("exceptions.s"), options(att_syntax, raw));

/// The interrupt that cannot be masked.
pub const NMI: u8 = 2;
/// The breakpoint, `int3`.
pub const BREAKPOINT: u8 = 3;
/// An instruction that does not exist, such as `ud2`.
pub const INVALID_OPCODE: u8 = 6;
/// Something that the CPU's mode does not allow.
pub const GENERAL_PROTECTION: u8 = 13;
/// An access that the page tables do not allow.
pub const PAGE_FAULT: u8 = 14;
/// The first vector after the CPU's own.
pub const FIRST_INTERRUPT: u8 = 32;

/// How many vectors `exceptions.s` has entries for: the CPU's 32, and 16 interrupts.
const VECTORS: usize = 48;
const ENTRY_SIZE: u64 = 16;
const CODE_SEGMENT: u64 = 8;
const PRESENT_INTERRUPT_GATE: u64 = 0x8e00;

const NAMES: [&str; FIRST_INTERRUPT as usize] = [
    "divide error",
    "debug",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection",
    "page fault",
    "reserved",
    "x87 floating point",
    "alignment check",
    "machine check",
    "SIMD floating point",
    "virtualisation",
    "control protection",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "hypervisor injection",
    "VMM communication",
    "security",
    "reserved",
];

/// What `exceptions.s` and the CPU leave on the stack.
#[repr(C)]
pub struct Frame {
    _registers: [u64; 15],
    /// The exception's number.
    pub vector: u64,
    /// The CPU's error code, 0 for exceptions that have none.
    pub error: u64,
    /// Where execution goes on.
    pub rip: u64,
    /// The code segment there; its lowest bits are the privilege level.
    pub cs: u64,
    _flags: u64,
    /// The stack there.
    pub rsp: u64,
    /// The stack segment there.
    pub ss: u64,
}

/// Handles an exception: true if execution may go on at `rip`.
pub type Handler = fn(&mut Frame) -> bool;

/// The handler of each vector, null for none.
static HANDLERS: [AtomicPtr<()>; VECTORS] = [const { AtomicPtr::new(ptr::null_mut()) }; VECTORS];

type Gates = [[u64; 2]; VECTORS];

struct Table(UnsafeCell<Gates>);

// SAFETY: it is written once, before the CPU knows of it, and there is one CPU.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; VECTORS]));

unsafe extern "C" {
    safe static exception_entries: u8;
}

/// Catches every exception from here on.
pub fn initialise() {
    let table = TABLE.0.get();
    let entries = &raw const exception_entries as u64;
    for vector in 0..VECTORS {
        let entry = entries + vector as u64 * ENTRY_SIZE;
        let low =
            entry & 0xffff | CODE_SEGMENT << 16 | PRESENT_INTERRUPT_GATE << 32 | (entry & 0xffff_0000) << 32;
        // SAFETY: `vector` is inside the table, and nothing else refers to it.
        unsafe { (*table)[vector] = [low, entry >> 32] };
    }
    // SAFETY: the gates lead to the entries of exceptions.s, which are for these vectors.
    unsafe { cpu::load_interrupt_table(table.cast::<[u8; size_of::<Gates>()]>()) }
}

/// Gives the exceptions of `vector` to `handler`. Those that it makes execution go on after must come from `asm!`
/// without `nostack`: the CPU pushes onto the running stack.
pub fn handle(vector: u8, handler: Handler) {
    HANDLERS[usize::from(vector)].store(handler as *mut (), Ordering::Relaxed);
}

/// Makes the exceptions of `vector` panics again.
pub fn unhandle(vector: u8) {
    HANDLERS[usize::from(vector)].store(ptr::null_mut(), Ordering::Relaxed);
}

/// What a vector is called.
pub fn name(vector: u64) -> &'static str {
    usize::try_from(vector).ok().and_then(|index| NAMES.get(index)).copied().unwrap_or("interrupt")
}

/// Where `exceptions.s` arrives.
#[unsafe(no_mangle)]
extern "C" fn exception(frame: &mut Frame) {
    let handler = HANDLERS[frame.vector as usize].load(Ordering::Relaxed);
    if !handler.is_null() {
        // SAFETY: what is not null was stored by `handle`, from a Handler.
        let handler = unsafe { mem::transmute::<*mut (), Handler>(handler) };
        if handler(frame) {
            return;
        }
    }
    panic!(
        "exception {} ({}) at RIP {:#x}, error code {:#x}, CR2 {:#x}",
        frame.vector,
        name(frame.vector),
        frame.rip,
        frame.error,
        cpu::fault_address()
    );
}
