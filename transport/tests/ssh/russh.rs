//! What the built-in client does by itself: keys, known hosts, jump hosts, and that no ssh is needed.

use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::client::{OPTION, client_in_nothing, fingerprint, program};
use crate::support::{Server, Setup, connect_by, echo_image, host, options, unable};
use toril_inventory::{Ssh, Transport};
use toril_transport::{ConnectError, Options, Sudo, connect};

async fn reached(ssh: &Ssh) -> Result<(), ConnectError> {
    connect_by(Transport::Russh);
    let connection = connect(&host(ssh.clone()), &options()).await?;
    assert_eq!(connection.facts().transport, "russh");
    connection.close().await;
    Ok(())
}

fn keygen(arguments: &[&str], file: &Path) {
    let output = Command::new("ssh-keygen").args(arguments).arg(file).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "current_thread")]
async fn known_hosts_decide() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let at = server.directory.path();
    let line = fs::read_to_string(at.join("known_hosts")).unwrap();
    let (_, key) = line.split_once(' ').unwrap();
    let file = at.join("others");
    let with = |text: String| {
        fs::write(&file, text).unwrap();
        Ssh { known_hosts: Some(file.clone()), ..server.ssh.clone() }
    };

    let ssh = with(line.clone());
    keygen(&["-H", "-f"], &file);
    assert!(fs::read_to_string(&file).unwrap().starts_with("|1|"));
    reached(&ssh).await.unwrap();

    let revoked = with(format!("{line}@revoked * {key}"));
    let error = reached(&revoked).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::HostKeyRevoked { place, .. } if place.ends_with("line 2")),
        "{error}"
    );

    let other = fs::read_to_string(at.join("other.pub")).unwrap();
    let authority = with(format!("@cert-authority * {other}"));
    let error = reached(&authority).await.unwrap_err();
    assert!(matches!(&error, ConnectError::HostAuthority { .. }), "{error}");

    // Whoever answers does not get around a known key by showing one of another sort.
    keygen(&["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"], &at.join("rsa"));
    let rsa = fs::read_to_string(at.join("rsa.pub")).unwrap();
    let sort = with(format!("[127.0.7.1]:{} {rsa}", server.ssh.port.unwrap()));
    let error = reached(&sort).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::HostKeyChanged { .. } | ConnectError::NoAlgorithm { .. }),
        "{error}"
    );
    assert_eq!(server.log().matches("Accepted publickey").count(), 1, "nobody logs in to a wrong host");
}

#[tokio::test(flavor = "current_thread")]
async fn pins_decide_alone() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let wrong = format!("SHA256:{}", "A".repeat(43));
    let nothing = Some(server.directory.path().join("nothing"));
    let pinned = |pins: &[&String]| Ssh {
        known_hosts: nothing.clone(),
        host_key: pins.iter().map(|pin| (*pin).clone()).collect(),
        ..server.ssh.clone()
    };
    let right = fingerprint(&server);
    reached(&pinned(&[&wrong, &right])).await.unwrap();
    // A known_hosts file that knows the key does not help against a pin.
    let error = reached(&Ssh { host_key: vec![wrong.clone()], ..server.ssh.clone() }).await.unwrap_err();
    assert!(matches!(&error, ConnectError::HostKeyNotPinned { .. }), "{error}");
    assert!(error.to_string().contains(&right) && error.to_string().contains(&wrong), "{error}");
    // The command line's take the place of the inventory's.
    let told = Options { host_keys: vec![right], ..options() };
    connect(&host(pinned(&[&wrong])), &told).await.unwrap().close().await;
    assert_eq!(server.log().matches("Accepted publickey").count(), 2);
}

#[tokio::test(flavor = "current_thread")]
async fn a_pinned_host_is_right_whatever_known_hosts_say() {
    if unable().is_some() {
        return;
    }
    let rsa = tempfile::tempdir().unwrap();
    keygen(&["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"], &rsa.path().join("rsa"));
    let sshd = format!("HostKey {}\n", rsa.path().join("rsa").display());
    let server = Server::start(&Setup { sshd: &sshd, ..Setup::default() });
    // The host's own key of another sort, which would be asked for first; and a file that cannot be read.
    let key = fs::read_to_string(rsa.path().join("rsa.pub")).unwrap();
    let other_sort = rsa.path().join("known_hosts");
    fs::write(&other_sort, format!("[127.0.7.1]:{} {key}", server.ssh.port.unwrap())).unwrap();
    for known_hosts in [other_sort, rsa.path().to_owned()] {
        let pin = vec![fingerprint(&server)];
        let ssh = Ssh { host_key: pin, known_hosts: Some(known_hosts.clone()), ..server.ssh.clone() };
        reached(&ssh).await.unwrap_or_else(|error| panic!("{}: {error}", known_hosts.display()));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_host_with_what_only_openssh_has_is_left_to_it() {
    if unable().is_some() {
        return;
    }
    for (algorithms, expected) in [
        ("KexAlgorithms sntrup761x25519-sha512@openssh.com", "--transport openssh"),
        ("KexAlgorithms diffie-hellman-group14-sha1", "update sshd"),
    ] {
        let server = Server::start(&Setup { sshd: &format!("{algorithms}\n"), ..Setup::default() });
        let error = reached(&server.ssh).await.unwrap_err();
        assert!(matches!(&error, ConnectError::NoAlgorithm { .. }), "{error}");
        assert!(error.remedy().contains(expected), "{}", error.remedy());
    }
}

#[tokio::test(flavor = "current_thread")]
async fn keys_of_all_formats_log_in() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let at = server.directory.path();
    let mut authorized = fs::read_to_string(at.join("id.pub")).unwrap();
    let mut files = Vec::new();
    for (name, arguments) in [
        ("rsa-pem", &["-t", "rsa", "-b", "2048", "-m", "PEM"][..]),
        ("rsa-openssh", &["-t", "rsa", "-b", "2048"]),
        ("ecdsa-pkcs8", &["-t", "ecdsa", "-m", "PKCS8"]),
        ("ecdsa-pem", &["-t", "ecdsa", "-b", "384", "-m", "PEM"]),
    ] {
        let file = at.join(name);
        keygen(&[&["-q", "-N", ""], arguments, &["-f"]].concat(), &file);
        authorized += &fs::read_to_string(at.join(format!("{name}.pub"))).unwrap();
        files.push(file);
    }
    fs::write(at.join("id.pub"), authorized).unwrap();
    for file in files {
        let ssh = Ssh { identity: Some(file.clone()), ..server.ssh.clone() };
        reached(&ssh).await.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    let broken = at.join("broken");
    fs::write(&broken, "no key\n").unwrap();
    fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let error = reached(&Ssh { identity: Some(broken), ..server.ssh.clone() }).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Key { .. }), "{error}");
}

#[tokio::test(flavor = "current_thread")]
async fn keys_are_exchanged_anew_in_the_middle() {
    if unable().is_some() {
        return;
    }
    connect_by(Transport::Russh);
    let server = Server::start(&Setup::default());
    // Such little limits must not make another exchange due with every packet.
    for (limit, size) in [("256K", 8 << 20), ("16 1h", 1 << 20), ("0", 1 << 20)] {
        let option = Options { ssh_options: vec![format!("RekeyLimit={limit}")], ..options() };
        let connection = connect(&server.host(), &option).await.unwrap();
        let mut channel = connection.start_agent(&echo_image(), &Sudo::default()).await.unwrap();
        channel.send(&serde_json::json!({"Make": size})).await.unwrap();
        let mut received = 0;
        while received < size {
            match channel.receive::<String>().await.unwrap() {
                Some(toril_transport::Incoming::Blob(piece)) => received += piece.len(),
                other => panic!("{limit}: {other:?}"),
            }
        }
        channel.close().await.unwrap();
        connection.close().await;
    }
}

/// A client in an environment of its own: no home but `home`, no ssh on its path.
fn client(ssh: &Ssh, home: &Path) -> Command {
    let mut command = client_in_nothing(program(), ssh);
    command.env("PATH", "/nonexistent").env("HOME", home).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn said(mut command: Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

struct Agent(Child);

impl Agent {
    fn at(socket: &Path) -> Agent {
        let child = Command::new("ssh-agent").args(["-D", "-a"]).arg(socket).stdout(Stdio::null()).spawn();
        let agent = Agent(child.unwrap());
        // The socket is there a moment before anybody listens at it.
        crate::support::wait("the agent listens", || UnixStream::connect(socket).is_ok());
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn without_an_ssh_keys_come_from_the_environment_files_and_an_agent() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let at = server.directory.path();
    let home = at.join("nobodys-home");
    fs::create_dir(&home).unwrap();
    let key = fs::read_to_string(at.join("id")).unwrap();
    let locked = at.join("locked");
    fs::copy(at.join("id"), &locked).unwrap();
    keygen(&["-q", "-p", "-P", "", "-N", "open sesame", "-f"], &locked);
    let without = Ssh { identity: None, ..server.ssh.clone() };
    let with = Ssh { identity: Some(locked.clone()), ..server.ssh.clone() };

    let mut command = client(&without, &home);
    command.env("TORIL_SSH_KEY", &key);
    let text = said(command);
    assert!(text.contains("by=russh") && !text.contains(&key[40..80]), "{text}");

    let mut command = client(&without, &home);
    command
        .env("TORIL_SSH_KEY", fs::read_to_string(&locked).unwrap())
        .env("TORIL_SSH_PASSPHRASE", "open sesame");
    assert!(said(command).contains("by=russh"));

    let text = said(client(&with, &home));
    assert!(text.contains("PermissionDenied") && text.contains("has a passphrase"), "{text}");
    let mut command = client(&with, &home);
    command.env("TORIL_SSH_PASSPHRASE", "wrong");
    assert!(said(command).contains("does not open it"));
    let text = said(client(&without, &home));
    assert!(text.contains("PermissionDenied") && text.contains("offered: []"), "{text}");

    let socket = at.join("agent");
    let _agent = Agent::at(&socket);
    let added = Command::new("ssh-add").arg(at.join("id")).env("SSH_AUTH_SOCK", &socket).output().unwrap();
    assert!(added.status.success(), "{added:?}");
    for ssh in [&without, &with] {
        let mut command = client(ssh, &home);
        command.env("SSH_AUTH_SOCK", &socket);
        let text = said(command);
        assert!(text.contains("by=russh"), "{text}");
    }
}

#[test]
fn of_many_keys_of_an_agent_those_that_the_configuration_names_are_offered_first() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let at = server.directory.path();
    let home = at.join("many-keys");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    let socket = at.join("agent");
    let _agent = Agent::at(&socket);
    let mut keys: Vec<_> = (0..7).map(|number| at.join(format!("stranger-{number}"))).collect();
    for key in &keys {
        keygen(&["-q", "-t", "ed25519", "-N", "", "-f"], key);
    }
    keys.push(at.join("id"));
    for key in &keys {
        let added = Command::new("ssh-add").arg(key).env("SSH_AUTH_SOCK", &socket).output().unwrap();
        assert!(added.status.success(), "{added:?}");
    }
    let without = Ssh { identity: None, ..server.ssh.clone() };
    let text = |identity: &str| {
        fs::write(home.join(".ssh/config"), identity).unwrap();
        let mut command = client(&without, &home);
        command.env("SSH_AUTH_SOCK", &socket);
        said(command)
    };
    // A host does not let so many be tried.
    assert!(text("").contains("PermissionDenied"));
    let named = text(&format!("IdentityFile {}/id\n", at.display()));
    assert!(named.contains("by=russh"), "{named}");
    // The public half is enough to say which one is meant.
    fs::copy(at.join("id.pub"), at.join("half.pub")).unwrap();
    for file in ["half", "half.pub"] {
        let half = text(&format!("IdentityFile {}/{file}\n", at.display()));
        assert!(half.contains("by=russh"), "{file}: {half}");
    }
}

#[test]
fn who_logs_in_is_known_without_the_environment() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let at = server.directory.path();
    let copy = at.join("client");
    // By another process, as in `path_with_config`.
    assert!(Command::new("cp").arg(program()).arg(&copy).status().unwrap().success());
    let key = fs::read_to_string(at.join("id")).unwrap();
    let ssh = Ssh { user: None, identity: None, ..server.ssh.clone() };
    // The user nobody of Debian, and one that is nowhere.
    for (id, expected, name) in
        [(0, "by=russh", "root"), (65534, "by=russh", "nobody"), (54321, "NoLogin", "")]
    {
        let mut command = client_in_nothing(&copy, &ssh);
        command.env("PATH", "/nonexistent").env("TORIL_SSH_KEY", &key).uid(id).gid(id);
        let text = said(command);
        assert!(text.contains(expected), "{id}: {text}");
        assert!(server.log().contains(&format!("Accepted publickey for {name}")), "{}", server.log());
    }
}

#[test]
fn jump_hosts_come_from_the_users_configuration() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let at = server.directory.path();
    let home = at.join("jumping");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    let port = server.ssh.port.unwrap();
    let config = format!(
        "Host *\n HostName 127.0.7.1\n Port {port}\n User root\n IdentityFile {0}/id\n UserKnownHostsFile {0}/known_hosts\n\
         Host inner\n ProxyJump first,second\nHost shut\n ProxyJump first\n",
        at.display()
    );
    fs::write(home.join(".ssh/config"), format!("Host shut\n Port 1\n{config}")).unwrap();
    let alias = |name: &str| Ssh { host: name.into(), ..Ssh::default() };
    let text = said(client(&alias("inner"), &home));
    assert!(text.contains("by=russh"), "{text}");
    assert_eq!(server.log().matches("Accepted publickey").count(), 3, "two jump hosts and the host");
    let text = said(client(&alias("shut"), &home));
    assert!(text.contains("NoRoute") && text.contains("the jump host got no connection"), "{text}");
    let mut command = client(&alias("inner"), &home);
    command.env(OPTION, "ProxyCommand=true");
    assert!(said(command).contains("Option {"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_jump_host_is_what_the_inventory_says_and_is_named_where_it_fails() {
    if unable().is_some() {
        return;
    }
    connect_by(Transport::Russh);
    let (gate, inner) = (Server::start(&Setup::default()), Server::start(&Setup::default()));
    let nothing = Some(inner.directory.path().join("nothing"));
    let pin = |server: &Server| vec![fingerprint(server)];
    let (wrong, none) = (vec![format!("SHA256:{}", "A".repeat(43))], Vec::new());
    let both = [pin(&gate), pin(&inner)].concat();
    let reach = async |jump: &str, of_gate: &Vec<String>, on_line: &Vec<String>| {
        let machine = Ssh { host_key: of_gate.clone(), known_hosts: nothing.clone(), ..gate.ssh.clone() };
        let options = Options {
            ssh_options: vec![format!("ProxyJump={jump}")],
            host_keys: on_line.clone(),
            machines: std::sync::Arc::new([("gate".to_owned(), machine)].into()),
            ..options()
        };
        let ssh = Ssh { host_key: pin(&inner), known_hosts: nothing.clone(), ..inner.ssh.clone() };
        let connection = connect(&host(ssh), &options).await?;
        let weaker = connection.facts().weaker;
        connection.close().await;
        Ok::<_, ConnectError>(weaker)
    };
    let place = format!("the jump host 127.0.7.1 port {}", gate.ssh.port.unwrap());
    let failed = |result: Result<Option<String>, ConnectError>| {
        let error = result.unwrap_err();
        assert!(error.to_string().contains(&place), "{error}");
        let ConnectError::JumpHost { error, .. } = error else { panic!("{error:?}") };
        format!("{error:?}")
    };
    let weaker = reach("gate", &pin(&gate), &none).await.unwrap();
    assert!(weaker.is_none_or(|weaker| weaker.contains(&place)), "each hop's key exchange counts");
    reach("gate", &none, &both).await.unwrap();
    assert_eq!([&gate, &inner].map(|server| server.log().matches("Accepted publickey").count()), [2, 2]);
    assert!(failed(reach("gate", &wrong, &none).await).contains("HostKeyNotPinned"));
    let unknown = failed(reach("gate", &none, &pin(&inner)).await);
    // That option would have the host behind it refused.
    assert!(unknown.contains("UnknownHostKey") && !unknown.contains("--host-key"), "{unknown}");
    assert!(failed(reach("nobody-here@gate", &pin(&gate), &none).await).contains("nobody-here@127.0.7.1"));
    let error = reach("gate", &pin(&gate), &wrong).await.unwrap_err();
    assert!(matches!(error, ConnectError::HostKeyNotPinned { .. }), "{error:?}");
}
