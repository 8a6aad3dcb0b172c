//! The stage of a sandbox for this crate's own tests; users' sandboxes have the `toril` program for it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match toril_sandbox::stage(&args) {
        Ok(never) => match never {},
        Err(error) => {
            // The log of the sandbox is what this goes to.
            #[expect(clippy::print_stderr, reason = "a program's own error")]
            {
                eprintln!("{error}");
            }
            ExitCode::FAILURE
        }
    }
}
