//! Counted work: so much of it, whatever the time, so that its time says what the machine is worth. The work of each
//! kind is written in assembly: a compiler would count differently each time.

use core::arch::asm;
use core::arch::x86_64::__cpuid;

use crate::contract::Work;
use crate::virtio::buffer::Buffer;
use crate::{clock, cpu, report};

/// A port that is there for nothing: the BIOS's progress codes.
const IDLE_PORT: u16 = 0x80;
const WALKED: usize = 512 << 10;
const CACHE_LINE: u64 = 64;

/// Does `count` of that work, and tells when it begins and ends and how long it took.
pub fn run(kind: Work, count: u64) {
    let memory = matches!(kind, Work::Memory).then(|| Buffer::new(WALKED));
    report::work(kind, count, "begin");
    let before = clock::ticks();
    match (kind, memory) {
        (Work::Memory, Some(memory)) => walk(memory, count),
        (Work::Cpuid, _) => (0..count).for_each(|_| {
            core::hint::black_box(__cpuid(0));
        }),
        (Work::Port, _) => (0..count).for_each(|_| {
            // SAFETY: what is written to this port is shown somewhere at most.
            unsafe { cpu::write_port(IDLE_PORT, 0) }
        }),
        _ => compute(count),
    }
    let ticks = clock::ticks() - before;
    report::work(kind, count, "end");
    report::work_metric(kind, "ticks", ticks, "ticks");
    if let Some(micros) = clock::microseconds(ticks) {
        report::work_metric(kind, "time", micros, "us");
    }
}

/// `count` multiplications and additions, each of which needs the one before.
fn compute(count: u64) {
    if count == 0 {
        return;
    }
    // SAFETY: registers only.
    unsafe {
        asm!("2:", "imul {value}, {factor}", "inc {value}", "dec {count}", "jnz 2b",
            value = inout(reg) 1_u64 => _, factor = in(reg) 6_364_136_223_846_793_005_u64,
            count = inout(reg) count => _, options(nomem, nostack));
    }
}

/// Changes `count` cache lines of the memory, in an order that no prefetcher guesses.
fn walk(memory: Buffer, count: u64) {
    if count == 0 {
        return;
    }
    let mask = memory.len() as u64 - CACHE_LINE;
    // SAFETY: the offset is masked to a line of the memory.
    unsafe {
        asm!("2:", "imul {value}, {factor}", "inc {value}", "mov {line}, {value}", "shr {line}, 24",
            "and {line}, {mask}", "add qword ptr [{base} + {line}], 1", "dec {count}", "jnz 2b",
            value = inout(reg) 1_u64 => _, factor = in(reg) 6_364_136_223_846_793_005_u64, line = out(reg) _,
            mask = in(reg) mask & !(CACHE_LINE - 1), base = in(reg) memory.address(), count = inout(reg) count => _,
            options(nostack));
    }
}
