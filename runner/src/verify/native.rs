//! The guest's counted work, done by the host itself.

use std::arch::x86_64::__cpuid;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The factor of the guest's own loop.
const FACTOR: u64 = 6_364_136_223_846_793_005;

/// How often: the shortest time counts, for others are at work here too.
const TRIES: usize = 3;

/// As much memory as the guest's walk goes through, in bytes, and the bytes of a line of it.
const WALKED: usize = 512 << 10;
const LINE: usize = 64;

/// How long so many multiplications and additions take here, each of which needs the one before.
pub(super) fn integer(count: u64) -> Duration {
    shortest(|| {
        let mut value = black_box(1_u64);
        let mut left = black_box(count);
        // Plain operators on locals: their cost is the multiplication's latency, as in the guest.
        while left > 0 {
            value = value.wrapping_mul(FACTOR).wrapping_add(1);
            left -= 1;
        }
        black_box(value);
    })
}

/// How long so many changes of memory take here, in the guest's order.
pub(super) fn memory(count: u64) -> Duration {
    const WORD: usize = size_of::<u64>();
    let mut memory = vec![0_u64; WALKED / WORD];
    shortest(|| {
        let memory = black_box(&mut memory);
        let mut value = black_box(1_u64);
        let mut left = black_box(count);
        while left > 0 {
            value = value.wrapping_mul(FACTOR).wrapping_add(1);
            let line = (value >> 24) as usize % (WALKED / LINE);
            memory[line * (LINE / WORD)] += 1;
            left -= 1;
        }
        black_box(memory);
    })
}

/// How long so many times `cpuid` take here: it traps where this host is itself a guest.
pub(super) fn cpuid(count: u64) -> Duration {
    shortest(|| {
        (0..count).for_each(|_| {
            black_box(__cpuid(0));
        })
    })
}

fn shortest(mut work: impl FnMut()) -> Duration {
    let mut once = || {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..TRIES).map(|_| once()).min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_work_takes_longer() {
        assert!(integer(4_000_000) > integer(4_000));
        assert!(memory(4_000_000) > memory(4_000));
        assert!(cpuid(10_000) > cpuid(10));
    }
}
