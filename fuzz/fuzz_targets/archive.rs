//! Any bytes are an archive or are refused: nothing beside the directory is touched, and memory stays bounded.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use toril_archive::{Links, Rules, unpack, unpack_foreign};

fuzz_target!(|bytes: &[u8]| {
    let Ok(dir) = tempfile::tempdir() else { return };
    let tree = dir.path().join("tree");
    if fs::create_dir(&tree).is_err() {
        return;
    }
    let rules = Rules { owner: None, links: Links::Inside, most_bytes: 1 << 20, most_entries: 1000 };
    // Most bytes are no gzip; packed, they reach what reads the entries.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let packed = std::io::Write::write_all(&mut packed, bytes).and_then(|()| packed.finish());
    let _ = unpack(bytes, &tree, &rules);
    let _ = packed.map(|packed| unpack(packed.as_slice(), &tree, &rules));
    let _ =
        unpack_foreign(bytes, &tree, &rules, usize::from(bytes.first().is_some_and(|byte| byte % 2 == 0)));
    assert_eq!(fs::read_dir(dir.path()).map(Iterator::count).ok(), Some(1));
});
