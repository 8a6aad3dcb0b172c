//! The image is what QEMU takes, and it does what the contract says.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use regex_lite::Regex;

use super::contract::{CASES, END, EXCEPTION, HEADER, Mode, PANIC, Work};
use super::{CASE_PATTERN, IMAGE, STATUS_ENDED, STATUS_PANICKED, STATUS_TRIPLE_FAULT};

mod cases;
mod devices;
mod vsock;

fn u16_at(offset: usize) -> usize {
    u16::from_le_bytes(IMAGE[offset..offset + 2].try_into().unwrap()).into()
}

fn u32_at(offset: usize) -> u32 {
    u32::from_le_bytes(IMAGE[offset..offset + 4].try_into().unwrap())
}

fn u64_at(offset: usize) -> u64 {
    u64::from_le_bytes(IMAGE[offset..offset + 8].try_into().unwrap())
}

/// A program header's type, place in the file, address and size in the file.
fn program_headers() -> Vec<(u32, usize, u64, usize)> {
    let (first, size, count) = (u64_at(32) as usize, u16_at(54), u16_at(56));
    (0..count)
        .map(|index| first + index * size)
        .map(|at| (u32_at(at), u64_at(at + 8) as usize, u64_at(at + 24), u64_at(at + 32) as usize))
        .collect()
}

#[test]
fn the_image_is_a_small_static_x86_64_executable() {
    assert_eq!(IMAGE[..6], *b"\x7fELF\x02\x01", "64 bits, little-endian");
    assert_eq!(u16_at(16), 2, "an executable at fixed addresses");
    assert_eq!(u16_at(18), 62, "x86-64");
    assert!(IMAGE.len() <= 64 << 10, "{} bytes", IMAGE.len());
    let dynamic_or_interpreter = program_headers().iter().any(|header| matches!(header.0, 2 | 3));
    assert!(!dynamic_or_interpreter);
}

#[test]
fn the_pvh_note_names_the_entry() {
    let headers = program_headers();
    let (.., note, _, size) = headers.iter().find(|header| header.0 == 4).copied().unwrap();
    assert_eq!(size, 24, "one note");
    // A name of 4 bytes, a value of 8, XEN_ELFNOTE_PHYS32_ENTRY.
    assert_eq!([u32_at(note), u32_at(note + 4), u32_at(note + 8)], [4, 8, 18]);
    assert_eq!(IMAGE[note + 12..note + 16], *b"Xen\0");
    let entry = u64_at(note + 16);
    let loaded = headers.iter().any(|&(kind, _, address, size)| {
        kind == 1 && (address..address + size as u64).contains(&entry) && address >= 1 << 20
    });
    assert!(loaded, "{entry:#x} is in no segment");
    assert_eq!(entry, u64_at(24), "the ELF header names the same entry");
}

#[test]
fn names_are_read_back() {
    for mode in Mode::ALL {
        assert_eq!(Mode::from_name(mode.name()), Some(mode));
    }
    assert_eq!(Mode::from_name("passed"), None);
    for work in Work::ALL {
        assert_eq!(Work::from_name(work.name()), Some(work));
    }
}

struct Ran {
    /// QEMU's exit status; none if it had to be killed.
    status: Option<i32>,
    serial: String,
}

/// A guest to be booted under TCG, as every machine with QEMU can.
struct Guest<'g> {
    command_line: &'g str,
    cpu: &'g str,
    /// More arguments for QEMU.
    devices: Vec<String>,
    /// As many bytes of what it prints are taken; it is killed when it has printed them, or after the deadline.
    limit: usize,
    deadline: Duration,
}

impl<'g> Guest<'g> {
    fn new(command_line: &'g str) -> Self {
        Self { command_line, cpu: "max", devices: Vec::new(), limit: ALL, deadline: SOON }
    }

    fn with<const COUNT: usize>(mut self, arguments: [&str; COUNT]) -> Self {
        self.devices.extend(arguments.map(str::to_owned));
        self
    }

    /// Memory that another process can be given, and what that process listens on.
    fn sharing_memory(self, socket: &Path) -> Self {
        self.with(["-object", "memory-backend-memfd,id=mem,size=64M,share=on", "-numa", "node,memdev=mem"])
            .with(["-chardev", &format!("socket,id=daemon,path={}", socket.display())])
    }

    /// None, after saying so, where there is no QEMU.
    fn boot(self) -> Option<Ran> {
        let folder = tempfile::tempdir().unwrap();
        let kernel = folder.path().join("guest.elf");
        fs::write(&kernel, IMAGE).unwrap();
        let spawned = Command::new("qemu-system-x86_64")
            .args(["-M", "microvm,acpi=off,x-option-roms=off,pit=on,pic=on,isa-serial=on,rtc=off"])
            .args([
                "-accel",
                "tcg",
                "-cpu",
                self.cpu,
                "-m",
                "64",
                "-nodefaults",
                "-no-user-config",
                "-no-reboot",
            ])
            .args(["-display", "none", "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
            .args(["-global", "virtio-mmio.force-legacy=false", "-append", self.command_line])
            .args(&self.devices)
            .arg("-kernel")
            .arg(&kernel)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let mut qemu = match spawned {
            Ok(qemu) => qemu,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("skipped: qemu-system-x86_64 is not on PATH");
                assert!(std::env::var_os("TORIL_TESTS_MUST_RUN").is_none(), "this test must run");
                return None;
            }
            Err(error) => panic!("cannot start qemu-system-x86_64: {error}"),
        };
        let output = qemu.stdout.take().unwrap().take(self.limit as u64);
        // What it prints no more because it ends is its own to tell of.
        let full = Arc::new(AtomicBool::new(false));
        let (told, limit) = (Arc::clone(&full), self.limit);
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            { output }.read_to_end(&mut bytes).unwrap();
            told.store(bytes.len() == limit, Ordering::Relaxed);
            bytes
        });
        let start = Instant::now();
        let status = loop {
            if let Some(status) = qemu.try_wait().unwrap() {
                break status.code();
            }
            if start.elapsed() > self.deadline || full.load(Ordering::Relaxed) {
                qemu.kill().unwrap();
                qemu.wait().unwrap();
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        Some(Ran { status, serial: String::from_utf8(reader.join().unwrap()).unwrap() })
    }
}

/// Another process, which ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _gone_already = self.0.wait();
    }
}

fn boot(command_line: &str) -> Option<Ran> {
    Guest::new(command_line).boot()
}

/// Room for whatever a guest prints that comes to an end.
const ALL: usize = 1 << 20;
/// An end takes 50 ms on a quiet machine.
const SOON: Duration = Duration::from_secs(60);

/// Each case's name, and its reason if it failed.
fn cases(serial: &str) -> Vec<(String, Option<String>)> {
    let pattern = Regex::new(CASE_PATTERN).unwrap();
    let text = |found: regex_lite::Match<'_>| found.as_str().to_owned();
    serial
        .lines()
        .filter_map(|line| pattern.captures(line))
        .map(|found| {
            let failed = found["result"] == *"FAILED";
            (found["name"].to_owned(), found.name("reason").map(text).filter(|_| failed))
        })
        .collect()
}

/// What follows `value NAME: ` or `metric NAME: `, the last time.
fn told(serial: &str, kind: &str, name: &str) -> Option<String> {
    let told = |line: &str| Some(line.strip_prefix(kind)?.strip_prefix(name)?.strip_prefix(": ")?.to_owned());
    serial.lines().rev().find_map(told)
}

fn passed(names: &[&str]) -> Vec<(String, Option<String>)> {
    names.iter().map(|name| ((*name).to_owned(), None)).collect()
}

fn names(serial: &str) -> Vec<String> {
    cases(serial).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn pass_runs_every_case() {
    let Some(ran) = boot("mode=pass") else { return };
    assert_eq!(ran.serial.lines().next(), Some(format!("{HEADER}{}", env!("CARGO_PKG_VERSION")).as_str()));
    assert_eq!(cases(&ran.serial), CASES.map(|name| (name.to_owned(), None)));
    assert_eq!(ran.serial.lines().last(), Some(END));
    assert_eq!(ran.status, Some(STATUS_ENDED));
}

#[test]
fn fail_reports_one_failed_case() {
    let Some(ran) = boot("mode=fail cases=7 unknown words=0") else { return };
    let cases = cases(&ran.serial);
    assert_eq!(cases.len(), 7);
    assert_eq!(cases[6], ("sse-2".to_owned(), Some("mode=fail asked for it".to_owned())));
    assert!(cases[..6].iter().all(|(_, reason)| reason.is_none()), "{cases:?}");
    assert_eq!(ran.serial.lines().last(), Some(END));
    assert_eq!(ran.status, Some(STATUS_ENDED));
}

#[test]
fn the_other_ends_are_told_apart() {
    for (command_line, status, last_line) in [
        ("mode=panic", STATUS_PANICKED, PANIC),
        ("mode=triple-fault", STATUS_TRIPLE_FAULT, "case long-mode: PASSED"),
        ("mode=incomplete", STATUS_ENDED, "case long-mode: PASSED"),
        ("mode=silent", STATUS_ENDED, ""),
        ("mode=pass cases=0", STATUS_ENDED, END),
        ("mode=unheard-of", STATUS_PANICKED, PANIC),
        ("cases=some", STATUS_PANICKED, PANIC),
        ("work=integer:1,sleep:1", STATUS_PANICKED, PANIC),
        ("work=integer", STATUS_PANICKED, PANIC),
    ] {
        let Some(ran) = boot(command_line) else { return };
        assert_eq!(ran.status, Some(status), "{command_line}: {}", ran.serial);
        let last = ran.serial.lines().last().unwrap_or_default();
        assert!(
            last.starts_with(last_line) && last.is_empty() == last_line.is_empty(),
            "{command_line}: {last}"
        );
    }
}

#[test]
fn the_endless_modes_do_not_end() {
    // The next where a slow machine does not come far enough within one.
    for (seconds, is_last) in [(2, false), (20, true)] {
        let hang = Guest { deadline: Duration::from_secs(seconds), ..Guest::new("mode=hang") };
        let Some(hung) = hang.boot() else { return };
        assert_eq!(hung.status, None);
        if is_last || names(&hung.serial) == CASES[..1] {
            assert_eq!(names(&hung.serial), CASES[..1]);
            break;
        }
    }
    for (command_line, what) in [("mode=flood", "flood: "), ("mode=exception", EXCEPTION)] {
        let endless = Guest { limit: 100_000, ..Guest::new(command_line) };
        let Some(ran) = endless.boot() else { return };
        assert_eq!(ran.serial.len(), 100_000, "{command_line}");
        assert!(ran.serial.lines().skip(2).all(|line| what.starts_with(line) || line.starts_with(what)));
    }
}

/// A KVM that cannot run SSE must look like that, and not like one that starts no guest at all.
#[test]
fn no_sse_is_used_before_its_case() {
    let without = Guest { cpu: "max,-sse,-sse2", ..Guest::new("mode=pass") };
    let Some(ran) = without.boot() else { return };
    assert_eq!(names(&ran.serial), CASES[..1], "{}", ran.serial);
    assert!(ran.serial.contains("panic: exception 6 (invalid opcode)"), "{}", ran.serial);
    assert_eq!(ran.status, Some(STATUS_PANICKED));
}
