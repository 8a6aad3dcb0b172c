//! Any text is an ssh configuration of the user's, or says what only OpenSSH can do; every way has an end.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use toril_inventory::{Imported, Ssh};
use toril_transport::{Options, route};

/// A home of this program's own, made once.
fn home() -> PathBuf {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let home = tempfile::tempdir().expect("a directory").keep();
        fs::create_dir(home.join(".ssh")).expect("a directory");
        // SAFETY: one thread runs the targets, and no other was started.
        unsafe { std::env::set_var("HOME", &home) };
        home
    };
    HOME.get_or_init(make).clone()
}

fuzz_target!(|input: (&str, &str)| {
    let (host, text) = input;
    let file = home().join(".ssh/config");
    let Ok(()) = fs::write(&file, text) else { return };
    // It may name files of this machine, which are none of this target's.
    if !text.to_lowercase().contains("include") {
        let _ = Imported::ssh_config(&file);
    }
    if text.to_lowercase().contains("knownhosts") {
        return;
    }
    if let Ok(route) = route(&Ssh { host: host.into(), ..Ssh::default() }, &Options::default()) {
        assert!(!route.hops.is_empty() && route.hops.len() <= 9, "{:?}", route.hops);
    }
});
