//! The local APIC: an interrupt of one's own, and the NMI from outside.

use crate::cpu;

const BASE: usize = 0xfee0_0000;
const END_OF_INTERRUPT: usize = 0x0b0;
const SPURIOUS: usize = 0x0f0;
const COMMAND: usize = 0x300;
const PIN_1: usize = 0x360;

const ENABLED: u32 = 1 << 8;
const SPURIOUS_VECTOR: u32 = 0xff;
/// To oneself, asserted.
const TO_SELF: u32 = 0b01 << 18 | 1 << 14;
const DELIVER_NMI: u32 = 0b100 << 8;

/// The interrupt masks of the two older controllers.
const PIC_MASKS: [u16; 2] = [0x21, 0xa1];

/// Switches it on; the older interrupt controllers are kept quiet.
pub fn enable() {
    for port in PIC_MASKS {
        // SAFETY: nobody here expects anything from these controllers.
        unsafe { cpu::write_port(port, 0xff) }
    }
    write(SPURIOUS, ENABLED | SPURIOUS_VECTOR);
}

/// Has the CPU interrupt itself with `vector`, as soon as it takes interrupts.
pub fn interrupt_self(vector: u8) {
    write(COMMAND, TO_SELF | u32::from(vector));
}

/// The interrupt that is being handled is done.
pub fn end_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Lets NMIs through that come from outside (QMP's `inject-nmi`).
pub fn let_nmi_through() {
    enable();
    write(PIN_1, DELIVER_NMI);
}

fn write(register: usize, value: u32) {
    // SAFETY: every 64-bit CPU has a local APIC at this address unless it was moved, and nobody moves it here.
    unsafe { ((BASE + register) as *mut u32).write_volatile(value) }
}
