//! Any text is a lock, which is written and read again as the same, or has mistakes with places; never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use toril_provisioner::{Lock, RecipeFile};

fuzz_target!(|text: &str| {
    match Lock::read(&RecipeFile { origin: "fuzz".into(), text: text.into() }) {
        Ok(lock) => {
            let written = lock.to_string();
            let again = Lock::read(&RecipeFile { origin: "again".into(), text: written.clone() });
            assert_eq!(again.unwrap().to_string(), written);
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
