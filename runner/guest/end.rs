//! The guest's ways out.

use core::arch::asm;

use crate::contract::EXIT_PORT;
use crate::{cpu, serial};

/// Ends QEMU with `value`; by a triple fault where isa-debug-exit is missing.
pub fn exit(value: u8) -> ! {
    serial::drain();
    // SAFETY: isa-debug-exit is the only device that this port can have; it reads as 0.
    let missing = unsafe {
        cpu::write_port(EXIT_PORT, value);
        cpu::read_port(EXIT_PORT) == 0xff
    };
    if missing {
        triple_fault()
    }
    // Newer QEMUs take a moment to end.
    cpu::halt()
}

/// An exception that cannot be delivered, and neither can the double fault for that: the CPU shuts down.
pub fn triple_fault() -> ! {
    serial::drain();
    // SAFETY: nothing is to run after the exception.
    unsafe {
        cpu::load_interrupt_table(&[]);
        asm!("ud2", options(noreturn));
    }
}
