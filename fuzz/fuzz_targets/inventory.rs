//! Any text is an inventory or has mistakes with places, and any host is an address or is refused; never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use toril_inventory::Inventory;

fuzz_target!(|text: &str| {
    let inventory = Inventory::parse("fuzz", text).unwrap_or_default();
    let _ = inventory.resolve(text);
});
