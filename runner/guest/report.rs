//! The lines of the contract.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::channel::{self, Channel};
use crate::contract::{CASE, END, EXIT_PANICKED, FAILED, HEADER, METRIC, PANIC, PASSED, VALUE, WORK, Work};
use crate::end;
use crate::serial::{self, Serial};

/// The first line. Up to here, and for cases that pass, no formatting code runs: it uses SSE registers, and a KVM
/// that cannot run these must not keep the header from being seen.
pub fn header(write: fn(&str)) {
    write(HEADER);
    write(env!("CARGO_PKG_VERSION"));
    write("\n");
}

/// A case's line; `round` is 1 for the first time that a case runs.
pub fn case<Reason: fmt::Display>(name: &str, round: usize, outcome: Result<(), Reason>) {
    channel::write(CASE);
    channel::write(name);
    if round > 1 {
        let _never_fails = write!(Channel, "-{round}");
    }
    match outcome {
        Ok(()) => channel::write(PASSED),
        Err(reason) => {
            let _never_fails = write!(Channel, "{FAILED} ({reason})");
        }
    }
    channel::write("\n");
}

/// A number that was measured or counted.
pub fn metric(name: &str, value: u64, unit: &str) {
    let _never_fails = writeln!(Channel, "{METRIC}{name}: {value} {unit}");
}

/// A line that tells that counted work begins or ends.
pub fn work(kind: Work, count: u64, what: &str) {
    let _never_fails = writeln!(Channel, "{WORK}{}: {what} {count}", kind.name());
}

/// A number that was measured of such work.
pub fn work_metric(kind: Work, what: &str, value: u64, unit: &str) {
    let _never_fails = writeln!(Channel, "{METRIC}work-{}-{what}: {value} {unit}", kind.name());
}

/// Text that came from elsewhere.
pub fn value(name: &str, text: impl fmt::Display) {
    let _never_fails = writeln!(Channel, "{VALUE}{name}: {text}");
}

/// The last line.
pub fn end() {
    channel::write(END);
    channel::write("\n");
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
