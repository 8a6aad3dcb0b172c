//! Where the report goes: to the serial port, or to a virtio console that takes its place. What is about the guest
//! itself (its boot, a panic, a storm of exceptions) stays on the serial port.

use core::cell::UnsafeCell;
use core::fmt;

use crate::serial;
use crate::virtio::console::Console;

/// The console, and whether lines end there as terminals want it.
struct Place(UnsafeCell<Option<(Console, bool)>>);

// SAFETY: there is one CPU, and no handler of an exception writes a report.
unsafe impl Sync for Place {}

static CONSOLE: Place = Place(UnsafeCell::new(None));

/// Sends the report to `console` from here on, each line ended by CR LF if `crlf` says so.
pub fn redirect(console: Console, crlf: bool) {
    // SAFETY: nothing else refers to it: `write` lets go of it before it returns.
    unsafe { *CONSOLE.0.get() = Some((console, crlf)) }
}

/// Writes a piece of the report; waits as long as nobody takes it.
pub fn write(text: &str) {
    // SAFETY: nothing that is called here comes back to here.
    match unsafe { &mut *CONSOLE.0.get() } {
        None => serial::write(text),
        Some((console, false)) => console.write(text),
        Some((console, true)) => {
            for piece in text.split_inclusive('\n') {
                match piece.strip_suffix('\n') {
                    Some(line) => {
                        console.write(line);
                        console.write("\r\n");
                    }
                    None => console.write(piece),
                }
            }
        }
    }
}

/// The report as a destination of `write!`, which never fails here.
pub struct Channel;

impl fmt::Write for Channel {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text);
        Ok(())
    }
}
