use serde::{Deserialize, Serialize};

use crate::suite::Pattern;
use crate::verdict::{Outcome, Verdict};

/// A limit on something that is measured in several runs of a test.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// What messages call it.
    pub name: String,
    /// What is measured.
    pub metric: Metric,
    /// The unit of the limits and of what is told.
    pub unit: String,
    /// The median must not be greater.
    pub at_most: Option<f64>,
    /// The median must not be less.
    pub at_least: Option<f64>,
    /// How many runs give a sample each.
    pub runs: u32,
}

/// What a gate measures.
#[derive(Debug, Clone, PartialEq)]
pub enum Metric {
    /// From QEMU's letting the guest run to the guest's end, as QEMU itself tells them.
    BootTime,
    /// From the program's start to the first line in which this is found.
    WallTime(Pattern),
    /// The group `value` of the first line in which this is found.
    Value(Pattern),
}

/// What came of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The gate.
    pub name: String,
    /// The unit of all the numbers here.
    pub unit: String,
    /// What each run gave, in their order.
    pub samples: Vec<f64>,
    /// What is judged; nothing where a run gave no sample.
    pub median: Option<f64>,
    /// The median must not be greater.
    pub at_most: Option<f64>,
    /// The median must not be less.
    pub at_least: Option<f64>,
    /// Whether the limits hold.
    pub holds: bool,
}

impl Gate {
    /// How many of the unit a microsecond is; nothing for units that are none of time.
    pub(crate) fn per_microsecond(unit: &str) -> Option<f64> {
        match unit {
            "us" => Some(1.0),
            "ms" => Some(1e-3),
            "s" => Some(1e-6),
            _ => None,
        }
    }

    /// A time in the gate's unit.
    pub(crate) fn of_microseconds(&self, microseconds: f64) -> f64 {
        microseconds * Gate::per_microsecond(&self.unit).unwrap_or(1.0)
    }

    /// Whether it would notice a guest that dies at once, though the guest prints nothing.
    pub(crate) fn notices_a_short_life(&self) -> bool {
        self.metric == Metric::BootTime && self.at_least.is_some_and(|least| least > 0.0)
    }

    /// What samples come to; judged only when every run has given one.
    pub(crate) fn measured(&self, samples: Vec<f64>, runs: u32) -> Measured {
        let median = (samples.len() == runs as usize).then(|| median(&samples)).flatten();
        let holds = median.is_some_and(|median| {
            self.at_most.is_none_or(|most| median <= most)
                && self.at_least.is_none_or(|least| median >= least)
        });
        Measured {
            name: self.name.clone(),
            unit: self.unit.clone(),
            samples,
            median,
            at_most: self.at_most,
            at_least: self.at_least,
            holds,
        }
    }
}

/// The verdict of a test that passed in all of its runs.
pub(crate) fn judge(passed: Verdict, measured: &[Measured]) -> Verdict {
    let broken: Vec<String> = measured.iter().filter(|one| !one.holds).map(words).collect();
    if !broken.is_empty() {
        return Verdict { outcome: Outcome::Failed, reason: broken.join("; ") };
    }
    let told = measured.iter().map(words);
    let told: Vec<String> =
        Some(passed.reason).filter(|reason| !reason.is_empty()).into_iter().chain(told).collect();
    Verdict { outcome: passed.outcome, reason: told.join("; ") }
}

fn words(measured: &Measured) -> String {
    let Measured { name, unit, samples, .. } = measured;
    let with_unit = |value: f64| match unit.is_empty() {
        true => number(value),
        false => format!("{} {unit}", number(value)),
    };
    let limits = [("at most", measured.at_most), ("at least", measured.at_least)];
    let limits =
        limits.iter().filter_map(|(word, limit)| limit.map(|limit| format!(", {word} {}", with_unit(limit))));
    let samples_told = samples.iter().map(|sample| number(*sample)).collect::<Vec<_>>().join(", ");
    let median = measured.median.map_or("none".into(), with_unit);
    let limits: String = limits.collect();
    format!("{name}: median of {}: {median}{limits} (samples {samples_told})", samples.len())
}

fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The middle one, or the mean of the two in the middle.
fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if !sorted.len().is_multiple_of(2) {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, upper))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gate(at_most: Option<f64>, at_least: Option<f64>) -> Gate {
        Gate {
            name: "boot-time".into(),
            metric: Metric::BootTime,
            unit: "ms".into(),
            at_most,
            at_least,
            runs: 5,
        }
    }

    fn passed() -> Verdict {
        Verdict { outcome: Outcome::Passed, reason: String::new() }
    }

    #[test]
    fn the_median_is_judged_and_every_sample_told() {
        let samples = vec![30.1, 31.25, 8.0, 90.0, 32.0];
        let judged = |at_most, at_least| {
            let measured = gate(at_most, at_least).measured(samples.clone(), 5);
            let verdict = judge(passed(), &[measured]);
            (verdict.outcome, verdict.reason)
        };
        let told = "(samples 30.1, 31.25, 8, 90, 32)";
        for (at_most, at_least, outcome, limits) in [
            (Some(20.0), None, Outcome::Failed, ", at most 20 ms"),
            (Some(31.25), None, Outcome::Passed, ", at most 31.25 ms"),
            (Some(40.0), Some(35.0), Outcome::Failed, ", at most 40 ms, at least 35 ms"),
            (None, Some(31.0), Outcome::Passed, ", at least 31 ms"),
        ] {
            let reason = format!("boot-time: median of 5: 31.25 ms{limits} {told}");
            assert_eq!(judged(at_most, at_least), (outcome, reason));
        }
    }

    #[test]
    fn without_every_sample_nothing_is_judged() {
        let measured = gate(Some(20.0), None).measured(vec![1.0, 2.0], 5);
        assert_eq!((measured.median, measured.holds), (None, false));
        assert!(!gate(Some(20.0), None).measured(vec![], 5).holds);
    }

    #[test]
    fn times_in_the_gates_unit() {
        assert_eq!(gate(None, None).of_microseconds(6120.0), 6.12);
        assert_eq!(Gate { unit: "s".into(), ..gate(None, None) }.of_microseconds(1.5e6), 1.5);
    }

    proptest! {
        #[test]
        fn half_of_the_samples_are_on_either_side(samples in prop::collection::vec(-1e9..1e9_f64, 1..40)) {
            let middle = median(&samples).unwrap();
            let half = samples.len() / 2;
            prop_assert!(samples.iter().filter(|sample| **sample < middle).count() <= half);
            prop_assert!(samples.iter().filter(|sample| **sample > middle).count() <= half);
        }
    }
}
