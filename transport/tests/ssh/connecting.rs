//! Connecting to a real sshd: failures by both transports; the master process and questions of the real ssh.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Server, Setup, by_both, echo_image, host, options, transport, unable, wait, wait_on};
use toril_inventory::{Ssh, Transport};
use toril_transport::{ConnectError, Options, Sudo, connect, disconnect};

by_both!(
    each_failure_has_its_message,
    an_sshd_that_turns_some_away_is_asked_again,
    questions_about_several_hosts_come_one_by_one,
    a_host_is_reached_by_the_configuration_that_names_it,
);

async fn failure(ssh: &Ssh) -> ConnectError {
    let begun = Instant::now();
    let error = connect(&host(ssh.clone()), &options()).await.expect_err("it connected");
    println!("{error}\n  try: {}", error.remedy());
    assert!(begun.elapsed() < Duration::from_secs(10));
    error
}

/// What ssh-keygen says about the server's key.
pub fn fingerprint(server: &Server) -> String {
    let key = server.directory.path().join("host.pub");
    let output = Command::new("ssh-keygen").arg("-lf").arg(key).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
}

async fn each_failure_has_its_message() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let at = server.directory.path();
    let good = &server.ssh;

    let empty = at.join("empty");
    fs::write(&empty, "").unwrap();
    match failure(&Ssh { known_hosts: Some(empty), ..good.clone() }).await {
        ConnectError::UnknownHostKey { key: Some(key), command } => {
            assert_eq!((key.kind.as_str(), key.fingerprint), ("ssh-ed25519", fingerprint(&server)));
            match transport() {
                Transport::Openssh => {
                    assert!(command.contains("-p ") && command.contains("root@127.0.7.1"), "{command}");
                }
                Transport::Russh => assert_eq!(command, format!("--host-key {}", fingerprint(&server))),
            }
        }
        other => panic!("{other:?}"),
    }

    let changed = at.join("known hosts 100%");
    let other_key = fs::read_to_string(at.join("other.pub")).unwrap();
    fs::write(&changed, format!("# a comment\n[127.0.7.1]:{} {other_key}", good.port.unwrap())).unwrap();
    match failure(&Ssh { known_hosts: Some(changed.clone()), ..good.clone() }).await {
        ConnectError::HostKeyChanged { key: Some(key), known, .. } => {
            assert_eq!(key.fingerprint, fingerprint(&server));
            assert_eq!(known.unwrap(), format!("{}, line 2", changed.display()));
        }
        other => panic!("{other:?}"),
    }

    let error = failure(&Ssh { identity: Some(at.join("other")), ..good.clone() }).await;
    assert!(
        matches!(&error, ConnectError::PermissionDenied { offered, .. } if offered.len() == 1),
        "{error:?}"
    );
    let error = failure(&Ssh { identity: Some(at.join("nothing")), ..good.clone() }).await;
    assert!(matches!(&error, ConnectError::Identity { .. }), "{error:?}");
    let error = failure(&Ssh { port: Some(1), ..good.clone() }).await;
    assert!(matches!(&error, ConnectError::Refused { .. }), "{error:?}");
    let error = failure(&Ssh { host: "no-such-host.invalid".into(), ..good.clone() }).await;
    assert!(matches!(&error, ConnectError::NameNotResolved { .. }), "{error:?}");
    let error = failure(&Ssh { host: "-oProxyCommand=touch /tmp/x".into(), ..good.clone() }).await;
    assert!(!matches!(&error, ConnectError::TimedOut { .. }), "{error:?}");

    let closing = TcpListener::bind("127.0.7.1:0").unwrap();
    let port = closing.local_addr().unwrap().port();
    std::thread::spawn(move || closing.incoming().map(drop).for_each(drop));
    let error = failure(&Ssh { port: Some(port), ..good.clone() }).await;
    assert!(matches!(&error, ConnectError::Closed { tries: 3.., .. }), "{error:?}");

    let silent = TcpListener::bind("127.0.7.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let error = failure(&Ssh { port: Some(port), ..good.clone() }).await;
    assert!(matches!(&error, ConnectError::TimedOut { .. }), "{error:?}");
}

async fn an_sshd_that_turns_some_away_is_asked_again() {
    if unable().is_some() {
        return;
    }
    // One who has not logged in yet is one too many.
    let server = Server::start(&Setup { sshd: "MaxStartups 1\n", ..Setup::default() });
    let place = (server.ssh.host.as_str(), server.ssh.port.unwrap());
    let mut idle = TcpStream::connect(place).unwrap();
    let mut banner = [0; 4];
    idle.read_exact(&mut banner).unwrap();
    let leaving = async {
        wait_on("a connection is turned away", || server.log().contains("drop connection")).await;
        drop(idle);
    };
    let host = server.host();
    let (options, connected) = (options(), async |options| connect(&host, &options).await.unwrap());
    let (connection, ()) = tokio::join!(connected(options), leaving);
    assert!(connection.facts().closed_before > 0, "{:?}", connection.facts());
    connection.close().await;
}

/// The process id of the master behind a control socket.
fn master(socket: &Path) -> u32 {
    let output = Command::new("ssh").arg("-S").arg(socket).args(["-O", "check", "x"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    text.split_once("pid=").unwrap().1.split(')').next().unwrap().parse().unwrap()
}

fn gone(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test(flavor = "current_thread")]
async fn the_master_ends_with_the_connection() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let connection = connect(&server.host(), &options()).await.unwrap();
    let socket = connection.control_socket().unwrap().to_owned();
    let pid = master(&socket);
    connection.close().await;
    wait("a closed connection's master ends", || gone(pid));
    assert!(!socket.parent().unwrap().exists());

    let connection = connect(&server.host(), &options()).await.unwrap();
    let pid = master(connection.control_socket().unwrap());
    let channel = connection.start_agent(&echo_image(), &Sudo::default()).await.unwrap();
    drop(connection);
    assert!(!gone(pid), "the channel still needs it");
    channel.close().await.unwrap();
    wait("a dropped connection's master ends", || gone(pid));
}

pub const ROLE: &str = "TORIL_TEST_HOST";
pub const OPTION: &str = "TORIL_TEST_OPTION";
/// Leave the connection open, or `end` those that are.
const STANDING: &str = "TORIL_TEST_STANDING";

/// Not a test of its own: the client that the tests below start, as a process that can be killed.
#[tokio::test(flavor = "current_thread")]
#[ignore = "started by other tests"]
async fn client() {
    let Ok(ssh) = std::env::var(ROLE) else { return };
    let ssh_options = std::env::var(OPTION).into_iter().collect();
    let ssh: Ssh = serde_json::from_str(&ssh).unwrap();
    let standing = std::env::var(STANDING).ok();
    if standing.as_deref() == Some("end") {
        println!("ended={}", disconnect(Some(&ssh)).await.unwrap());
        return;
    }
    let standing = standing.map(|_| Duration::from_secs(60));
    let options = Options { interactive: true, transport: None, ssh_options, standing, ..options() };
    match connect(&host(ssh), &options).await {
        Ok(connection) => {
            let socket = connection.control_socket().map(|socket| socket.display().to_string());
            println!("by={} socket={}", connection.facts().transport, socket.unwrap_or_default());
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
        }
        Err(error) => println!("failed={error:?}"),
    }
}

/// Not a test of its own either: connects to several hosts at once.
#[tokio::test(flavor = "current_thread")]
#[ignore = "started by other tests"]
async fn clients() {
    let Ok(hosts) = std::env::var(ROLE) else { return };
    let hosts: Vec<Ssh> = serde_json::from_str(&hosts).unwrap();
    let options = Options { interactive: true, transport: None, ..options() };
    let connecting = hosts.into_iter().map(|ssh| {
        let options = options.clone();
        tokio::task::spawn_local(async move {
            let port = ssh.port.unwrap();
            let outcome = match connect(&host(ssh), &options).await {
                Ok(_) => "is reached",
                Err(ConnectError::UnknownHostKey { .. }) => "is unknown",
                Err(error) => panic!("{error:?}"),
            };
            println!("{port} {outcome}");
        })
    });
    let all = async {
        for connected in connecting.collect::<Vec<_>>() {
            connected.await.unwrap();
        }
    };
    tokio::task::LocalSet::new().run_until(all).await;
}

pub fn client_arguments() -> Vec<String> {
    arguments("client")
}

fn arguments(client: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap().display().to_string();
    [&program, "--exact", &format!("connecting::{client}"), "--ignored", "--nocapture"]
        .map(str::to_owned)
        .into()
}

/// What a client prints on a terminal where this is answered when it asks for a new key, which it shows; and whether it
/// asked.
pub fn asked_on_a_terminal(client: &mut Command, fingerprint: &str, answer: &str) -> (String, bool) {
    let mut terminal = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = terminal.stdin.take().unwrap();
    let mut output = terminal.stdout.take().unwrap();
    let (mut text, mut answered) = (String::new(), false);
    loop {
        let mut buffer = [0; 1000];
        let count = output.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            break;
        }
        text += &String::from_utf8_lossy(&buffer[..count]);
        if !answered && text.contains("(yes/no/[fingerprint])?") {
            assert!(text.contains(fingerprint), "{text}");
            writeln!(input, "{answer}").unwrap();
            answered = true;
        }
        if text.contains("by=") {
            let _ = writeln!(input);
        }
    }
    terminal.wait().unwrap();
    (text, answered)
}

#[tokio::test(flavor = "current_thread")]
async fn the_master_of_a_killed_client_ends() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let arguments = client_arguments();
    let mut client = Command::new(&arguments[0])
        .args(&arguments[1..])
        .env(ROLE, serde_json::to_string(&server.ssh).unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = client.stdout.take().unwrap();
    let mut text = String::new();
    while !text.contains("/master\n") {
        let mut buffer = [0; 200];
        let count = output.read(&mut buffer).unwrap();
        assert!(count > 0, "{text}");
        text += std::str::from_utf8(&buffer[..count]).unwrap();
    }
    let socket = Path::new(text.split_once("socket=").unwrap().1.trim()).to_owned();
    let pid = master(&socket);
    // Longer than a master without a client stays.
    std::thread::sleep(Duration::from_secs(13));
    assert!(!gone(pid), "an idle client keeps its connection");
    client.kill().unwrap();
    client.wait().unwrap();
    wait("the master ends by itself", || gone(pid));
    assert!(!socket.exists());
    // The next one clears up after it.
    connect(&server.host(), &options()).await.unwrap().close().await;
    assert!(!socket.parent().unwrap().exists());
}

/// A PATH with an ssh that reads `config` as the user's configuration: ssh itself takes the user's home from
/// the user database.
fn path_with_config(home: &Path, config: &str) -> String {
    fs::write(home.join("config"), config).unwrap();
    let real = which::which("ssh").unwrap();
    let text = format!("#!/bin/sh\nexec {} -F {}/config \"$@\"\n", real.display(), home.display());
    fs::write(home.join("ssh"), text).unwrap();
    fs::set_permissions(home.join("ssh"), PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:{}", home.display(), std::env::var("PATH").unwrap())
}

#[tokio::test(flavor = "current_thread")]
async fn an_alias_behind_a_jump_host_is_reached_with_the_users_configuration() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let at = server.directory.path();
    let home = at.join("jump");
    fs::create_dir(&home).unwrap();
    for (known_hosts, expected) in [("known_hosts", "socket="), ("id.pub", "UnknownHostKey")] {
        let config = format!(
            "Host *\n HostName 127.0.7.1\n Port {}\n User root\n IdentityFile {1}/id\n UserKnownHostsFile {1}/known_hosts\n\
             Host jump\n HostName 127.0.7.1\nHost inner\n ProxyJump jump\n",
            server.ssh.port.unwrap(),
            at.display()
        );
        // The first value counts, so that only the jump host has another file.
        let config = format!("Host jump\n UserKnownHostsFile {}/{known_hosts}\n{config}", at.display());
        let arguments = client_arguments();
        let ssh = Ssh { host: "inner".into(), ..Ssh::default() };
        let output = Command::new(&arguments[0])
            .args(&arguments[1..])
            .env(ROLE, serde_json::to_string(&ssh).unwrap())
            .env("PATH", path_with_config(&home, &config))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(expected), "{text}");
        let hops = server.log().matches("Accepted publickey").count();
        assert_eq!(hops, 2, "one login on the jump host, one on the host");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_standing_connection_is_left_alone_where_the_name_or_a_jump_host_has_come_to_lead_elsewhere() {
    if unable().is_some() {
        return;
    }
    let servers = [Server::start(&Setup::default()), Server::start(&Setup::default())];
    let at = servers[0].directory.path();
    let (home, runtime) = (at.join("moved"), at.join("runtime"));
    fs::create_dir(&home).unwrap();
    fs::create_dir(&runtime).unwrap();
    let both =
        servers.iter().map(|server| fs::read_to_string(server.directory.path().join("known_hosts")).unwrap());
    fs::write(at.join("both"), both.collect::<String>()).unwrap();
    let key = fs::read(servers[0].directory.path().join("id.pub")).unwrap();
    fs::write(servers[1].directory.path().join("id.pub"), key).unwrap();
    let call = |name: &str, port: u16, jump: u16, standing: &str| {
        let config = format!(
            "Host prod inner\n Port {port}\nHost inner\n ProxyJump gate\nHost gate\n Port {jump}\n\
             Host *\n HostName 127.0.7.1\n User root\n IdentityFile {0}/id\n UserKnownHostsFile {0}/both\n",
            at.display()
        );
        let arguments = client_arguments();
        let ssh = Ssh { host: name.into(), ..Ssh::default() };
        let output = Command::new(&arguments[0])
            .args(&arguments[1..])
            .env(ROLE, serde_json::to_string(&ssh).unwrap())
            .env(STANDING, standing)
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("PATH", path_with_config(&home, &config))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let [one, other] = [0, 1].map(|number: usize| servers[number].ssh.port.unwrap());
    let logins = || [0, 1].map(|number: usize| servers[number].log().matches("Accepted publickey").count());
    for (name, port, jump, expected) in [
        ("prod", one, one, [1, 0]),
        ("prod", one, one, [1, 0]),
        ("prod", other, one, [1, 1]),
        ("prod", other, other, [1, 1]),
        ("inner", one, one, [3, 1]),
        ("inner", one, one, [3, 1]),
        ("inner", one, other, [4, 2]),
    ] {
        let text = call(name, port, jump, "60s");
        assert!(text.contains("by=openssh"), "{text}");
        assert_eq!(logins(), expected, "{name} at {port} over {jump}");
    }
    assert!(
        call("prod", other, one, "end").contains("ended=2"),
        "those of earlier meanings are ended as well"
    );
    assert!(call("inner", other, one, "end").contains("ended=2"));
}

#[tokio::test(flavor = "current_thread")]
async fn an_unknown_key_is_asked_for_on_a_terminal() {
    if unable().is_some() {
        return;
    }
    if which::which("script").is_err() {
        println!("SKIPPED: a terminal is made with `script`, which is not here");
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
        let path = path_with_config(&home, &config);
        let mut terminal = Command::new("script");
        terminal
            .args(["-qec", &client_arguments().join(" "), "/dev/null"])
            .env(ROLE, serde_json::to_string(&ssh).unwrap())
            .env("PATH", path);
        let (text, answered) = asked_on_a_terminal(&mut terminal, &fingerprint(&server), answer);
        assert!(answered && text.contains(expected), "{answer}: {text}");
    }
    assert!(fs::read_to_string(known).unwrap().contains("127.0.7.1"));
}

async fn questions_about_several_hosts_come_one_by_one() {
    if unable().is_some() {
        return;
    }
    if which::which("script").is_err() {
        println!("SKIPPED: a terminal is made with `script`, which is not here");
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
    let mut terminal = Command::new("script")
        .args(["-qec", &arguments("clients").join(" "), "/dev/null"])
        .env(ROLE, serde_json::to_string(&hosts).unwrap())
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
            text += &piece.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{turn}: {text}"));
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

async fn a_host_is_reached_by_the_configuration_that_names_it() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let at = server.directory.path();
    let (file, more) = (at.join("lab_config"), at.join("more"));
    let included = format!(
        "Host labhost gate\n HostName 127.0.7.1\n Port {}\n User root\n IdentityFile {1}/id\n UserKnownHostsFile {1}/known_hosts\n",
        server.ssh.port.unwrap(),
        at.display()
    );
    fs::write(&more, included).unwrap();
    fs::write(&file, format!("Host labhost\n ProxyJump gate\nHost *\n Include {}\n", more.display()))
        .unwrap();
    let ssh = Ssh { host: "labhost".into(), config: Some(file), ..Ssh::default() };
    connect(&host(ssh), &options()).await.unwrap().close().await;
    assert_eq!(
        server.log().matches("Accepted publickey").count(),
        2,
        "the jump host is one of that file as well"
    );
}
