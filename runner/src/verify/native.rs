//! The guest's counted work, done by the host itself.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// The factor of the guest's own loop.
const FACTOR: u64 = 6_364_136_223_846_793_005;

/// How often: the shortest time counts, for others are at work here too.
const TRIES: usize = 3;

/// How long so many multiplications and additions take here, each of which needs the one before.
pub(super) fn integer(count: u64) -> Duration {
    let once = || {
        let start = Instant::now();
        let mut value = black_box(1_u64);
        let mut left = black_box(count);
        // Plain operators on locals: their cost is the multiplication's latency, as in the guest.
        while left > 0 {
            value = value.wrapping_mul(FACTOR).wrapping_add(1);
            left -= 1;
        }
        black_box(value);
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
    }
}
