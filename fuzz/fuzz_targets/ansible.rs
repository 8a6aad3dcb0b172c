//! Whatever a command prints is an inventory in Ansible's JSON or refused; every host of it is one that ssh can be given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use toril_inventory::{Host, Imported, Inventory, Reach, Target};

fuzz_target!(|text: &str| {
    let Ok(imported) = Imported::ansible("fuzz", text) else { return };
    let Ok(empty) = Inventory::parse("fuzz", "[[source]]\ncommand = [\"x\"]\n") else { return };
    let Ok(inventory) = empty.complete(vec![Ok(imported)]) else { return };
    for name in inventory.members("all") {
        let Ok(chosen) = inventory.one(&name) else { continue };
        if let Target::Host(Host { reach: Reach::Ssh(ssh), .. }) = chosen.target {
            assert!(!ssh.host.starts_with('-') && !ssh.host.is_empty() && !ssh.host.contains('{'));
        }
    }
});
