//! The terminal as a guest's console.

use std::io::{self, IsTerminal, Read, Write};
use std::thread;

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use tokio::sync::mpsc;
use toril_runner::Event;

use crate::agent::RunEvent;
use crate::client::{Told, Typed};

/// What leaves the console: Ctrl-].
const ESCAPE: u8 = 0x1d;

/// Standard input, which goes to a guest byte by byte as long as this lives.
pub(super) struct Keyboard {
    /// As the terminal was; nothing where it is none.
    before: Option<Termios>,
}

impl Keyboard {
    /// Begins to read. Where standard input is a terminal, every key is the guest's, Ctrl-C too, but Ctrl-].
    pub(super) fn open() -> io::Result<(Keyboard, mpsc::Receiver<Typed>)> {
        let terminal = io::stdin();
        let is_terminal = terminal.is_terminal();
        let keyboard = Keyboard { before: is_terminal.then(|| tcgetattr(&terminal)).transpose()? };
        if let Some(before) = &keyboard.before {
            let mut raw = before.clone();
            raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
            raw.input_modes -= InputModes::IXON | InputModes::ICRNL;
            raw.special_codes[SpecialCodeIndex::VMIN] = 1;
            raw.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        }
        let (sender, receiver) = mpsc::channel(64);
        // It ends with the program, at the latest: a read from a terminal cannot be called off.
        thread::Builder::new().name("keyboard".into()).spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = io::stdin().lock().read(&mut buffer) {
                for typed in typed(&buffer[..count], is_terminal) {
                    if sender.blocking_send(typed).is_err() {
                        return;
                    }
                }
            }
        })?;
        Ok((keyboard, receiver))
    }
}

impl Keyboard {
    pub(super) fn is_terminal(&self) -> bool {
        self.before.is_some()
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // There is nobody to be told.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// A terminal that a guest has for its console: what the guest prints goes there as it is.
#[derive(Default)]
pub(super) struct Console {
    /// As long as the guest has it.
    keyboard: Option<Keyboard>,
    unfinished: bool,
}

impl Console {
    pub(super) fn begin(&mut self, keyboard: Keyboard) {
        self.keyboard = Some(keyboard);
    }

    /// Takes what is the guest's; `false`: it is for the view.
    pub(super) fn takes(&mut self, told: &Told) -> bool {
        let Told::Run(RunEvent::Test { event }) = told else { return false };
        match event {
            _ if self.keyboard.is_none() => false,
            Event::Output { text, .. } => {
                self.unfinished = !text.ends_with('\n');
                self.write(text);
                true
            }
            // Nothing else may write to the terminal meanwhile.
            Event::TestStarted { .. } | Event::Case { .. } => true,
            Event::TestEnded(_) => {
                if self.unfinished {
                    self.write("\r\n");
                }
                self.keyboard = None;
                false
            }
            _ => false,
        }
    }

    fn write(&self, text: &str) {
        let mut out = io::stdout().lock();
        // A reader that went away does not end the run: its exit status still counts.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}

/// What was typed, up to the escape.
fn typed(bytes: &[u8], is_terminal: bool) -> Vec<Typed> {
    let escape = bytes.iter().position(|byte| is_terminal && *byte == ESCAPE);
    let before = &bytes[..escape.unwrap_or(bytes.len())];
    let mut typed = Vec::new();
    if !before.is_empty() {
        typed.push(Typed::Bytes(before.to_vec()));
    }
    typed.extend(escape.map(|_| Typed::Leave));
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_leaves_and_everything_before_it_is_typed() {
        assert_eq!(typed(b"ls\r", true), [Typed::Bytes(b"ls\r".to_vec())]);
        assert_eq!(typed(b"a\x1db", true), [Typed::Bytes(b"a".to_vec()), Typed::Leave]);
        assert_eq!(typed(b"\x03", true), [Typed::Bytes(b"\x03".to_vec())]);
        assert_eq!(typed(b"\x1d", false), [Typed::Bytes(b"\x1d".to_vec())], "no terminal, no escape");
    }
}
