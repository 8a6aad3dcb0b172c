//! The first serial port (ttyS0, a 16550), by polling.

use core::fmt;

use crate::cpu::{read_port, write_port};

const BASE: u16 = 0x3f8;
const DATA: u16 = BASE;
const INTERRUPTS: u16 = BASE + 1;
const FIFO: u16 = BASE + 2;
const LINE: u16 = BASE + 3;
const MODEM: u16 = BASE + 4;
const STATUS: u16 = BASE + 5;

/// The FIFO is empty: room for [`FIFO_SIZE`] bytes.
const STATUS_ROOM: u8 = 1 << 5;
/// The last byte has left.
const STATUS_IDLE: u8 = 1 << 6;
const FIFO_SIZE: usize = 16;

/// 8 bits, no parity, FIFO on, no interrupts. No baud rate: QEMU, which it is for, sends at once.
pub fn initialise() {
    // SAFETY: these are the 16550's registers; where there is none, nothing answers at these ports.
    unsafe {
        write_port(INTERRUPTS, 0);
        write_port(LINE, 0b11);
        write_port(FIFO, 0b111);
        write_port(MODEM, 0b11);
    }
}

/// Writes `text`; waits as long as nobody takes it.
pub fn write(text: &str) {
    for burst in text.as_bytes().chunks(FIFO_SIZE) {
        wait_for(STATUS_ROOM);
        for byte in burst {
            // SAFETY: the 16550's transmit register, with room for the burst.
            unsafe { write_port(DATA, *byte) }
        }
    }
}

/// Waits until everything written has left.
pub fn drain() {
    wait_for(STATUS_IDLE);
}

/// A port that does not exist reads as 0xff: nothing waits for it.
fn wait_for(bit: u8) {
    // SAFETY: reading the line status has no side effect that matters here.
    while unsafe { read_port(STATUS) } & bit == 0 {
        core::hint::spin_loop();
    }
}

/// The port as a destination of `write!`, which never fails here.
pub struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text);
        Ok(())
    }
}
