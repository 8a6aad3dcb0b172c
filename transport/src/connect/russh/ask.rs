//! Questions on the terminal, in OpenSSH's words.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::super::error::OfferedKey;
use super::super::terminal::turn;

/// Whether a new host's key is to be accepted. The fingerprint itself is an answer too.
pub(super) async fn accept(name: String, key: OfferedKey) -> io::Result<bool> {
    ask(move || {
        let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let mut answers = BufReader::new(terminal.try_clone()?);
        let mut question = format!(
            "The authenticity of host '{name}' can't be established.\n{key}.\n\
             Are you sure you want to continue connecting (yes/no/[fingerprint])? "
        );
        loop {
            terminal.write_all(question.as_bytes())?;
            let mut answer = String::new();
            if answers.read_line(&mut answer)? == 0 {
                return Ok(false);
            }
            match answer.trim() {
                "yes" => return Ok(true),
                "no" => return Ok(false),
                answer if answer == key.fingerprint => return Ok(true),
                _ => question = "Please type 'yes', 'no' or the fingerprint: ".into(),
            }
        }
    })
    .await
}

/// Says something to whoever was asked.
pub(super) async fn tell(text: String) {
    let told = ask(move || {
        OpenOptions::new().write(true).open("/dev/tty")?.write_all(format!("{text}\n").as_bytes())
    });
    // A terminal that is gone is told nothing.
    let _ = told.await;
}

/// The passphrase of a key.
pub(super) async fn passphrase(key: String) -> io::Result<Zeroizing<String>> {
    ask(move || rpassword::prompt_password(format!("Enter passphrase for {key}: ")).map(Zeroizing::new)).await
}

/// A person takes long: other connections go on meanwhile, until they have a question themselves.
async fn ask<T: Send + 'static>(question: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let turn = turn().await;
    let _before = Before::the_question();
    let asked = tokio::task::spawn_blocking(move || {
        let answer = question();
        // Not sooner where nobody waits for the answer any more: the question still stands on the terminal.
        drop(turn);
        answer
    });
    asked.await.map_err(io::Error::other)?
}

/// The terminal as it was before a question. It is made so again where nobody waits for the answer any more: then the program
/// ends, while the thread that asks still hides what is typed.
struct Before(Option<(File, Termios)>);

impl Before {
    fn the_question() -> Before {
        let terminal = File::open("/dev/tty").and_then(|terminal| {
            let modes = tcgetattr(&terminal)?;
            Ok((terminal, modes))
        });
        // Where there is none, the question fails.
        Before(terminal.ok())
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        if let Some((terminal, before)) = &self.0
            && tcgetattr(terminal).is_ok_and(|now| now.local_modes != before.local_modes)
        {
            // There is nobody to be told.
            let _ = tcsetattr(terminal, OptionalActions::Now, before);
        }
    }
}
