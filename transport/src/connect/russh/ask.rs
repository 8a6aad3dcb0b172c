//! Questions on the terminal, in OpenSSH's words.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};

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

/// The passphrase of a key.
pub(super) async fn passphrase(key: String) -> io::Result<Zeroizing<String>> {
    ask(move || rpassword::prompt_password(format!("Enter passphrase for {key}: ")).map(Zeroizing::new)).await
}

/// A person takes long: other connections go on meanwhile, until they have a question themselves.
async fn ask<T: Send + 'static>(question: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let turn = turn().await;
    let asked = tokio::task::spawn_blocking(move || {
        let answer = question();
        // Not sooner where nobody waits for the answer any more: the question still stands on the terminal.
        drop(turn);
        answer
    });
    asked.await.map_err(io::Error::other)?
}
