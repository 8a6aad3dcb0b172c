//! User mode: segments for it, a stack to come back on, and an excursion there.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::cpu::{self, EFER, FLAGS_MASK, LSTAR, STAR};
use crate::exceptions::{self, Frame, GENERAL_PROTECTION};
use crate::paging;

core::arch::global_asm!(include_str!("ring3.s"), options(att_syntax, raw));

/// The segments of the kernel, as `entry.s` has them too.
const CODE: u64 = 8;
const DATA: u64 = 16;
/// `sysret` takes user mode's data segment after this one, and its code segment after that.
const BEFORE_USER: u64 = 24;
const TASK: u16 = 48;
const USER_CODE: u64 = 40 + 3;

/// What `ring3_user` hands over by `syscall`.
const HANDED_OVER: u64 = 0x746f_7269;

const SYSCALL_ENABLED: u64 = 1;
const STACK: usize = 8192;
/// The task state's size; the stack for coming from user mode stands at 4 in it.
const TASK_STATE: usize = 104;

/// What the CPU reads and writes itself.
#[repr(C, align(16))]
struct Tables {
    stack: [u8; STACK],
    segments: [u64; 8],
    task: [u32; TASK_STATE / 4],
}

struct Shared(UnsafeCell<Tables>);

// SAFETY: there is one CPU.
unsafe impl Sync for Shared {}

static TABLES: Shared =
    Shared(UnsafeCell::new(Tables { stack: [0; STACK], segments: [0; 8], task: [0; TASK_STATE / 4] }));

unsafe extern "C" {
    fn ring3_excursion(user: u64);
    safe static ring3_back: u8;
    safe static ring3_user: u8;
    safe static ring3_forbidden: u8;
    safe static ring3_call: u8;
    safe static ring3_kernel_stack: AtomicU64;
    safe static ring3_called_with: AtomicU64;
}

/// How the excursion ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Excursion {
    /// Its `syscall` came through, and its `hlt` was refused as it must be in user mode.
    AsItShould,
    /// Its `syscall` did not arrive with what it handed over.
    NoCall,
    /// It came back by another exception than that of its `hlt`, or not from user mode.
    WrongReturn,
}

static RETURNS: AtomicU64 = AtomicU64::new(0);

/// Goes to user mode, calls the kernel, goes on in user mode, and does there what is not allowed.
pub fn excursion() -> Excursion {
    load_tables();
    ring3_called_with.store(0, Ordering::Relaxed);
    RETURNS.store(0, Ordering::Relaxed);
    let user = paging::open_user_window(&raw const ring3_user as u64);
    exceptions::handle(GENERAL_PROTECTION, come_back);
    // SAFETY: every 64-bit CPU has these registers, and nobody else uses `syscall`. The code in user mode ends by an
    // exception whose handler makes this call return.
    unsafe {
        let features = cpu::read_msr(EFER);
        cpu::write_msr(STAR, BEFORE_USER << 48 | CODE << 32);
        cpu::write_msr(LSTAR, &raw const ring3_call as u64);
        cpu::write_msr(FLAGS_MASK, 0);
        cpu::write_msr(EFER, features | SYSCALL_ENABLED);
        ring3_excursion(user);
        cpu::write_msr(EFER, features);
    }
    exceptions::unhandle(GENERAL_PROTECTION);
    paging::close_user_window();
    match (ring3_called_with.load(Ordering::Relaxed), RETURNS.load(Ordering::Relaxed)) {
        (HANDED_OVER, 1) => Excursion::AsItShould,
        (HANDED_OVER, _) => Excursion::WrongReturn,
        _ => Excursion::NoCall,
    }
}

fn come_back(frame: &mut Frame) -> bool {
    let forbidden = paging::user_address(&raw const ring3_forbidden as u64);
    let right = frame.cs == USER_CODE && frame.error == 0 && frame.rip == forbidden;
    RETURNS.store(right.into(), Ordering::Relaxed);
    // One from the kernel itself is not for here: it would come again and again.
    if frame.cs == CODE {
        return false;
    }
    frame.rip = &raw const ring3_back as u64;
    frame.cs = CODE;
    frame.rsp = ring3_kernel_stack.load(Ordering::Relaxed);
    frame.ss = DATA;
    true
}

fn load_tables() {
    let tables = TABLES.0.get();
    // SAFETY: nothing else refers to the tables; the CPU reads them when it is told of them, below.
    unsafe {
        let task = &raw mut (*tables).task as u64;
        let stack = &raw mut (*tables).stack as u64 + STACK as u64;
        (*tables).task[1] = stack as u32;
        (*tables).task[2] = (stack >> 32) as u32;
        let limit = TASK_STATE as u64 - 1;
        let available_task = 0x89 << 40;
        (*tables).segments = [
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0,
            0x00cf_f300_0000_ffff,
            0x00af_fb00_0000_ffff,
            limit | (task & 0xff_ffff) << 16 | available_task | (task >> 24 & 0xff) << 56,
            task >> 32,
        ];
        cpu::load_segments(&raw const (*tables).segments, TASK);
    }
}
