//! The guest's drivers against the devices of QEMU and real daemons.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use super::super::contract::{CASES, END, FS_MOUNT, FS_READ, FS_WRITE, HEADER, METRIC, PANIC, VALUE};
use super::{Daemon, Guest, Ran, STATUS_ENDED, STATUS_PANICKED, cases, names, passed, told};

fn chardev(id: &str, path: &Path) -> String {
    format!("file,id={id},path={}", path.display())
}

#[test]
fn the_report_goes_to_the_console() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let guest = Guest::new("console=on crlf=on")
        .with(["-device", "virtio-serial-device", "-chardev", &chardev("c", &report)])
        .with(["-device", "virtconsole,chardev=c"]);
    let Some(ran) = guest.boot() else { return };
    assert_eq!(ran.status, Some(STATUS_ENDED));
    assert!(ran.serial.starts_with(HEADER) && ran.serial.lines().count() == 1, "{}", ran.serial);
    let report = fs::read_to_string(report).unwrap();
    assert_eq!(cases(&report), passed(&CASES));
    assert!(report.starts_with(HEADER) && report.ends_with(&format!("{END}\r\n")), "{report}");
    assert!(report.split_inclusive('\n').all(|line| line.ends_with("\r\n")), "{report}");
}

#[test]
fn the_report_goes_to_the_port_of_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let [first, other, report] = ["first", "other", "report"].map(|name| folder.path().join(name));
    let guest = Guest::new("console=report mode=panic")
        .with(["-device", "virtio-serial-device", "-chardev", &chardev("c1", &first)])
        .with(["-device", "virtconsole,chardev=c1", "-device", "virtio-serial-device"])
        .with(["-chardev", &chardev("c2", &other), "-device", "virtconsole,chardev=c2,name=reports"])
        .with(["-chardev", &chardev("c3", &report), "-device", "virtconsole,chardev=c3,name=report"]);
    let Some(ran) = guest.boot() else { return };
    assert_eq!(ran.status, Some(STATUS_PANICKED));
    assert!(ran.serial.lines().last().unwrap().starts_with(PANIC), "{}", ran.serial);
    let report = fs::read_to_string(report).unwrap();
    assert_eq!(names(&report), CASES[..1]);
    assert!(report.ends_with(": PASSED\n"), "{report:?}");
    assert_eq!([first, other].map(|path| fs::read_to_string(path).unwrap()), ["", ""]);
}

#[test]
fn a_console_that_is_missing_is_named() {
    let legacy = ["-global", "virtio-mmio.force-legacy=true"];
    let device =
        ["-device", "virtio-serial-device", "-device", "virtconsole,chardev=n", "-chardev", "null,id=n"];
    for (guest, reason) in [
        (Guest::new("console=on"), "panic: console=on: the machine has no virtio console"),
        (
            Guest::new("console=x").with(device),
            "panic: console=x: the machine has no virtio console with a port of that name",
        ),
        (Guest::new("console=on").with(device).with(legacy), "panic: console=on: the device is a legacy one"),
    ] {
        let Some(ran) = guest.boot() else { return };
        assert_eq!(ran.status, Some(STATUS_PANICKED));
        assert!(ran.serial.contains(reason), "{reason}: {}", ran.serial);
    }
}

/// The socket is the daemon's standard input: it accepts once, so nobody may try whether it is there.
fn virtiofsd(shared: &Path, socket: &Path) -> Option<Daemon> {
    const C: &str = "/usr/lib/qemu/virtiofsd";
    const RUST: &str = "/usr/libexec/virtiofsd";
    let (program, share) = if Path::new(RUST).exists() {
        // Without its sandbox it needs no root.
        (RUST, vec!["--sandbox=none".to_owned(), format!("--shared-dir={}", shared.display())])
    } else if !Path::new(C).exists() {
        println!("skipped: there is no virtiofsd on this machine");
        return None;
    } else if rustix::process::geteuid().is_root() {
        (C, vec!["-o".to_owned(), format!("source={}", shared.display())])
    } else {
        println!("skipped: {C} needs root");
        return None;
    };
    let listener = UnixListener::bind(socket).unwrap();
    let mut command = Command::new(program);
    command
        .args(share)
        .arg("--fd=0")
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Some(Daemon(command.spawn().unwrap()))
}

/// Boots a guest that shares a directory by the tag `share`.
fn boot_sharing(shared: &Path, command_line: &str) -> Option<Ran> {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _daemon = virtiofsd(shared, &socket)?;
    Guest::new(command_line)
        .sharing_memory(&socket)
        .with(["-device", "vhost-user-fs-device,chardev=daemon,tag=share"])
        .boot()
}

/// What gzip and zlib make, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |value, byte| {
        (0..8).fold(value ^ u32::from(*byte), |value, _| {
            (value >> 1) ^ (0xedb8_8320 & (value & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_file_is_read_and_another_left() {
    let shared = tempfile::tempdir().unwrap();
    let token = format!("token-{:?}", std::time::SystemTime::now()).replace(' ', "");
    fs::write(shared.path().join("given"), format!("{token}\nsecond line")).unwrap();
    fs::create_dir(shared.path().join("deeper")).unwrap();
    fs::write(shared.path().join("deeper/left"), "what was there before, which is longer".repeat(10))
        .unwrap();
    let line = "cases=0 fs=share read=given write=deeper/left token=from-the-guest";
    let Some(ran) = boot_sharing(shared.path(), line) else { return };
    assert_eq!(cases(&ran.serial), passed(&[FS_MOUNT, FS_READ, FS_WRITE]));
    assert_eq!(told(&ran.serial, VALUE, FS_READ), Some(token));
    assert_eq!(fs::read_to_string(shared.path().join("deeper/left")).unwrap(), "from-the-guest");
    assert_eq!(ran.status, Some(STATUS_ENDED));

    let Some(ran) = boot_sharing(shared.path(), "cases=0 fs=share write=new token=new rounds=2") else {
        return;
    };
    assert_eq!(cases(&ran.serial), passed(&[FS_MOUNT, FS_WRITE, "virtio-fs-write-2"]));
    assert_eq!(fs::read_to_string(shared.path().join("new")).unwrap(), "new");
}

#[test]
fn a_large_file_arrives_whole_and_its_reading_is_measured() {
    let shared = tempfile::tempdir().unwrap();
    // Whole pieces of 128 KiB, and more and fewer than that.
    for length in [0, 1, 4 << 20, (4 << 20) + 1, (1 << 20) - 1] {
        let content: Vec<u8> =
            (0..length).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        fs::write(shared.path().join("large"), &content).unwrap();
        let Some(ran) = boot_sharing(shared.path(), "cases=0 fs=share read=large rounds=2") else { return };
        assert_eq!(cases(&ran.serial), passed(&[FS_MOUNT, FS_READ, "virtio-fs-read-2"]), "{}", ran.serial);
        assert_eq!(told(&ran.serial, VALUE, "virtio-fs-crc32"), Some(format!("{:08x}", crc32(&content))));
        assert_eq!(told(&ran.serial, METRIC, "virtio-fs-bytes"), Some(format!("{length} bytes")));
        for (name, unit) in [
            ("virtio-fs-ticks", " ticks"),
            ("virtio-fs-time", " us"),
            ("virtio-fs-rate", " KiB/s"),
            ("virtio-fs-latency", " us"),
        ] {
            let told = told(&ran.serial, METRIC, name).unwrap();
            let number: u64 = told.strip_suffix(unit).unwrap().parse().unwrap();
            assert!(number > 0 || length < 1 << 10, "{name}: {told}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_share_is_said() {
    let shared = tempfile::tempdir().unwrap();
    for (line, reasons) in [
        (
            "fs=other read=x",
            ["no virtio-fs device has this tag; one has 'share'", "there is no file system"].as_slice(),
        ),
        ("fs=share read=x", &["", "lookup: error 2, no such file"]),
        ("fs=share write=no/x", &["", "lookup: error 2, no such file"]),
    ] {
        let Some(ran) = boot_sharing(shared.path(), &format!("cases=0 {line}")) else { return };
        let said: Vec<String> =
            cases(&ran.serial).into_iter().map(|(_, why)| why.unwrap_or_default()).collect();
        assert_eq!(said, reasons, "{line}: {}", ran.serial);
        assert_eq!(ran.status, Some(STATUS_ENDED));
    }
    let Some(ran) = super::boot("cases=0 fs=share") else { return };
    assert_eq!(cases(&ran.serial)[0].1.as_deref(), Some("the machine has no virtio-fs device"));
}
