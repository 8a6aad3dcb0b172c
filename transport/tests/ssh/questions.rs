//! Questions on a terminal about keys that nobody knows yet.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::client::{
    answered_on_a_terminal, asked_on_a_terminal, fingerprint, no_terminal, on_a_terminal, path_with_config,
};
use crate::support::{Server, Setup, by_both, transport};
use toril_inventory::{Ssh, Transport};

by_both!(questions_about_several_hosts_come_one_by_one);

#[tokio::test(flavor = "current_thread")]
async fn an_unknown_key_is_asked_for_on_a_terminal() {
    if no_terminal() {
        return;
    }
    let server = Server::start(&Setup::default());
    // The user's own configuration decides where known keys are: here, a home of its own.
    let home = server.directory.path().join("terminal");
    fs::create_dir_all(&home).unwrap();
    let known = home.join("known_hosts");
    for (answer, expected) in [("no", "UnknownHostKey"), ("yes", "socket=")] {
        let config = format!("UserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\n", known.display());
        let ssh = Ssh { known_hosts: None, ..server.ssh.clone() };
        let mut terminal = on_a_terminal("one", &[ssh]);
        terminal.env("PATH", path_with_config(&home, &config));
        let (text, answered) = asked_on_a_terminal(&mut terminal, &fingerprint(&server), answer);
        assert!(answered && text.contains(expected), "{answer}: {text}");
    }
    assert!(fs::read_to_string(known).unwrap().contains("127.0.7.1"));
}

async fn questions_about_several_hosts_come_one_by_one() {
    if no_terminal() {
        return;
    }
    const QUESTION: &str = "(yes/no/[fingerprint])?";
    let servers = [0; 3].map(|_| Server::start(&Setup::default()));
    let home = servers[0].directory.path().join("several");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    let known = home.join(".ssh/known_hosts");
    let config = format!("UserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\n", known.display());
    let hosts: Vec<Ssh> = servers
        .iter()
        .map(|server| Ssh { known_hosts: None, transport: Some(transport()), ..server.ssh.clone() })
        .collect();
    let mut terminal = on_a_terminal("several", &hosts)
        .env("HOME", &home)
        .env("PATH", path_with_config(&home, &config))
        .env_remove("SSH_AUTH_SOCK")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = terminal.stdin.take().unwrap();
    let mut output = terminal.stdout.take().unwrap();
    let (pieces, piece) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 1000];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            let _ = pieces.send(String::from_utf8_lossy(&buffer[..count]).into_owned());
        }
    });
    let port = |server: &Server| server.ssh.port.unwrap().to_string();
    let (mut accepted, mut text) = (Vec::new(), String::new());
    for turn in 0..3 {
        let begun = text.len();
        while !text[begun..].contains(QUESTION) {
            text += &piece.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{turn}: {text}"));
        }
        // Time for another question that does not wait for its turn.
        std::thread::sleep(Duration::from_secs(1));
        text.extend(piece.try_iter());
        assert_eq!(text[begun..].matches(QUESTION).count(), 1, "{text}");
        let asked = servers.iter().find(|server| text[begun..].contains(&fingerprint(server))).unwrap();
        assert!(text[begun..].contains(&format!("[127.0.7.1]:{}", port(asked))), "{text}");
        if turn != 1 {
            accepted.push(port(asked));
        }
        writeln!(input, "{}", if turn == 1 { "no" } else { "yes" }).unwrap();
    }
    terminal.wait().unwrap();
    text.extend(piece.iter());
    let lines = fs::read_to_string(&known).unwrap();
    for server in &servers {
        let (port, host_key) =
            (port(server), fs::read_to_string(server.directory.path().join("host.pub")).unwrap());
        let is_accepted = accepted.contains(&port);
        assert!(
            text.contains(&format!("{port} is {}", if is_accepted { "reached" } else { "unknown" })),
            "{text}"
        );
        let key = host_key.split(' ').nth(1).unwrap();
        let line = lines.lines().find(|line| line.starts_with(&format!("[127.0.7.1]:{port} ")));
        assert_eq!(line.is_some_and(|line| line.contains(key)), is_accepted, "{lines}");
    }
}

#[test]
fn the_built_in_client_asks_for_a_new_key() {
    if no_terminal() {
        return;
    }
    let server = Server::start(&Setup::default());
    let home = server.directory.path().join("asked");
    fs::create_dir_all(&home).unwrap();
    let ssh = Ssh { known_hosts: None, transport: Some(Transport::Russh), ..server.ssh.clone() };
    let fingerprint = fingerprint(&server);
    for (answer, expected) in
        [("no", "UnknownHostKey"), (fingerprint.as_str(), "by=russh"), ("known now", "by=russh")]
    {
        let mut terminal = on_a_terminal("one", std::slice::from_ref(&ssh));
        terminal.env("HOME", &home).env_remove("SSH_AUTH_SOCK");
        let (text, answered) = asked_on_a_terminal(&mut terminal, &fingerprint, answer);
        assert!(text.contains(expected), "{answer}: {text}");
        assert_eq!(answered, answer != "known now", "{text}");
    }
}

#[test]
fn the_built_in_client_asks_nothing_where_the_configuration_is_strict() {
    if no_terminal() {
        return;
    }
    let server = Server::start(&Setup::default());
    let home = server.directory.path().join("strict");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    fs::write(home.join(".ssh/config"), "StrictHostKeyChecking yes\n").unwrap();
    let ssh = Ssh { known_hosts: None, transport: Some(Transport::Russh), ..server.ssh.clone() };
    let mut terminal = on_a_terminal("one", &[ssh]);
    terminal.env("HOME", &home).env_remove("SSH_AUTH_SOCK");
    let (text, answered) = asked_on_a_terminal(&mut terminal, &fingerprint(&server), "yes");
    assert!(!answered && text.contains("UnknownHostKey"), "{text}");
}

#[test]
fn a_key_that_was_accepted_and_cannot_be_kept_is_taken() {
    if no_terminal() {
        return;
    }
    let server = Server::start(&Setup::default());
    let home = server.directory.path().join("forgetful");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    let ssh = Ssh { known_hosts: None, transport: Some(Transport::Russh), ..server.ssh.clone() };
    // The last can be made by nobody.
    for (file, told) in [("/dev/null", false), ("none", false), ("/proc/nothing/known_hosts", true)] {
        fs::write(home.join(".ssh/config"), format!("UserKnownHostsFile {file}\n")).unwrap();
        let mut terminal = on_a_terminal("one", std::slice::from_ref(&ssh));
        terminal.env("HOME", &home).env_remove("SSH_AUTH_SOCK");
        let (text, answered) = asked_on_a_terminal(&mut terminal, &fingerprint(&server), "yes");
        assert!(answered && text.contains("by=russh"), "{file}: {text}");
        assert_eq!(text.contains("Failed to add the host"), told, "{file}: {text}");
    }
}

#[test]
fn a_passphrase_is_asked_for_where_a_host_wants_the_key_and_once_for_all_hosts() {
    if no_terminal() {
        return;
    }
    let servers = [0; 2].map(|_| Server::start(&Setup::default()));
    let at = servers[0].directory.path();
    let home = at.join("locked-home");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    for name in ["id", "other"] {
        fs::copy(at.join(name), at.join(format!("locked-{name}"))).unwrap();
        let lock = ["-q", "-p", "-P", "", "-N", "open sesame", "-f"];
        let locked = Command::new("ssh-keygen").args(lock).arg(at.join(format!("locked-{name}"))).output();
        assert!(locked.unwrap().status.success());
    }
    fs::copy(at.join("id.pub"), servers[1].directory.path().join("id.pub")).unwrap();
    let hosts = servers.each_ref().map(|server| Ssh {
        identity: None,
        transport: Some(Transport::Russh),
        ..server.ssh.clone()
    });
    // A key that no host wants, one that both do, and one that is not needed where another does.
    for (files, questions) in
        [(["locked-other", "id"], 0), (["locked-id", "id"], 0), (["locked-other", "locked-id"], 1)]
    {
        let lines = files.map(|file| format!("IdentityFile {}/{file}\n", at.display()));
        fs::write(home.join(".ssh/config"), lines.concat()).unwrap();
        let mut terminal = on_a_terminal("several", &hosts);
        terminal.env("HOME", &home).env_remove("SSH_AUTH_SOCK");
        let (text, asked) = answered_on_a_terminal(&mut terminal, "Enter passphrase for", "open sesame");
        assert_eq!((text.matches("is reached").count(), asked), (2, questions), "{files:?}: {text}");
    }
}
