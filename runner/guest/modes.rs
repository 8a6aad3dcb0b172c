//! What the guest does, by its mode.

use core::arch::asm;
use core::fmt::Write;

use crate::contract::{CASES, EXCEPTION, EXIT_ENDED, Mode};
use crate::exceptions::{self, Frame, INVALID_OPCODE};
use crate::options::{self, Options};
use crate::serial::{self, Serial};
use crate::virtio::console::Console;
use crate::{cases, channel, clock, cpu, devices, end, report};

/// Does what the command line asks for, and ends.
pub fn run(options: &Options) -> ! {
    match options.mode {
        Mode::Silent => {}
        Mode::Pass | Mode::Fail => {
            begin(options);
            run_cases(options.cases, options);
            devices::run(options);
            report::end();
        }
        Mode::Flood => {
            begin(options);
            flood()
        }
        Mode::Hang | Mode::Panic | Mode::TripleFault | Mode::Incomplete | Mode::Exception => {
            begin(options);
            run_cases(1, options);
            misbehave(options.mode)
        }
    }
    end::exit(EXIT_ENDED)
}

/// The header: on the serial port, and first in the report where that goes elsewhere.
fn begin(options: &Options) {
    report::header(serial::write);
    let name = match options.console {
        None => return,
        Some(options::Console::First) => None,
        Some(options::Console::Named(name)) => Some(name),
    };
    match Console::open(options.command_line, name) {
        Ok(console) => channel::redirect(console, options.crlf),
        Err(error) => panic!("console={}: {error}", name.unwrap_or("on")),
    }
    report::header(channel::write);
}

fn run_cases(count: usize, options: &Options) {
    for index in 0..count {
        let name = CASES[index % CASES.len()];
        let mut outcome = cases::run(name);
        if options.mode == Mode::Fail && index + 1 == count {
            outcome = Err("mode=fail asked for it");
        }
        report::case(name, index / CASES.len() + 1, outcome);
        if index == 0 {
            clock::wait(options.seconds);
        }
    }
}

fn misbehave(mode: Mode) {
    match mode {
        Mode::Hang => cpu::halt(),
        Mode::Panic => panic!("mode=panic asked for it"),
        Mode::TripleFault => end::triple_fault(),
        Mode::Exception => exception_storm(),
        _ => {}
    }
}

fn flood() -> ! {
    loop {
        channel::write("flood: line after line, as fast as the port takes them\n");
    }
}

/// An instruction that does not exist, tried again for ever.
fn exception_storm() {
    exceptions::handle(INVALID_OPCODE, report_and_retry);
    // SAFETY: the handler comes back to this instruction, so nothing after it is reached.
    unsafe { asm!("ud2") }
}

fn report_and_retry(frame: &mut Frame) -> bool {
    let name = exceptions::name(frame.vector);
    let _never_fails = writeln!(Serial, "{EXCEPTION}{name} at RIP {:#x}", frame.rip);
    true
}
