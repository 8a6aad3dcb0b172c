//! What the guest does, by its mode.

use core::arch::asm;
use core::fmt::Write;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::contract::{CASES, EXCEPTION, EXIT_ENDED, MORE_CASES, Mode, PANIC};
use crate::exceptions::{self, Frame, INVALID_OPCODE, NMI};
use crate::options::{self, Options};
use crate::serial::{self, Serial};
use crate::virtio::console::Console;
use crate::{apic, cases, channel, clock, cpu, devices, end, report, work};

/// Does what the command line asks for, and ends.
pub fn run(options: &Options) -> ! {
    match options.mode {
        Mode::Silent => {}
        Mode::Headless => {
            redirect(options);
            run_cases(0..options.cases, options);
        }
        Mode::Pass | Mode::Fail => {
            begin(options);
            run_cases(0..options.cases, options);
            options::work(options.work).for_each(|(kind, count)| work::run(kind, count));
            devices::run(options);
            report::end();
        }
        Mode::Duplicate => {
            begin(options);
            run_cases(0..options.cases, options);
            run_cases(0..1, options);
            report::end();
        }
        Mode::Missing => {
            begin(options);
            run_cases(0..options.cases.saturating_sub(1), options);
            report::end();
        }
        Mode::Late => {
            begin(options);
            let last = options.cases.saturating_sub(1);
            run_cases(0..last, options);
            report::end();
            run_cases(last..options.cases, options);
        }
        Mode::Flood => {
            begin(options);
            flood()
        }
        Mode::Stuck => {
            begin(options);
            wait_for_nmi();
            run_cases(0..1, options);
        }
        Mode::Fragile => {
            begin(options);
            exceptions::handle(NMI, |_| {
                let _never_fails = writeln!(Serial, "{PANIC}an NMI");
                end::triple_fault()
            });
            apic::let_nmi_through();
            cpu::halt()
        }
        Mode::Hang | Mode::Panic | Mode::TripleFault | Mode::Incomplete | Mode::Exception => {
            begin(options);
            run_cases(0..1, options);
            misbehave(options.mode)
        }
    }
    end::exit(EXIT_ENDED)
}

/// The header: on the serial port, and first in the report where that goes elsewhere.
fn begin(options: &Options) {
    report::header(serial::write);
    if redirect(options) {
        report::header(channel::write);
    }
}

/// Whether the report goes elsewhere from here on.
fn redirect(options: &Options) -> bool {
    let name = match options.console {
        None => return false,
        Some(options::Console::First) => None,
        Some(options::Console::Named(name)) => Some(name),
    };
    match Console::open(options.command_line, name) {
        Ok(console) => channel::redirect(console, options.crlf),
        Err(error) => panic!("console={}: {error}", name.unwrap_or("on")),
    }
    true
}

/// Runs the cases of these numbers; beyond the last they start over.
fn run_cases(numbers: Range<usize>, options: &Options) {
    let more = if options.more { MORE_CASES.as_slice() } else { &[] };
    for number in numbers {
        let (round, index) = (number / (CASES.len() + more.len()), number % (CASES.len() + more.len()));
        let name = CASES.get(index).unwrap_or_else(|| &more[index - CASES.len()]);
        let mut outcome = cases::run(name);
        if options.mode == Mode::Fail && number + 1 == options.cases {
            outcome = Err("mode=fail asked for it");
        }
        report::case(name, round + 1, outcome);
        if number == 0 {
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

/// Many lines at a time: to a console each piece costs what QEMU takes to fetch it.
fn flood() -> ! {
    const LINE: &str = "flood: line after line, as fast as the port takes them\n";
    const LINES: usize = 64;
    let mut flood = [0; LINE.len() * LINES];
    flood.chunks_exact_mut(LINE.len()).for_each(|place| place.copy_from_slice(LINE.as_bytes()));
    let flood = core::str::from_utf8(&flood).unwrap_or(LINE);
    loop {
        channel::write(flood);
    }
}

static NMIS: AtomicU64 = AtomicU64::new(0);

fn wait_for_nmi() {
    exceptions::handle(NMI, |_| {
        NMIS.fetch_add(1, Ordering::Relaxed);
        true
    });
    apic::let_nmi_through();
    while NMIS.load(Ordering::Relaxed) == 0 {
        core::hint::spin_loop();
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
