//! toril's guest: a kernel of a few kilobytes that QEMU's microvm starts by PVH, that tries what a guest needs
//! (64-bit mode, SSE, paging, exceptions, MSRs) and some virtio devices, reports it, and misbehaves on request.
//! `contract.rs` says what it understands and prints. Built by `../build.rs`; one CPU, no interrupts from devices.
#![no_std]
#![no_main]

mod apic;
mod cases;
mod channel;
mod checksum;
mod clock;
mod contract;
mod cpu;
mod devices;
mod end;
mod exceptions;
mod memory;
mod modes;
mod options;
mod paging;
mod privilege;
mod pvh;
mod report;
mod serial;
mod virtio;
mod work;

use options::Options;
use pvh::StartInfo;

core::arch::global_asm!(include_str!("entry.s"), options(att_syntax, raw));

/// Where `entry.s` arrives: 64-bit mode, first 4 GiB mapped to themselves, SSE on, interrupts off.
#[unsafe(no_mangle)]
extern "C" fn start(start_info: u64) -> ! {
    serial::initialise();
    exceptions::initialise();
    // SAFETY: entry.s passes on what the loader handed over in EBX.
    let start_info = unsafe { StartInfo::at(start_info) };
    modes::run(&Options::parse(start_info.command_line()))
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    report::panic(info)
}
