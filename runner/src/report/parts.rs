//! Parts of suites: which of them nothing is told of.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;

/// Parts of a suite that runs do not tell of, though runs of its other parts are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostParts {
    /// Which, such as `part 2/3 of guests`.
    pub name: String,
    /// What is wrong with them, such as `nothing is told of part 2/3 of guests`.
    pub trouble: String,
    /// The run, by its place in the report, that has all parts that there are; nothing where several hosts have them.
    pub run: Option<usize>,
}

/// Runs, by their places in the report, that tell of each part, by its number.
type Told = BTreeMap<u32, BTreeSet<usize>>;

impl Report {
    /// What is lost of suites that were run in parts: each part is told of by as many hosts as any other.
    pub fn lost_parts(&self) -> Vec<LostParts> {
        let mut suites: BTreeMap<(&str, u32), Told> = BTreeMap::new();
        for (place, run) in self.runs.iter().enumerate() {
            let suite = run.suite_words().unwrap_or_default();
            for part in run.parts.iter().filter(|part| (1..=part.of).contains(&part.index)) {
                suites.entry((suite, part.of)).or_default().entry(part.index).or_default().insert(place);
            }
        }
        suites.into_iter().flat_map(|((suite, of), told)| self.lost_of(suite, of, &told)).collect()
    }

    fn lost_of(&self, suite: &str, of: u32, told: &Told) -> Vec<LostParts> {
        let hosts = |places: &BTreeSet<usize>| {
            places.iter().map(|place| self.runs[*place].host.as_str()).collect::<BTreeSet<_>>()
        };
        let most = told.values().map(|places| hosts(places).len()).max().unwrap_or_default();
        let all: BTreeSet<usize> = told.values().flatten().copied().collect();
        let run = all.first().copied().filter(|_| hosts(&all).len() == 1);
        let lost = |ranges: Vec<(u32, u32)>, wrong: &dyn Fn(&str) -> String| {
            (!ranges.is_empty()).then(|| {
                let name = format!("{} of {suite}", words(&ranges, of));
                LostParts { trouble: wrong(&name), name, run }
            })
        };
        let untold = lost(gaps(told.keys().copied(), of), &|name| format!("nothing is told of {name}"));
        let few = told.iter().filter(|(_, places)| hosts(places).len() < most);
        let few = few.map(|(index, _)| (*index, *index)).collect();
        let few = lost(few, &|name| format!("fewer hosts tell of {name} than of other parts"));
        untold.into_iter().chain(few).collect()
    }
}

/// What of 1 to `of` is not among these, which are in their order.
fn gaps(known: impl Iterator<Item = u32>, of: u32) -> Vec<(u32, u32)> {
    let mut gaps = Vec::new();
    let mut next = 1;
    for index in known {
        if index > next {
            gaps.push((next, index - 1));
        }
        match index.checked_add(1) {
            Some(after) => next = after,
            None => return gaps,
        }
    }
    if next <= of {
        gaps.push((next, of));
    }
    gaps
}

/// `part 2/3`, `parts 2, 4–6 of 8`
fn words(ranges: &[(u32, u32)], of: u32) -> String {
    if let [(first, last)] = ranges
        && first == last
    {
        return format!("part {first}/{of}");
    }
    let range = |&(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}–{last}"),
    };
    format!("parts {} of {of}", ranges.iter().map(range).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use crate::control::Shard;
    use crate::event::Event;

    use super::super::HostRun;
    use super::*;

    fn run(host: &str, suite: &str, parts: &[&str]) -> HostRun {
        let mut run = HostRun::new(host);
        for part in parts {
            let (suite, tests, run_as) = (suite.into(), vec!["a".into()], "toril".into());
            let shard = part.parse::<Shard>().ok();
            run.take(&Event::RunStarted { suite, tests, left_out: 2, run_as, shard });
        }
        run
    }

    fn lost(runs: &[HostRun]) -> Vec<(String, Option<usize>)> {
        let report = Report { runs: runs.to_vec(), ..Report::default() };
        report.lost_parts().into_iter().map(|lost| (lost.trouble, lost.run)).collect()
    }

    #[test]
    fn parts_that_nothing_is_told_of_are_lost() {
        let told = |text: &str, run| vec![(format!("nothing is told of {text}"), run)];
        assert_eq!(lost(&[run("h", "s.toml", &["1/3", "3/3"])]), told("part 2/3 of s", Some(0)));
        // Wherever the suite's file is on each machine.
        let spread =
            [run("other", "x", &[""]), run("a", "here/s.toml", &["1/3"]), run("b", "s.toml", &["3/3"])];
        assert_eq!(lost(&spread), told("part 2/3 of s", None));
        assert_eq!(
            lost(&[run("h", "s", &["1/8", "3/8", "7/8"])]),
            told("parts 2, 4–6, 8 of 8 of s", Some(0))
        );
        let most = u32::MAX;
        let many = run("h", "s", &[&format!("{most}/{most}")]);
        assert_eq!(lost(&[many]), told(&format!("parts 1–{} of {most} of s", most - 1), Some(0)));
    }

    #[test]
    fn nothing_is_lost_where_all_parts_are_told_of_or_there_are_none() {
        assert_eq!(lost(&[run("h", "s", &["2/2", "1/2", "2/2"])]), []);
        assert_eq!(lost(&[run("a", "s", &["2/3"]), run("b", "s", &["1/3", "3/3"])]), []);
        assert_eq!(lost(&[run("h", "s", &[""]), run("h", "other", &["1/1"])]), []);
        assert_eq!(lost(&[run("a", "s", &["1/2", "2/2"]), run("b", "s", &["1/2", "2/2"])]), []);
    }

    #[test]
    fn each_part_is_told_of_by_as_many_hosts_as_any_other() {
        let lost = lost(&[run("a", "s", &["1/2", "2/2"]), run("b", "s", &["1/2"])]);
        assert_eq!(lost, [("fewer hosts tell of part 2/2 of s than of other parts".to_owned(), None)]);
    }
}
