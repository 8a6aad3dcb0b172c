//! The guest's command line: words such as `mode=NAME`, in any order. `docs/src/reference/suites.md` lists them.

use crate::contract::{CASES, MORE_CASES, Mode, Work};

/// What the command line asks for.
pub struct Options {
    /// The whole of it, which names the virtio devices.
    pub command_line: &'static str,
    /// What to do.
    pub mode: Mode,
    /// How many cases to run, where the mode runs them all.
    pub cases: usize,
    /// Whether the cases of `contract::MORE_CASES` belong to them.
    pub more: bool,
    /// Counted work, for [`work`] to read.
    pub work: &'static str,
    /// How many seconds to wait after the first case: a test that is slow but in order.
    pub seconds: u32,
    /// The console that the report goes to: any, or the port of a name.
    pub console: Option<Console>,
    /// Whether lines end with CR LF there.
    pub crlf: bool,
    /// The tag of the file system to mount.
    pub fs: Option<&'static str>,
    /// The file to read from it.
    pub read: Option<&'static str>,
    /// The file to leave in it.
    pub write: Option<&'static str>,
    /// The text to write or send.
    pub token: Option<&'static str>,
    /// The port of the host to connect to.
    pub vsock_connect: Option<u32>,
    /// How many bytes to send to it beyond that, to see how fast it goes.
    pub vsock_measure: usize,
    /// The port of the guest to answer on.
    pub vsock_listen: Option<u32>,
    /// How often to do each of these.
    pub rounds: usize,
}

/// A virtio console.
#[derive(Clone, Copy)]
pub enum Console {
    /// The first port of the first one.
    First,
    /// The port of that name.
    Named(&'static str),
}

impl Options {
    /// Reads a command line. Words it does not know are not for it: QEMU adds `virtio_mmio.device=`. A value it does
    /// not know is a panic, for whoever wrote it meant something else.
    pub fn parse(command_line: &'static str) -> Self {
        let mut options = Self {
            command_line,
            mode: Mode::Pass,
            cases: CASES.len(),
            more: false,
            work: "",
            seconds: 0,
            console: None,
            crlf: false,
            fs: None,
            read: None,
            write: None,
            token: None,
            vsock_connect: None,
            vsock_measure: 0,
            vsock_listen: None,
            rounds: 1,
        };
        for (name, value) in command_line.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            match name {
                "mode" => {
                    options.mode = Mode::from_name(value).unwrap_or_else(|| panic!("unknown mode '{value}'"))
                }
                "cases" if value == "all" => {
                    options.cases = CASES.len() + MORE_CASES.len();
                    options.more = true;
                }
                "work" => {
                    work(value).for_each(drop);
                    options.work = value;
                }
                "cases" => options.cases = number(name, value) as usize,
                "seconds" => options.seconds = number(name, value),
                "console" if value == "on" => options.console = Some(Console::First),
                "console" if value == "off" => options.console = None,
                "console" => options.console = Some(Console::Named(value)),
                "crlf" => options.crlf = switch(name, value),
                "fs" => options.fs = Some(value),
                "read" => options.read = Some(value),
                "write" => options.write = Some(value),
                "token" => options.token = Some(value),
                "vsock-connect" => options.vsock_connect = Some(number(name, value)),
                "vsock-measure" => options.vsock_measure = number(name, value) as usize,
                "vsock-listen" => options.vsock_listen = Some(number(name, value)),
                "rounds" => options.rounds = number(name, value) as usize,
                _ => {}
            }
        }
        options
    }
}

fn number(name: &str, value: &str) -> u32 {
    value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number"))
}

fn switch(name: &str, value: &str) -> bool {
    match value {
        "on" => true,
        "off" => false,
        _ => panic!("{name}={value} is neither on nor off"),
    }
}

/// The counted work of `KIND:COUNT,KIND:COUNT`. Panics at what is none.
pub fn work(value: &str) -> impl Iterator<Item = (Work, u64)> {
    value.split(',').filter(|word| !word.is_empty()).map(|word| {
        let (kind, count) = word.split_once(':').unwrap_or((word, ""));
        let kind = Work::from_name(kind).unwrap_or_else(|| panic!("unknown work '{kind}'"));
        (kind, count.parse().unwrap_or_else(|_| panic!("work={word} has no count")))
    })
}
