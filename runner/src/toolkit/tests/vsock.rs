//! The guest's vsock driver, against vhost-device-vsock where that is on PATH. The host's side is then a Unix socket:
//! `SOCKET_PORT` for what the guest connects to, and `SOCKET` itself, where `connect PORT` leads to the guest.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::super::contract::{METRIC, VALUE, VSOCK_CONNECT, VSOCK_LINES, VSOCK_LISTEN, VSOCK_LISTENING};
use super::{Daemon, Guest, Ran, SOON, STATUS_ENDED, cases, passed, told};

const CID: &str = "4711";

/// The device's other half, and the folder that its sockets are in.
struct Vsock {
    _daemon: Daemon,
    folder: tempfile::TempDir,
}

impl Vsock {
    /// None, after saying so, where the program is not there.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let spawned = Command::new("vhost-device-vsock")
            .args(["--guest-cid", CID, "--socket"])
            .arg(folder.path().join("device"))
            .arg("--uds-path")
            .arg(folder.path().join("host"))
            .stdin(Stdio::null())
            .spawn();
        let daemon = match spawned {
            Ok(child) => Daemon(child),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("skipped: vhost-device-vsock is not on PATH");
                return None;
            }
            Err(error) => panic!("cannot start vhost-device-vsock: {error}"),
        };
        let vsock = Self { _daemon: daemon, folder };
        wait_until("the device's socket is there", || vsock.device().exists());
        Some(vsock)
    }

    fn device(&self) -> PathBuf {
        self.folder.path().join("device")
    }

    fn host(&self) -> PathBuf {
        self.folder.path().join("host")
    }

    fn boot(&self, command_line: &str) -> Option<Ran> {
        Guest::new(&format!("cases=0 {command_line}"))
            .sharing_memory(&self.device())
            .with(["-device", "vhost-user-vsock-device,chardev=daemon"])
            .boot()
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..SOON.as_millis() / 20 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("waited too long until {what}");
}

/// Connects to a port of the guest, which may not be up yet.
fn connect(host: &Path, port: u32) -> BufReader<UnixStream> {
    let mut connected = None;
    wait_until("the guest answers", || {
        let Ok(mut stream) = UnixStream::connect(host) else { return false };
        let mut greeting = String::new();
        let asked = writeln!(stream, "connect {port}");
        let mut stream = BufReader::new(stream);
        let answered = asked.and_then(|()| stream.read_line(&mut greeting));
        connected = Some(stream).filter(|_| answered.is_ok() && greeting.starts_with("OK"));
        connected.is_some()
    });
    connected.unwrap()
}

#[test]
fn the_guest_asks_the_host() {
    let Some(vsock) = Vsock::start() else { return };
    let listener = UnixListener::bind(vsock.folder.path().join("host_4000")).unwrap();
    let host = thread::spawn(move || {
        (0..2)
            .map(|_| {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                stream.get_mut().write_all(format!("host has {line}").as_bytes()).unwrap();
                line
            })
            .collect::<Vec<_>>()
    });
    let Some(ran) = vsock.boot("vsock-connect=4000 token=random-1f3a rounds=2") else { return };
    assert_eq!(cases(&ran.serial), passed(&[VSOCK_CONNECT, "vsock-connect-2"]), "{}", ran.serial);
    assert_eq!(told(&ran.serial, VALUE, VSOCK_CONNECT).as_deref(), Some("host has random-1f3a"));
    assert!(told(&ran.serial, METRIC, "vsock-time").unwrap().ends_with(" us"));
    assert_eq!(host.join().unwrap(), ["random-1f3a\n"; 2]);
    assert_eq!(ran.status, Some(STATUS_ENDED));
}

#[test]
fn how_fast_it_is_is_measured() {
    const BYTES: usize = (256 << 10) + 7;
    let Some(vsock) = Vsock::start() else { return };
    let listener = UnixListener::bind(vsock.folder.path().join("host_4002")).unwrap();
    let host = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        for _ in 0..=VSOCK_LINES {
            stream.read_line(&mut String::new()).unwrap();
            stream.get_mut().write_all(b"line\n").unwrap();
        }
        let mut bytes = vec![0; BYTES];
        stream.read_exact(&mut bytes).unwrap();
        stream.get_mut().write_all(b"all\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap()
    });
    let Some(ran) = vsock.boot(&format!("vsock-connect=4002 vsock-measure={BYTES}")) else { return };
    assert_eq!(cases(&ran.serial), passed(&[VSOCK_CONNECT]), "{}", ran.serial);
    assert_eq!(host.join().unwrap(), 0, "no more is sent than was said");
    assert!(told(&ran.serial, METRIC, "vsock-latency").unwrap().ends_with(" us"));
    assert!(told(&ran.serial, METRIC, "vsock-rate").unwrap().ends_with(" KiB/s"));
}

#[test]
fn the_guest_answers_the_host() {
    let Some(vsock) = Vsock::start() else { return };
    let path = vsock.host();
    let host = thread::spawn(move || {
        // Somebody who only looks whether the guest is there does not count.
        drop(connect(&path, 5000));
        let mut stream = connect(&path, 5000);
        // Longer than a packet's room together with what comes later.
        stream.get_mut().write_all("long ".repeat(700).as_bytes()).unwrap();
        stream.get_mut().write_all(b"line\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let Some(ran) = vsock.boot("vsock-listen=5000 token=guest") else { return };
    assert_eq!(cases(&ran.serial), passed(&[VSOCK_LISTEN]), "{}", ran.serial);
    assert_eq!(told(&ran.serial, VALUE, VSOCK_LISTENING), Some(format!("{CID}:5000")));
    assert_eq!(host.join().unwrap(), format!("guest {}line\n", "long ".repeat(700)));
    assert_eq!(ran.status, Some(STATUS_ENDED));
}

#[test]
fn what_is_wrong_with_vsock_is_said() {
    let Some(ran) = super::boot("cases=0 vsock-connect=1 vsock-listen=2") else { return };
    let missing = Some("the machine has no virtio-vsock device".to_owned());
    assert_eq!(
        cases(&ran.serial),
        [VSOCK_CONNECT, VSOCK_LISTEN].map(|name| (name.to_owned(), missing.clone()))
    );

    let Some(vsock) = Vsock::start() else { return };
    let Some(ran) = vsock.boot("vsock-connect=4001") else { return };
    let reason = cases(&ran.serial)[0].1.clone().unwrap();
    assert!(reason.starts_with("the host "), "{reason}");
}
