//! Time from the programmable interval timer (`pit=on`), the only clock of a microvm with a known rate.

use crate::cpu::{read_port, write_port};

const FREQUENCY: u64 = 1_193_182;
const COUNTER: u16 = 0x40;
const CONTROL: u16 = 0x43;
/// Counter 0, both bytes, counts down from 65536 again and again.
const RATE_GENERATOR: u8 = 0x34;
/// Holds counter 0 for reading.
const LATCH: u8 = 0;
/// As often as this it is read without a change before it counts as missing: some milliseconds.
const PATIENCE: u32 = 100_000;

/// Waits so many seconds or longer. Panics where there is no timer.
pub fn wait(seconds: u32) {
    if seconds == 0 {
        return;
    }
    // SAFETY: the timer's ports; it raises no interrupt that the CPU would take.
    unsafe {
        write_port(CONTROL, RATE_GENERATOR);
        write_port(COUNTER, 0);
        write_port(COUNTER, 0);
    }
    let mut left = u64::from(seconds) * FREQUENCY;
    let mut before = counter();
    let mut unchanged = 0;
    while left > 0 {
        let now = counter();
        left = left.saturating_sub(u64::from(before.wrapping_sub(now)));
        unchanged = if now == before { unchanged + 1 } else { 0 };
        assert!(unchanged < PATIENCE, "seconds={seconds} needs a timer: the machine has pit=off");
        before = now;
    }
}

fn counter() -> u16 {
    // SAFETY: the timer's ports; reading a latched counter changes nothing.
    unsafe {
        write_port(CONTROL, LATCH);
        u16::from_le_bytes([read_port(COUNTER), read_port(COUNTER)])
    }
}
