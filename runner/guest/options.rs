//! The guest's command line: `mode=NAME cases=N seconds=N`, in any order.

use crate::contract::{CASES, Mode};

/// What the command line asks for.
pub struct Options {
    /// What to do.
    pub mode: Mode,
    /// How many cases to run, where the mode runs them all.
    pub cases: usize,
    /// How many seconds to wait after the first case: a test that is slow but in order.
    pub seconds: u32,
}

impl Options {
    /// Reads a command line. Words it does not know are not for it: QEMU adds `virtio_mmio.device=`. A value it does
    /// not know is a panic, for whoever wrote it meant something else.
    pub fn parse(command_line: &str) -> Self {
        let mut options = Self { mode: Mode::Pass, cases: CASES.len(), seconds: 0 };
        for (name, value) in command_line.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            match name {
                "mode" => {
                    options.mode = Mode::from_name(value).unwrap_or_else(|| panic!("unknown mode '{value}'"))
                }
                "cases" => options.cases = number(name, value) as usize,
                "seconds" => options.seconds = number(name, value),
                _ => {}
            }
        }
        options
    }
}

fn number(name: &str, value: &str) -> u32 {
    value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number"))
}
