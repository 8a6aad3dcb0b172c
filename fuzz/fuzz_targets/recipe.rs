//! Any text is a recipe or has mistakes with places; never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use toril_provisioner::{Bundle, HostInfo, Recipe};

fuzz_target!(|text: &str| {
    let bundle = Bundle::of("fuzz", text, Default::default());
    let host = HostInfo { name: "host".into(), user: "debian".into() };
    if let Err(problems) = Recipe::check(&bundle, &host) {
        assert!(!problems.to_string().is_empty());
    }
});
