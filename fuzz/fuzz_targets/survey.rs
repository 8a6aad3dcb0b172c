//! Any survey that can be read is laid out below its directory, or refused; never a panic, never a file elsewhere.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use toril_provisioner::Survey;

fuzz_target!(|text: &str| {
    let Ok(survey) = serde_json::from_str::<Survey>(text) else { return };
    let around = tempfile::tempdir().unwrap();
    let root = around.path().join("root");
    fs::create_dir(&root).unwrap();
    drop(survey.lay_out(&root));
    assert_eq!(fs::read_dir(around.path()).unwrap().count(), 1);
});
