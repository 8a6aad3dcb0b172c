//! The guest toolkit: a kernel of a few kilobytes that QEMU's microvm starts by PVH, and that passes, fails or
//! misbehaves as its command line says (`guest/`). With it the runner proves a host, and itself.

#[path = "../guest/contract.rs"]
pub mod contract;

/// The kernel, for `-kernel`: an ELF file with a PVH note, built from `guest/` together with the runner.
pub const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/toril-guest.elf"));

/// A line that reports a case, as a regular expression with the groups `name`, `result` (`PASSED` or `FAILED`) and,
/// after a failure, `reason`.
pub const CASE_PATTERN: &str = r"^case (?P<name>\S+): (?P<result>PASSED|FAILED)(?: \((?P<reason>.*)\))?\s*$";

/// QEMU's exit status after a clean end, whatever the cases said.
pub const STATUS_ENDED: i32 = exit_status(contract::EXIT_ENDED);

/// QEMU's exit status after a panic of the guest.
pub const STATUS_PANICKED: i32 = exit_status(contract::EXIT_PANICKED);

/// QEMU's exit status after a triple fault, given `-no-reboot`. Without isa-debug-exit every end looks so.
pub const STATUS_TRIPLE_FAULT: i32 = 0;

/// What isa-debug-exit makes of a value that the guest writes to it.
const fn exit_status(value: u8) -> i32 {
    2 * value as i32 + 1
}

#[cfg(test)]
mod tests;
