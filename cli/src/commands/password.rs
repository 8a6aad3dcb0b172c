//! Asking for a password, so that the terminal is as it was whatever ends that.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::thread;

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Asks on the terminal, which does not show what is typed. A signal ends the program, as it does elsewhere before anything
/// has begun, but gives the terminal back first.
pub(super) fn ask(question: &str) -> io::Result<String> {
    // Where there is none, the question fails.
    let terminal = File::open("/dev/tty").and_then(|terminal| {
        let before = tcgetattr(&terminal)?;
        Ok((terminal, before))
    });
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    let watcher = thread::Builder::new().name("terminal".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            if let Ok((terminal, before)) = &terminal {
                // There is nobody to be told.
                let _ = tcsetattr(terminal, OptionalActions::Now, before);
            }
            let _ = emulate_default_handler(signal);
        }
    })?;
    let answer = rpassword::prompt_password(question);
    // Ctrl-C has been typed: the signal for it is on its way to the watcher, which ends this program.
    if !answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
        handle.close();
    }
    let _ = watcher.join();
    answer
}
