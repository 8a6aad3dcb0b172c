//! Questions on a terminal that nobody answers.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Sandbox, TORIL};

/// What a terminal shows on which toril is called and, once it has asked this, `then` happens. The shell lives on, as that of a
/// person does, and is asked what it finds.
fn asked(home: &Path, call: &str, question: &str, then: impl FnOnce(&str, &mut ChildStdin)) -> String {
    let line = format!("sh -c 'echo pid $$; exec {TORIL} {call}'; echo status $?; stty -a");
    let mut terminal = Command::new("timeout")
        .args(["60", "script", "--quiet", "--flush", "--command", &line, "/dev/null"])
        .env("HOME", home)
        .env_remove("SSH_AUTH_SOCK")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keyboard, mut screen) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let (mut seen, mut piece) = (String::new(), [0; 4096]);
    while !seen.contains(question) {
        let count = screen.read(&mut piece).unwrap();
        assert!(count > 0, "it did not ask: {seen}");
        seen.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    // As people do: the terminal is made ready only after the question is there.
    sleep(Duration::from_secs(1));
    let pid = seen.split_once("pid ").unwrap().1.split_whitespace().next().unwrap().to_owned();
    then(&pid, &mut keyboard);
    screen.read_to_string(&mut seen).unwrap();
    terminal.wait().unwrap();
    seen
}

#[test]
fn toril_ends_while_a_question_is_unanswered_and_leaves_the_terminal_as_it_was() {
    let Some(sandbox) = Sandbox::fresh("unanswered") else { return };
    let home = tempfile::tempdir().unwrap();
    let call = format!("facts debian@{}:{} --transport russh", sandbox.address(), sandbox.port());
    let unknown = asked(home.path(), &call, "(yes/no/[fingerprint])?", |_, keyboard| {
        keyboard.write_all(b"\x03").unwrap();
    });
    assert!(unknown.contains("status 1"), "{unknown}");

    let key = home.path().join("key");
    fs::copy(sandbox.identity(), &key).unwrap();
    let lock = ["-q", "-p", "-P", "", "-N", "open sesame", "-f"];
    assert!(Command::new("ssh-keygen").args(lock).arg(&key).status().unwrap().success());
    fs::create_dir(home.path().join(".ssh")).unwrap();
    fs::copy(sandbox.known_hosts(), home.path().join(".ssh/known_hosts")).unwrap();
    let call = format!("{call} --ssh-option IdentityFile={}", key.display());
    let locked = asked(home.path(), &call, "Enter passphrase", |pid, _| {
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
    });
    assert!(locked.contains("status 1"), "{locked}");
    let words: Vec<&str> = locked.split_whitespace().collect();
    for on in ["isig", "icanon", "echo"] {
        assert!(words.contains(&on), "{on} is off: {locked}");
    }
}
