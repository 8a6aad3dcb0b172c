//! The snapshot that provisioned hosts begin from.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::time::Duration;

use super::program::{Toril, toril};
use super::sandbox::{MACHINE, Sandbox, sandboxes};

/// A snapshot of a host that has been brought to the recipe.
pub(super) fn snapshot() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| ensure("snapshot", "debian-12-", &[]))
}

/// The same of a virtual machine. Making it takes minutes where it is emulated.
pub(super) fn machine_snapshot() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| ensure("vm-snapshot", "vm-debian-12-", &MACHINE))
}

/// A snapshot that is made once for every text of the recipe and every base.
fn ensure(what: &str, bases_of: &str, options: &[&str]) -> String {
    let lock = File::create(env::temp_dir().join(format!("toril-e2e-{what}.lock"))).unwrap();
    // Another process of tests may be making it.
    lock.lock().unwrap();
    let bases = || {
        let listed = fs::read_dir(sandboxes().join("base")).into_iter().flatten();
        let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(bases_of)).collect::<BTreeSet<String>>()
    };
    if bases().is_empty() {
        drop(Sandbox::up("base", options));
    }
    let mut hasher = DefaultHasher::new();
    (include_str!("../../../../recipes/microvm-host.toml"), bases()).hash(&mut hasher);
    let name = format!("e2e-{:016x}", hasher.finish());
    if !sandboxes().join("snapshots").join(&name).exists() {
        let maker = Sandbox::up(what, options);
        Toril::new(&["apply", &maker.host()]).deadline(Duration::from_secs(900)).run().exits(0);
        toril(&["sandbox", "snapshot", &maker.name, &name]).exits(0);
    }
    name
}
