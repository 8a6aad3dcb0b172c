//! The suites that come with toril, embedded in the binary.

/// The text of the built-in suite `smoke`.
pub const SMOKE: &str = include_str!("../../suites/smoke.toml");

/// A suite that comes with toril.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltInSuite {
    /// What the command line calls it.
    pub name: &'static str,
    /// The suite.
    pub text: &'static str,
}

impl BuiltInSuite {
    /// All of them.
    pub const ALL: &[BuiltInSuite] = &[
        BuiltInSuite { name: "smoke", text: SMOKE },
        BuiltInSuite { name: "torokernel", text: include_str!("../../suites/torokernel.toml") },
    ];

    /// The suite of this name.
    pub fn find(name: &str) -> Option<&'static BuiltInSuite> {
        BuiltInSuite::ALL.iter().find(|suite| suite.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Suite;

    #[test]
    fn each_is_a_suite_as_it_stands() {
        for suite in BuiltInSuite::ALL {
            let parsed = Suite::parse(suite.name, suite.text, &BTreeMap::new());
            assert!(!parsed.unwrap().description.is_empty(), "{}", suite.name);
            assert_eq!(BuiltInSuite::find(suite.name), Some(suite));
        }
        assert_eq!(BuiltInSuite::find("smoke.toml"), None);
    }
}
