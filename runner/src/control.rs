use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::suite::{Suite, Test};

/// What the user says of the way a suite is run, whatever the suite says itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// One part of the tests of several; all of them where there is none.
    pub shard: Option<Shard>,
    /// How many tests may run side by side; 0 stands for one.
    pub jobs: u32,
    /// How often a test that speaks against the code is tried again.
    pub retries: Option<u32>,
    /// Whether tests are left out after the first that did not pass.
    pub fail_fast: bool,
    /// Whether a test that passes only in a retry counts as failed.
    pub fail_on_flaky: bool,
}

/// One part of several, which together are all the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which, from 1.
    pub index: u32,
    /// Of how many.
    pub of: u32,
}

impl FromStr for Shard {
    type Err = String;

    /// Reads `2/5`.
    fn from_str(text: &str) -> Result<Shard, String> {
        let parts =
            text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((index, of)) if 1 <= index && index <= of => Ok(Shard { index, of }),
            _ => Err(format!("`{text}` is no part of several: write I/N, such as 2/5, with I from 1 to N")),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// Whether a test of this name is meant: every one without filters, else one that a filter is contained in, or equals
/// after a `=`.
pub fn is_wanted(filters: &[String], name: &str) -> bool {
    let meets = |filter: &String| match filter.strip_prefix('=') {
        Some(whole) => name == whole,
        None => name.contains(filter.as_str()),
    };
    filters.is_empty() || filters.iter().any(meets)
}

/// The tests of a suite that are to be run, in their order. The parts differ by at most one test, and neighbours, which
/// often take alike long, go to different ones.
pub(crate) fn chosen<'s>(suite: &'s Suite, filters: &[String], shard: Option<Shard>) -> Vec<&'s Test> {
    let wanted = suite.tests.iter().filter(|test| is_wanted(filters, &test.name)).enumerate();
    let here = |index: usize| {
        shard.is_none_or(|shard| index % (shard.of.max(1) as usize) + 1 == shard.index as usize)
    };
    wanted.filter(|(index, _)| here(*index)).map(|(_, test)| test).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn suite(count: usize) -> Suite {
        let tests = (0..count).map(|n| format!("[[test]]\nname = \"t{n}\"\ncommand = [\"true\"]\n"));
        Suite::parse("s.toml", &tests.collect::<String>(), &BTreeMap::new()).unwrap()
    }

    fn names(tests: &[&Test]) -> Vec<String> {
        tests.iter().map(|test| test.name.clone()).collect()
    }

    #[test]
    fn filters_are_parts_or_whole_names() {
        let filter = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let suite = suite(12);
        assert_eq!(names(&chosen(&suite, &filter(&["t1"]), None)), ["t1", "t10", "t11"]);
        assert_eq!(names(&chosen(&suite, &filter(&["=t1", "9"]), None)), ["t1", "t9"]);
        assert_eq!(chosen(&suite, &filter(&["=t"]), None).len(), 0);
        assert_eq!(chosen(&suite, &[], None).len(), 12);
    }

    #[test]
    fn what_is_no_part() {
        assert_eq!("2/5".parse(), Ok(Shard { index: 2, of: 5 }));
        for text in ["", "2", "0/5", "6/5", "a/b", "1/0", "-1/2", "1/2/3"] {
            assert!(text.parse::<Shard>().unwrap_err().contains(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parts_are_balanced_and_are_the_whole(count in 1..40_usize, of in 1..12_u32) {
            let suite = suite(count);
            let parts: Vec<Vec<String>> =
                (1..=of).map(|index| names(&chosen(&suite, &[], Some(Shard { index, of })))).collect();
            let sizes = parts.iter().map(Vec::len);
            prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            let mut all: Vec<String> = parts.concat();
            all.sort();
            let mut expected = names(&suite.tests.iter().collect::<Vec<_>>());
            expected.sort();
            prop_assert_eq!(all, expected);
        }
    }
}
