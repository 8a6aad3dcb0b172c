//! Time from the programmable interval timer (`pit=on`), the only clock of a microvm with a known rate, and ticks of
//! the CPU's time-stamp counter, whose rate is measured by it.

use core::arch::x86_64::_rdtsc;

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
    assert!(pass(u64::from(seconds) * FREQUENCY), "seconds={seconds} needs a timer: the machine has pit=off");
}

/// The time-stamp counter, in ticks of a rate that [`microseconds`] finds out.
pub fn ticks() -> u64 {
    // SAFETY: every 64-bit CPU has it; it changes nothing.
    unsafe { _rdtsc() }
}

/// How long so many ticks are; none where there is no timer to tell. Takes 20 ms to find out.
pub fn microseconds(ticks: u64) -> Option<u64> {
    const MEASURED: u64 = FREQUENCY / 50;
    let before = self::ticks();
    if !pass(MEASURED) {
        return None;
    }
    let during = u128::from(self::ticks() - before);
    let micros =
        u128::from(ticks) * u128::from(MEASURED) * 1_000_000 / (during.max(1) * u128::from(FREQUENCY));
    u64::try_from(micros).ok()
}

/// Waits for so many counts of the timer or more; false where there is no timer.
fn pass(counts: u64) -> bool {
    // SAFETY: the timer's ports; it raises no interrupt that the CPU would take.
    unsafe {
        write_port(CONTROL, RATE_GENERATOR);
        write_port(COUNTER, 0);
        write_port(COUNTER, 0);
    }
    let mut left = counts;
    let mut before = counter();
    let mut unchanged = 0;
    while left > 0 {
        let now = counter();
        left = left.saturating_sub(u64::from(before.wrapping_sub(now)));
        unchanged = if now == before { unchanged + 1 } else { 0 };
        if unchanged == PATIENCE {
            return false;
        }
        before = now;
    }
    true
}

fn counter() -> u16 {
    // SAFETY: the timer's ports; reading a latched counter changes nothing.
    unsafe {
        write_port(CONTROL, LATCH);
        u16::from_le_bytes([read_port(COUNTER), read_port(COUNTER)])
    }
}
