//! Connecting to a real sshd: failures by both transports, and the master process of the real ssh.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::client::{STANDING, client, client_that, fingerprint, path_with_config};
use crate::support::{Server, Setup, by_both, echo_image, host, options, transport, unable, wait, wait_on};
use toril_inventory::{Ssh, Transport};
use toril_transport::{ConnectError, Incoming, Options, StartError, Sudo, connect, disconnect};

by_both!(
    each_failure_has_its_message,
    an_sshd_that_turns_some_away_is_asked_again,
    a_host_is_reached_by_the_configuration_that_names_it,
    file_names_with_tokens_mean_the_same_files_to_both,
    a_key_that_all_users_know_is_known,
);

async fn failure(ssh: &Ssh) -> ConnectError {
    failure_within(options().connect_timeout, ssh).await
}

async fn failure_within(connect_timeout: Duration, ssh: &Ssh) -> ConnectError {
    let options = Options { connect_timeout, ..options() };
    let error = connect(&host(ssh.clone()), &options).await.expect_err("it connected");
    println!("{error}\n  try: {}", error.remedy());
    error
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
        ConnectError::UnknownHostKey { key: Some(key), by } => {
            assert_eq!((key.kind.as_str(), key.fingerprint), ("ssh-ed25519", fingerprint(&server)));
            match transport() {
                Transport::Openssh => {
                    assert!(by.contains("-p ") && by.contains("root@127.0.7.1"), "{by}");
                }
                Transport::Russh => {
                    assert!(by.ends_with(&format!(", or --host-key {}", fingerprint(&server))), "{by}");
                }
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
    let error = failure_within(Duration::from_secs(3), &Ssh { port: Some(port), ..good.clone() }).await;
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

#[tokio::test(flavor = "current_thread")]
async fn a_host_that_takes_no_further_session_is_not_lost() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup { sshd: "MaxSessions 1\n", ..Setup::default() });
    let standing = Options { standing: Some(Duration::from_secs(300)), ..options() };
    let first = connect(&server.host(), &standing).await.unwrap();
    let mut channel = first.start_agent(&echo_image(), &Sudo::default()).await.unwrap();
    let second = connect(&server.host(), &standing).await.unwrap();
    assert!(second.is_reused());
    let error = second.start_agent(&echo_image(), &Sudo::default()).await.err().unwrap();
    assert!(matches!(&error, StartError::Spawn { .. }), "{error:?}");
    channel.send(&serde_json::json!("Who")).await.unwrap();
    assert!(matches!(channel.receive::<String>().await.unwrap(), Some(Incoming::Message(_))));
    channel.close().await.unwrap();
    first.close().await;
    second.close().await;
    assert_eq!(disconnect(Some(&server.ssh)).await.unwrap(), 1);
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

#[tokio::test(flavor = "current_thread")]
async fn the_master_of_a_killed_client_ends() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let mut client = client(&server.ssh).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
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
        let ssh = Ssh { host: "inner".into(), ..Ssh::default() };
        let output =
            client(&ssh).env("PATH", path_with_config(&home, &config)).stdin(Stdio::null()).output().unwrap();
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
    let call = |what: &str, name: &str, port: u16, jump: u16| {
        let config = format!(
            "Host prod inner\n Port {port}\nHost inner\n ProxyJump gate\nHost gate\n Port {jump}\n\
             Host *\n HostName 127.0.7.1\n User root\n IdentityFile {0}/id\n UserKnownHostsFile {0}/both\n",
            at.display()
        );
        let ssh = Ssh { host: name.into(), ..Ssh::default() };
        let output = client_that(what, &[ssh])
            .env(STANDING, "yes")
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
        let text = call("one", name, port, jump);
        assert!(text.contains("by=openssh"), "{text}");
        assert_eq!(logins(), expected, "{name} at {port} over {jump}");
    }
    assert!(
        call("end", "prod", other, one).contains("ended=2"),
        "those of earlier meanings are ended as well"
    );
    assert!(call("end", "inner", other, one).contains("ended=2"));
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

async fn file_names_with_tokens_mean_the_same_files_to_both() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let at = server.directory.path();
    let (file, port) = (at.join("tokens_config"), server.ssh.port.unwrap());
    let text = format!(
        "Host Lab-1\n HostName 127.0.7.1\n Port {port}\n User root\n IdentityFile {0}/%n%%key\n\
         UserKnownHostsFile {0}/%k-%n-%h-%p-%r-%u-%i\n",
        at.display()
    );
    fs::write(&file, text).unwrap();
    fs::copy(at.join("id"), at.join("Lab-1%key")).unwrap();
    let known = at.join(format!("Lab-1-Lab-1-127.0.7.1-{port}-root-root-0"));
    fs::copy(at.join("known_hosts"), &known).unwrap();
    let ssh = Ssh { host: "Lab-1".into(), config: Some(file), ..Ssh::default() };
    connect(&host(ssh.clone()), &options()).await.unwrap().close().await;
    let other = fs::read_to_string(at.join("other.pub")).unwrap();
    fs::write(&known, format!("[127.0.7.1]:{port} {other}")).unwrap();
    let error = failure(&ssh).await;
    assert!(matches!(&error, ConnectError::HostKeyChanged { .. }), "{error:?}");
}

async fn a_key_that_all_users_know_is_known() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let at = server.directory.path();
    let file = at.join("global_config");
    let ssh = Ssh { known_hosts: None, config: Some(file.clone()), ..server.ssh.clone() };
    let with = |global: &str| {
        let text = format!("UserKnownHostsFile none\nGlobalKnownHostsFile {}/{global}\n", at.display());
        fs::write(&file, text).unwrap();
    };
    with("known_hosts");
    connect(&host(ssh.clone()), &options()).await.unwrap().close().await;
    with("nothing");
    let error = failure(&ssh).await;
    assert!(matches!(&error, ConnectError::UnknownHostKey { .. }), "{error:?}");
}
