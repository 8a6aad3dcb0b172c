//! The lines of the contract.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::cases::Outcome;
use crate::contract::{CASE, END, EXIT_PANICKED, FAILED, HEADER, PANIC, PASSED};
use crate::end;
use crate::serial::{self, Serial};

/// The first line. Up to here, and for cases that pass, no formatting code runs: it uses SSE registers, and a KVM
/// that cannot run these must not keep the header from being seen.
pub fn header() {
    serial::write(HEADER);
    serial::write(env!("CARGO_PKG_VERSION"));
    serial::write("\n");
}

/// A case's line; `round` is 1 for the first time that a case runs.
pub fn case(name: &str, round: usize, outcome: Outcome) {
    serial::write(CASE);
    serial::write(name);
    if round > 1 {
        let _never_fails = write!(Serial, "-{round}");
    }
    match outcome {
        Ok(()) => serial::write(PASSED),
        Err(reason) => {
            serial::write(FAILED);
            serial::write(" (");
            serial::write(reason);
            serial::write(")");
        }
    }
    serial::write("\n");
}

/// The last line.
pub fn end() {
    serial::write(END);
    serial::write("\n");
}

/// The line of a panic, and the guest's end. A panic while that line is printed ends it without another.
pub fn panic(info: &PanicInfo) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    if !PANICKING.swap(true, Ordering::Relaxed) {
        serial::write(PANIC);
        let _never_fails = write!(Serial, "{}", info.message());
        if let Some(place) = info.location() {
            let _never_fails = write!(Serial, " ({place})");
        }
        serial::write("\n");
    }
    end::exit(EXIT_PANICKED)
}
