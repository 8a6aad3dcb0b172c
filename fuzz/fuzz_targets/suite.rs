//! Any text is a suite or has mistakes with places; never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use toril_runner::Suite;

fuzz_target!(|text: &str| {
    if let Err(problems) = Suite::parse("fuzz", text, &Default::default()) {
        assert!(!problems.to_string().is_empty());
    }
});
