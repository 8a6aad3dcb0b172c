//! Clients as processes of their own: the example `connect`, which can be killed, and asks on a terminal.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::support::{Server, example, unable};
use toril_inventory::Ssh;

const HOSTS: &str = "TORIL_TEST_HOSTS";
/// An option for ssh.
pub const OPTION: &str = "TORIL_TEST_OPTION";
/// Whether the connection stays.
pub const STANDING: &str = "TORIL_TEST_STANDING";

pub fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| example("connect"))
}

/// Whether no client can be asked on a terminal here, which is said.
pub fn no_terminal() -> bool {
    if unable().is_some() {
        return true;
    }
    let is_missing = which::which("script").is_err();
    if is_missing {
        println!("SKIPPED: a terminal is made with `script`, which is not here");
    }
    is_missing
}

/// A client that connects to a host.
pub fn client(ssh: &Ssh) -> Command {
    client_that("one", std::slice::from_ref(ssh))
}

/// One that does this with these hosts.
pub fn client_that(what: &str, hosts: &[Ssh]) -> Command {
    let mut command = Command::new(program());
    command.arg(what).env(HOSTS, serde_json::to_string(hosts).unwrap());
    command
}

/// A client that connects to a host, by this copy of the program and in an empty environment.
pub fn client_in_nothing(program: &Path, ssh: &Ssh) -> Command {
    let mut command = Command::new(program);
    command.arg("one").env_clear().env(HOSTS, serde_json::to_string(&[ssh]).unwrap());
    command
}

/// One that does this with these hosts, on a terminal.
pub fn on_a_terminal(what: &str, hosts: &[Ssh]) -> Command {
    let mut command = Command::new("script");
    let words = format!("{} {what}", program().display());
    command.args(["-qec", &words, "/dev/null"]).env(HOSTS, serde_json::to_string(hosts).unwrap());
    command
}

/// What ssh-keygen says about the server's key.
pub fn fingerprint(server: &Server) -> String {
    let key = server.directory.path().join("host.pub");
    let output = Command::new("ssh-keygen").arg("-lf").arg(key).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
}

/// What a client prints on a terminal where this is answered when it asks for a new key, which it shows; and whether it
/// asked.
pub fn asked_on_a_terminal(client: &mut Command, fingerprint: &str, answer: &str) -> (String, bool) {
    let (text, asked) = answered_on_a_terminal(client, "(yes/no/[fingerprint])?", answer);
    assert!(asked == 0 || text.contains(fingerprint), "{text}");
    (text, asked > 0)
}

/// What a client prints on a terminal where this is answered to a question, and how often it was.
pub fn answered_on_a_terminal(client: &mut Command, question: &str, answer: &str) -> (String, usize) {
    let mut terminal = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = terminal.stdin.take().unwrap();
    let mut output = terminal.stdout.take().unwrap();
    let (mut text, mut answered) = (String::new(), 0);
    loop {
        let mut buffer = [0; 1000];
        let count = output.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            break;
        }
        text += &String::from_utf8_lossy(&buffer[..count]);
        if text.matches(question).count() > answered {
            // As people do: the terminal hides what is typed only after the question is there.
            std::thread::sleep(std::time::Duration::from_millis(300));
            writeln!(input, "{answer}").unwrap();
            answered += 1;
        }
        if text.contains("by=") {
            let _ = writeln!(input);
        }
    }
    terminal.wait().unwrap();
    (text, answered)
}

/// A PATH with an ssh that reads `config` as the user's configuration: ssh itself takes the user's home from
/// the user database.
pub fn path_with_config(home: &Path, config: &str) -> String {
    fs::write(home.join("config"), config).unwrap();
    let real = which::which("ssh").unwrap();
    let text = format!("#!/bin/sh\nexec {} -F {}/config \"$@\"\n", real.display(), home.display());
    // By another process: a file that this one has open for writing is open as well in what another thread has just
    // forked, and until that is a program of its own, the file cannot be executed.
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(home.join("ssh"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
    format!("{}:{}", home.display(), std::env::var("PATH").unwrap())
}
