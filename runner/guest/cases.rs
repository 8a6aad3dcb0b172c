//! The cases: each does something real and checks what came of it.

use core::arch::asm;
use core::arch::x86_64::{
    _mm_add_epi32, _mm_add_pd, _mm_cmpeq_epi32, _mm_cmpeq_pd, _mm_movemask_epi8, _mm_movemask_pd, _mm_mul_pd,
    _mm_set_epi32, _mm_set_pd, _mm_set1_pd, _mm_shuffle_epi32, _mm_sqrt_pd,
};
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::apic;
use crate::cpu::{self, EFER, KERNEL_GS_BASE, LSTAR};
use crate::exceptions::{self, BREAKPOINT, FIRST_INTERRUPT, Frame, PAGE_FAULT};
use crate::paging::{self, WINDOW};
use crate::privilege::{self, Excursion};

/// What came of a case: nothing to say, or what was wrong.
pub type Outcome = Result<(), &'static str>;

/// Runs the case of that name, one of `contract::CASES` or `contract::MORE_CASES`. The cases are not inlined: the compiler would move SSE
/// instructions in front of the cases that do without, and a KVM that dies of them would look worse than it is.
pub fn run(name: &str) -> Outcome {
    match name {
        "long-mode" => long_mode(),
        // SAFETY: every 64-bit CPU has SSE2, and entry.s has switched it on.
        "sse" => unsafe { sse() },
        "page-fault" => page_fault(),
        "msr" => msr(),
        "interrupt" => interrupt(),
        "mmx" => mmx(),
        "x87" => x87(),
        "apic" => apic_interrupt(),
        "ring3" => ring3(),
        _ => Err("there is no such case"),
    }
}

fn check(right: bool, otherwise: &'static str) -> Outcome {
    if right { Ok(()) } else { Err(otherwise) }
}

/// The CPU says that it is in 64-bit mode, and computes so.
#[inline(never)]
fn long_mode() -> Outcome {
    const PAGING: u64 = 1 << 31;
    const ENABLED_AND_ACTIVE: u64 = 1 << 8 | 1 << 10;
    // SAFETY: every 64-bit CPU has EFER.
    let features = unsafe { cpu::read_msr(EFER) };
    check(features & ENABLED_AND_ACTIVE == ENABLED_AND_ACTIVE, "EFER has no long mode")?;
    check(cpu::control() & PAGING != 0, "CR0 has no paging")?;
    let product =
        u128::from(black_box(0xfedc_ba98_7654_3210_u64)) * u128::from(black_box(0x0123_4567_89ab_cdef_u64));
    check(product == 0x0121_fa00_ad77_d742_2236_d88f_e561_8cf0, "a 64-bit multiplication is wrong")
}

/// SSE2 arithmetic with doubles and with integers.
#[target_feature(enable = "sse2")]
#[inline(never)]
fn sse() -> Outcome {
    let numbers = _mm_set_pd(black_box(1.5), black_box(-2.25));
    let squares = _mm_mul_pd(numbers, numbers);
    let right = _mm_cmpeq_pd(squares, _mm_set_pd(black_box(2.25), black_box(5.0625)));
    check(_mm_movemask_pd(right) == 0b11, "a multiplication of doubles is wrong")?;

    let roots = _mm_sqrt_pd(_mm_add_pd(squares, _mm_set_pd(black_box(6.75), black_box(3.9375))));
    let right = _mm_cmpeq_pd(roots, _mm_set1_pd(black_box(3.0)));
    check(_mm_movemask_pd(right) == 0b11, "a square root is wrong")?;

    let integers = _mm_set_epi32(black_box(4), black_box(-3), black_box(i32::MAX), black_box(1));
    let sums = _mm_add_epi32(integers, _mm_shuffle_epi32::<0b00_01_10_11>(integers));
    let right = _mm_cmpeq_epi32(sums, _mm_set_epi32(5, i32::MAX - 3, i32::MAX - 3, 5));
    check(_mm_movemask_epi8(right) == 0xffff, "an addition of integers is wrong")
}

static FAULTS: AtomicU64 = AtomicU64::new(0);
static EXPECTED_FAULT: AtomicU64 = AtomicU64::new(0);

/// Reads where nothing is mapped; the handler maps it, and the read succeeds when it is tried again.
#[inline(never)]
fn page_fault() -> Outcome {
    const BEFORE: u64 = 0x746f_7269_6c00_0001;
    const AFTER: u64 = 0x746f_7269_6c00_0002;
    static VALUE: AtomicU64 = AtomicU64::new(0);

    VALUE.store(BEFORE, Ordering::Relaxed);
    let address = WINDOW + VALUE.as_ptr() as u64;
    FAULTS.store(0, Ordering::Relaxed);
    EXPECTED_FAULT.store(address, Ordering::Relaxed);
    exceptions::handle(PAGE_FAULT, open_window_once);
    let read: u64;
    // SAFETY: the handler makes the address another one of VALUE, whose type allows to change it so.
    unsafe { asm!("mov {}, [{}]", "mov [{1}], {2}", out(reg) read, in(reg) address, in(reg) AFTER) }
    exceptions::unhandle(PAGE_FAULT);
    paging::close_window();

    check(FAULTS.load(Ordering::Relaxed) == 1, "reading an unmapped address raised no page fault")?;
    check(read == BEFORE, "the instruction that faulted read something else when it was tried again")?;
    check(VALUE.load(Ordering::Relaxed) == AFTER, "a second mapping of a page is not the same memory")
}

fn open_window_once(frame: &mut Frame) -> bool {
    const NOT_PRESENT_READ: u64 = 0;
    let expected = FAULTS.fetch_add(1, Ordering::Relaxed) == 0
        && frame.error == NOT_PRESENT_READ
        && cpu::fault_address() == EXPECTED_FAULT.load(Ordering::Relaxed);
    if expected {
        paging::open_window();
    }
    expected
}

/// Model-specific registers keep what is written to them.
#[inline(never)]
fn msr() -> Outcome {
    for register in [KERNEL_GS_BASE, LSTAR] {
        // SAFETY: every 64-bit CPU has both; there is no `swapgs` and no `syscall` here that would use them.
        let kept = unsafe {
            let before = cpu::read_msr(register);
            let kept = [0x0000_1234_5678_9abc, 0xffff_8765_4321_0fed].into_iter().all(|value| {
                cpu::write_msr(register, value);
                cpu::read_msr(register) == value
            });
            cpu::write_msr(register, before);
            kept
        };
        check(kept, "a register lost what was written to it")?;
    }
    Ok(())
}

static INTERRUPTS: AtomicU64 = AtomicU64::new(0);

/// `int3` and a software interrupt reach their handlers and come back with the registers as they were.
#[inline(never)]
fn interrupt() -> Outcome {
    const VALUE: u64 = 0x0f1e_2d3c_4b5a_6978;
    INTERRUPTS.store(0, Ordering::Relaxed);
    exceptions::handle(BREAKPOINT, count_interrupt);
    exceptions::handle(FIRST_INTERRUPT, count_interrupt);
    let (integer, double): (u64, f64);
    // SAFETY: the handlers count; exceptions.s restores every register.
    unsafe {
        asm!("int3", "int {vector}", vector = const FIRST_INTERRUPT,
            inout("rcx") VALUE => integer, inout("xmm0") 1.25_f64 => double);
    }
    exceptions::unhandle(BREAKPOINT);
    exceptions::unhandle(FIRST_INTERRUPT);
    check(INTERRUPTS.load(Ordering::Relaxed) == 2, "an interrupt did not reach its handler")?;
    check(integer == VALUE && double == 1.25, "an interrupt changed a register")
}

fn count_interrupt(frame: &mut Frame) -> bool {
    let vectors = [u64::from(BREAKPOINT), u64::from(FIRST_INTERRUPT)];
    let order = INTERRUPTS.fetch_add(1, Ordering::Relaxed);
    vectors.get(order as usize) == Some(&frame.vector)
}

/// Four additions at once in an MMX register, each kept at its greatest value.
#[inline(never)]
fn mmx() -> Outcome {
    let (one, other) = (black_box(0x7ff0_0001_8000_0010_u64), black_box(0x0020_0002_ffff_0001_u64));
    let sum: u64;
    // SAFETY: every 64-bit CPU has MMX; `emms` gives the registers back to the x87.
    unsafe {
        asm!("movq mm0, {one}", "movq mm1, {other}", "paddsw mm0, mm1", "movq {sum}, mm0", "emms",
            one = in(reg) one, other = in(reg) other, sum = out(reg) sum,
            out("mm0") _, out("mm1") _, out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            options(nomem, nostack, preserves_flags));
    }
    check(sum == 0x7fff_0003_8000_0011, "an MMX addition is wrong")
}

/// A square root by the x87.
#[inline(never)]
fn x87() -> Outcome {
    let square = black_box(152_399_025_i64);
    let mut root = 0_i64;
    // SAFETY: every 64-bit CPU has an x87; its stack is empty before and after.
    unsafe {
        asm!("fninit", "fild qword ptr [{square}]", "fsqrt", "fistp qword ptr [{root}]",
            square = in(reg) &raw const square, root = in(reg) &raw mut root,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _, out("st(4)") _, out("st(5)") _,
            out("st(6)") _, out("st(7)") _, options(nostack, preserves_flags));
    }
    check(root == 12_345, "a square root of the x87 is wrong")
}

static APIC_INTERRUPTS: AtomicU64 = AtomicU64::new(0);

/// An interrupt that the CPU's APIC delivers, when the CPU lets it in and not before.
#[inline(never)]
fn apic_interrupt() -> Outcome {
    const VECTOR: u8 = FIRST_INTERRUPT + 1;
    APIC_INTERRUPTS.store(0, Ordering::Relaxed);
    exceptions::handle(VECTOR, |_| {
        APIC_INTERRUPTS.fetch_add(1, Ordering::Relaxed);
        apic::end_interrupt();
        true
    });
    apic::enable();
    apic::interrupt_self(VECTOR);
    let early = APIC_INTERRUPTS.load(Ordering::Relaxed);
    // Delivery may take a moment.
    for _ in 0..1_000_000 {
        cpu::take_interrupts();
        if APIC_INTERRUPTS.load(Ordering::Relaxed) > 0 {
            break;
        }
    }
    exceptions::unhandle(VECTOR);
    check(early == 0, "an interrupt came though interrupts were off")?;
    check(
        APIC_INTERRUPTS.load(Ordering::Relaxed) == 1,
        "an interrupt from the APIC did not come, or came twice",
    )
}

/// User mode can call the kernel, and cannot do what only the kernel may.
#[inline(never)]
fn ring3() -> Outcome {
    match privilege::excursion() {
        Excursion::AsItShould => Ok(()),
        Excursion::NoCall => Err("a syscall from user mode did not arrive"),
        Excursion::WrongReturn => Err("user mode could do what only the kernel may, or failed otherwise"),
    }
}
