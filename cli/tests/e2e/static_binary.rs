//! The binary needs nothing of the machine that it runs on.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{TORIL, Toril, is_root, skip, toril};

/// The types of the segments of a 64-bit ELF file.
fn segments(image: &[u8]) -> Vec<u32> {
    assert_eq!(image[..6], *b"\x7fELF\x02\x01", "not a little-endian ELF file of 64 bits");
    let number = |at: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&image[at..at + size]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).map(|index| u32::try_from(number(start + index * size, 4)).unwrap()).collect()
}

#[test]
fn it_is_linked_statically() {
    const LOAD: u32 = 1;
    const INTERPRETER: u32 = 3;
    let segments = segments(&fs::read(TORIL).unwrap());
    assert!(segments.contains(&LOAD));
    assert!(!segments.contains(&INTERPRETER), "it asks for a dynamic linker");
}

#[test]
fn it_runs_in_an_empty_root() {
    if !is_root() {
        return skip("a change of root needs root");
    }
    let root = tempfile::tempdir().unwrap();
    // By another process: a file that this one has open for writing, on whatever thread, cannot be executed.
    assert!(Command::new("cp").arg(TORIL).arg(root.path()).status().unwrap().success());
    let root = root.path().to_str().unwrap();
    let version = Toril::of(Path::new("chroot"), &[root, "/toril", "--version"]).run().exits(0);
    assert_eq!(version.stdout, toril(&["--version"]).exits(0).stdout);
    assert_eq!(version.stderr, "");
    Toril::of(Path::new("chroot"), &[root, "/toril", "check", "--recipe", "nothing", "local"]).run().exits(2);
}
