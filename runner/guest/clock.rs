//! Time from the programmable interval timer (`pit=on`), the only clock of a microvm with a known rate, and ticks of
//! the CPU's time-stamp counter, whose rate is measured by it.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

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
    let passed = pass(u64::from(seconds) * FREQUENCY);
    assert!(passed.is_some(), "seconds={seconds} needs a timer: the machine has pit=off");
}

/// The time-stamp counter, in ticks of a rate that [`microseconds`] finds out.
pub fn ticks() -> u64 {
    // SAFETY: every 64-bit CPU has it; it changes nothing.
    unsafe { _rdtsc() }
}

/// How many ticks the shortest of so many goes at something takes.
pub fn least_ticks<E>(times: usize, mut work: impl FnMut() -> Result<(), E>) -> Result<u64, E> {
    let mut least = u64::MAX;
    for _ in 0..times {
        let before = ticks();
        work()?;
        least = least.min(ticks() - before);
    }
    Ok(least)
}

/// How long so many ticks are; none where there is no timer to tell. Takes 20 ms to find out, the first time.
pub fn microseconds(ticks: u64) -> Option<u64> {
    let micros = u128::from(ticks) * 1_000_000 / u128::from(rate()?);
    u64::try_from(micros).ok()
}

/// Ticks in a second. Whatever comes between two looks at the timer can only make a measurement too high, so the lowest
/// of some is taken.
fn rate() -> Option<u64> {
    const MEASUREMENTS: u32 = 5;
    const MEASURED: u64 = FREQUENCY / 250;
    static KNOWN: AtomicU64 = AtomicU64::new(0);

    let known = KNOWN.load(Ordering::Relaxed);
    if known != 0 {
        return Some(known);
    }
    let mut lowest = u64::MAX;
    for _ in 0..MEASUREMENTS {
        let before = ticks();
        let counts = pass(MEASURED)?;
        let during = u128::from(ticks() - before);
        let rate = during * u128::from(FREQUENCY) / u128::from(counts);
        lowest = lowest.min(u64::try_from(rate).ok()?.max(1));
    }
    KNOWN.store(lowest, Ordering::Relaxed);
    Some(lowest)
}

/// Waits for so many counts of the timer, and returns how many there were; none where there is no timer.
fn pass(counts: u64) -> Option<u64> {
    // SAFETY: the timer's ports; it raises no interrupt that the CPU would take.
    unsafe {
        write_port(CONTROL, RATE_GENERATOR);
        write_port(COUNTER, 0);
        write_port(COUNTER, 0);
    }
    let mut passed = 0;
    let mut before = counter();
    let mut unchanged = 0;
    while passed < counts {
        let now = counter();
        passed += u64::from(before.wrapping_sub(now));
        unchanged = if now == before { unchanged + 1 } else { 0 };
        if unchanged == PATIENCE {
            return None;
        }
        before = now;
    }
    Some(passed)
}

fn counter() -> u16 {
    // SAFETY: the timer's ports; reading a latched counter changes nothing.
    unsafe {
        write_port(CONTROL, LATCH);
        u16::from_le_bytes([read_port(COUNTER), read_port(COUNTER)])
    }
}
