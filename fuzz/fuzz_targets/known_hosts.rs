//! Any bytes are a known_hosts file; what is known of a host has a line in it, and a made-up one is never known.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use toril_inventory::Ssh;
use toril_transport::{Options, route};

fuzz_target!(|input: (&str, &[u8])| {
    let (host, bytes) = input;
    let Ok(file) = tempfile::NamedTempFile::new() else { return };
    let Ok(()) = fs::write(file.path(), bytes) else { return };
    let ssh = Ssh { host: host.into(), known_hosts: Some(file.path().to_owned()), ..Ssh::default() };
    let Ok(route) = route(&ssh, &Options::default()) else { return };
    let Some(place) = route.known else { return };
    let line: usize = place.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().nth(line - 1).unwrap_or_default();
    assert!(line.split_whitespace().count() >= 3, "{line}");
});
