//! Any output is read for cases in every built-in format: each has a name, and no name comes twice.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use toril_runner::CaseFormat;

fuzz_target!(|text: &str| {
    for name in CaseFormat::BUILT_IN {
        let Some(format) = CaseFormat::built_in(name) else { continue };
        let cases = format.read_all(text);
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert!(!names.contains(""));
        assert_eq!(names.len(), cases.len());
    }
});
