//! The cases that need a device, each asked for by the command line.

use core::fmt;

use crate::contract::{
    FS_MOUNT, FS_READ, FS_WRITE, VSOCK_CONNECT, VSOCK_LINES, VSOCK_LISTEN, VSOCK_LISTENING,
};
use crate::options::Options;
use crate::virtio::fs::{self, Content, FileSystem};
use crate::virtio::vsock::{self, Conversation, Vsock};
use crate::{clock, report};

/// As much of a file's beginning is shown.
const SHOWN: usize = 200;

/// How often the least request is made, to see how long the shortest takes.
const FS_REQUESTS: usize = 8;

/// What is written where the command line gives no text.
const NOTHING_GIVEN: &str = "from toril-guest";

/// Runs what the command line asks for. Not inlined for the reason that cases are not: it uses SSE registers.
#[inline(never)]
pub fn run(options: &Options) {
    if let Some(tag) = options.fs {
        file_system(tag, options);
    }
    if options.vsock_connect.is_some() || options.vsock_listen.is_some() {
        sockets(options);
    }
}

fn file_system(tag: &str, options: &Options) {
    let mut mounted = match FileSystem::mount(options.command_line, tag) {
        Ok(mounted) => {
            report::case::<fs::Problem>(FS_MOUNT, 1, Ok(()));
            Ok(mounted)
        }
        Err(problem) => {
            report::case(FS_MOUNT, 1, Err(problem));
            Err("there is no file system")
        }
    };
    for round in 1..=options.rounds {
        if let Some(name) = options.read {
            match &mut mounted {
                Ok(mounted) => report::case(FS_READ, round, read(mounted, name)),
                Err(reason) => report::case(FS_READ, round, Err(reason)),
            }
        }
        if let Some(name) = options.write {
            match &mut mounted {
                Ok(mounted) => {
                    report::case(FS_WRITE, round, mounted.write(name, options.token.unwrap_or(NOTHING_GIVEN)))
                }
                Err(reason) => report::case(FS_WRITE, round, Err(reason)),
            }
        }
    }
}

fn read(mounted: &mut FileSystem, name: &str) -> Result<(), fs::Problem> {
    let mut beginning = [0; SHOWN];
    let mut shown = 0;
    let content = mounted.read(name, |piece| {
        let more = piece.len().min(SHOWN - shown);
        beginning[shown..shown + more].copy_from_slice(&piece[..more]);
        shown += more;
    })?;
    report::value("virtio-fs-read", OneLine(&beginning[..shown]));
    report::value("virtio-fs-crc32", format_args!("{:08x}", content.checksum));
    figures(&content);
    let least = clock::least_ticks(FS_REQUESTS, || mounted.attributes())?;
    if let Some(micros) = clock::microseconds(least) {
        report::metric("virtio-fs-latency", micros, "us");
    }
    Ok(())
}

fn figures(content: &Content) {
    report::metric("virtio-fs-bytes", content.length, "bytes");
    report::metric("virtio-fs-ticks", content.ticks, "ticks");
    if let Some(micros) = clock::microseconds(content.ticks) {
        report::metric("virtio-fs-time", micros, "us");
        report::metric("virtio-fs-rate", rate(content.length, micros), "KiB/s");
    }
}

fn sockets(options: &Options) {
    let mut device = Vsock::open(options.command_line);
    for round in 1..=options.rounds {
        if let Some(port) = options.vsock_connect {
            let text = options.token.unwrap_or(NOTHING_GIVEN);
            report::case(
                VSOCK_CONNECT,
                round,
                with(&mut device, |device| connect(device, port, text, options.vsock_measure)),
            );
        }
        if let Some(port) = options.vsock_listen {
            report::case(
                VSOCK_LISTEN,
                round,
                with(&mut device, |device| listen(device, port, options.token)),
            );
        }
    }
}

/// What comes of doing something with the device, or why there is none.
fn with(
    device: &mut Result<Vsock, vsock::Problem>,
    work: impl FnOnce(&mut Vsock) -> Result<(), vsock::Problem>,
) -> Result<(), vsock::Problem> {
    match device {
        Ok(device) => work(device),
        Err(problem) => Err(*problem),
    }
}

fn connect(device: &mut Vsock, port: u32, text: &str, measured: usize) -> Result<(), vsock::Problem> {
    let before = clock::ticks();
    let mut conversation = device.connect(port)?;
    let line = conversation.ask(text)?;
    let ticks = clock::ticks() - before;
    report::value(VSOCK_CONNECT, OneLine(line.bytes()));
    report::metric("vsock-ticks", ticks, "ticks");
    if let Some(micros) = clock::microseconds(ticks) {
        report::metric("vsock-time", micros, "us");
    }
    if measured > 0 {
        measure(&mut conversation, measured)?;
    }
    conversation.end();
    Ok(())
}

/// How long a line takes there and back at least, and how fast so many bytes are taken.
fn measure(conversation: &mut Conversation<'_>, bytes: usize) -> Result<(), vsock::Problem> {
    let least = clock::least_ticks(VSOCK_LINES, || conversation.ask("").map(drop))?;
    if let Some(micros) = clock::microseconds(least) {
        report::metric("vsock-latency", micros, "us");
    }
    let before = clock::ticks();
    conversation.load(bytes)?;
    if let Some(micros) = clock::microseconds(clock::ticks() - before) {
        report::metric("vsock-rate", rate(bytes as u64, micros), "KiB/s");
    }
    Ok(())
}

/// In KiB a second.
fn rate(bytes: u64, micros: u64) -> u64 {
    bytes * 1_000_000 / micros.max(1) >> 10
}

fn listen(device: &mut Vsock, port: u32, prefix: Option<&str>) -> Result<(), vsock::Problem> {
    report::value(VSOCK_LISTENING, format_args!("{}:{port}", device.cid()));
    let line = device.answer(port, prefix)?;
    report::value(VSOCK_LISTEN, OneLine(line.bytes()));
    Ok(())
}

/// The first line of some bytes, what cannot be printed as dots.
struct OneLine<'b>(&'b [u8]);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.split(|byte| *byte == b'\n').next().unwrap_or_default() {
            fmt::Write::write_char(to, if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' })?;
        }
        Ok(())
    }
}
