//! The functions that compiled Rust expects of a C library. The string instructions keep them short, and keep the
//! compiler from seeing a loop in `memcpy` that it could replace by a call of `memcpy`.

use core::arch::asm;

/// # Safety
/// As in C: both areas are `count` bytes long and do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the areas are the caller's promise; the direction flag is clear in Rust code.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As in C: both areas are `count` bytes long.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: copying forwards reads each byte before it is overwritten, as `to` is not inside `from`.
        return unsafe { memcpy(to, from, count) };
    }
    // SAFETY: the areas are the caller's promise, `count` is not 0 here, and the direction flag is clear afterwards.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") count => _, inout("rdi") to.add(count - 1) => _,
            inout("rsi") from.add(count - 1) => _, options(nostack));
    }
    to
}

/// # Safety
/// As in C: the area is `count` bytes long.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: the area is the caller's promise; the direction flag is clear in Rust code.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") value as u8,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As in C: both areas are `count` bytes long.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    for index in 0..count {
        // SAFETY: `index` is inside both areas.
        let (a, b) = unsafe { (*one.add(index), *other.add(index)) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
/// As in C: both areas are `count` bytes long.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    // SAFETY: the same promise.
    unsafe { memcmp(one, other, count) }
}

/// # Safety
/// As in C: a NUL follows somewhere.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let left: usize;
    // SAFETY: the NUL is the caller's promise; the direction flag is clear in Rust code.
    unsafe {
        asm!("repne scasb", inout("rcx") usize::MAX => left, inout("rdi") text => _, in("al") 0_u8,
            options(nostack, readonly));
    }
    // Counted down once for each byte, the NUL among them.
    usize::MAX - left - 1
}
