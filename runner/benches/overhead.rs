//! What the runner adds to QEMU, in pairs: `sudo cargo bench -p toril-runner`, on a quiet machine.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement prints, and fails as tests do"
)]

#[path = "../tests/runner/place.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod place;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use toril_runner::Outcome;

use place::{boot, place};

const PAIRS: usize = 50;
const BUDGET: Duration = Duration::from_millis(10);

/// From the command's acceptance to the verdict on record, against QEMU by hand.
fn main() {
    let Some(mut place) = place(true) else { return };
    place.options.run_as = Some("root".into());
    let suite = boot("pass", "10s");
    let line = place.result(&suite).reproduce.unwrap();
    let words: Vec<&str> = line.split(' ').skip(2).collect();
    let by_hand = || {
        let start = Instant::now();
        let status =
            Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).status();
        assert_eq!(status.unwrap().code(), Some(33), "{line}");
        start.elapsed()
    };
    let by_toril = || {
        let start = Instant::now();
        assert_eq!(place.result(&suite).outcome, Outcome::Passed);
        start.elapsed()
    };
    let mut differences: Vec<f64> = (0..PAIRS)
        .map(|pair| {
            // A B, B A: what drifts hits both alike.
            let (ours, hand) = if pair % 2 == 0 {
                let ours = by_toril();
                (ours, by_hand())
            } else {
                let hand = by_hand();
                (by_toril(), hand)
            };
            (ours.as_secs_f64() - hand.as_secs_f64()) * 1000.0
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    // The order statistics 18 and 33 of 50 hold the median with 97 % confidence.
    let (low, median, high) = (differences[17], differences[PAIRS / 2], differences[32]);
    println!("the runner adds {median:.1} ms (97 % interval {low:.1} to {high:.1}), {PAIRS} pairs");
    assert!(median <= BUDGET.as_secs_f64() * 1000.0, "{median}");
}
