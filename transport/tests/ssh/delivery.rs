//! Delivery of the agent to a real sshd, and the channel with it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{
    Server, Setup, USER, by_both, echo_agent, echo_image, has_sudo, options, text, transport, unable, wait_on,
};
use serde_json::json;
use toril_inventory::{Host, Reach};
use toril_transport::{
    AgentImage, Channel, ChannelError, Connection, Delivery, Exit, Incoming, Password, StartError, Sudo,
    connect,
};

by_both!(
    the_first_start_uploads_and_the_second_only_executes,
    large_blobs_pass_both_ways_at_once,
    a_lost_agent_is_never_an_end,
    an_agent_learns_that_its_client_is_gone,
    a_damaged_agent_is_refused,
    a_stored_agent_that_was_damaged_is_replaced_and_one_of_somebody_elses_is_not_run,
    a_start_that_is_broken_off_leaves_nothing,
    a_full_disk_and_noexec_are_named,
    another_program_is_not_taken_for_an_agent,
    without_root_and_sudo_nothing_starts_and_a_talking_shell_does_not_matter,
    sudo_is_told_apart,
);

async fn start(server: &Server) -> (Connection, Channel) {
    let connection = connect(&server.host(), &options()).await.unwrap();
    let channel = connection.start_agent(&echo_image(), &Sudo::default()).await.unwrap();
    (connection, channel)
}

async fn refused(server: &Server, host: &Host, image: &AgentImage, sudo: &Sudo) -> StartError {
    let connection = connect(host, &options()).await.unwrap();
    let error = connection.start_agent(image, sudo).await.err().expect("it started");
    println!("{error}\n  try: {:?}", error.remedy());
    assert!(!server.agents().iter().any(|name| name.starts_with('.')), "{:?}", server.agents());
    error
}

async fn who(channel: &mut Channel) -> String {
    channel.send(&json!("Who")).await.unwrap();
    text(channel.receive().await.unwrap())
}

async fn blobs(channel: &mut Channel, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < size {
        match channel.receive::<String>().await.unwrap() {
            Some(Incoming::Blob(piece)) => bytes.extend(piece),
            other => panic!("{other:?}"),
        }
    }
    bytes
}

async fn the_first_start_uploads_and_the_second_only_executes() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let (connection, mut channel) = start(&server).await;
    assert!(matches!(channel.delivery(), Delivery::Uploaded { bytes, .. } if *bytes > 100_000));
    let name = format!("toril-{}", &echo_image().id()[..32]);
    let told = who(&mut channel).await;
    assert!(told.starts_with("0 ") && told.ends_with(&format!("/var/lib/toril/agents/{name}")), "{told}");
    assert!(channel.agent_build().contains(&echo_image().id()[..32]), "{}", channel.agent_build());
    assert_eq!(server.agents(), std::slice::from_ref(&name));

    // A second one beside it, over the same connection.
    let mut second = connection.start_agent(&echo_image(), &Sudo::default()).await.unwrap();
    assert_eq!(*second.delivery(), Delivery::Present);
    second.send(&json!({"Echo": "beside"})).await.unwrap();
    assert_eq!(text(second.receive().await.unwrap()), "beside");
    second.close().await.unwrap();
    channel.close().await.unwrap();

    let facts = connection.facts();
    assert_eq!(facts.transport, transport().name());
    assert!(facts.key_exchange.is_some_and(|name| name.contains("25519")));
    assert!(facts.host_key.is_some_and(|key| key.starts_with("ssh-ed25519 SHA256:")));
    let how = facts.authenticated.unwrap();
    assert!(how.ends_with("using \"publickey\"") || how.contains("/id ssh-ed25519 SHA256:"), "{how}");
    assert!(facts.server.is_some_and(|server| server.starts_with("OpenSSH_")));
    connection.close().await;

    let (connection, channel) = start(&server).await;
    assert_eq!(*channel.delivery(), Delivery::Present);
    channel.close().await.unwrap();
    connection.close().await;
}

async fn large_blobs_pass_both_ways_at_once() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let (_connection, mut channel) = start(&server).await;
    channel.send(&json!({"Make": 20 << 20})).await.unwrap();
    assert!(blobs(&mut channel, 20 << 20).await.iter().all(|byte| *byte == 0x5a));

    let (mut sender, mut receiver) = channel.split();
    let sent: Vec<u8> = (0..12 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sending = async {
        sender.send_blob(&sent).await.unwrap();
        sender.send(&json!({"Echo": "all of it"})).await.unwrap();
    };
    let receiving = async {
        let mut received = Vec::new();
        loop {
            match receiver.receive::<String>().await.unwrap() {
                Some(Incoming::Blob(piece)) => received.extend(piece),
                Some(Incoming::Message(message)) => break (message, received),
                None => panic!("the end came early"),
            }
        }
    };
    let ((), (message, received)) = tokio::join!(sending, receiving);
    assert_eq!(message, "all of it");
    assert!(received == sent);
    receiver.close(sender).await.unwrap();
}

async fn a_lost_agent_is_never_an_end() {
    if unable().is_some() {
        return;
    }
    let mut server = Server::start(&Setup::default());
    let (connection, mut channel) = start(&server).await;
    channel.send(&json!("Fail")).await.unwrap();
    match channel.receive::<String>().await {
        Err(ChannelError::Cut { exit: Exit::Status(1), stderr }) => {
            assert!(stderr.contains("told to fail"), "{stderr}")
        }
        other => panic!("{other:?}"),
    }

    let mut channel = connection.start_agent(&echo_image(), &Sudo::default()).await.unwrap();
    channel.send(&json!("Die")).await.unwrap();
    match channel.receive::<String>().await {
        Err(ChannelError::Cut { exit: Exit::Killed, .. }) => {}
        other => panic!("{other:?}"),
    }

    let mut channel = connection.start_agent(&echo_image(), &Sudo::default()).await.unwrap();
    server.cut();
    match channel.receive::<String>().await {
        Err(ChannelError::Cut { exit: Exit::ConnectionLost { reason }, .. }) => {
            assert_eq!(reason, "it was closed from the other side")
        }
        other => panic!("{other:?}"),
    }
    let error = connection.start_agent(&echo_image(), &Sudo::default()).await.err().unwrap();
    assert!(matches!(error, StartError::ConnectionLost { .. }), "{error:?}");
}

async fn an_agent_learns_that_its_client_is_gone() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let (_connection, mut channel) = start(&server).await;
    let pid = who(&mut channel).await.split(' ').nth(1).unwrap().to_owned();
    let process = server.path(&format!("/proc/{pid}"));
    assert!(process.exists());
    drop(channel);
    wait_on("the agent ends", || !process.exists()).await;
}

async fn a_damaged_agent_is_refused() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let file = server.directory.path().join("agent");
    fs::copy(echo_agent(), &file).unwrap();
    let image = AgentImage::from_file(&file).unwrap();
    // Between hashing and sending, so that what arrives is not what was promised.
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"x").unwrap();
    let error = refused(&server, &server.host(), &image, &Sudo::default()).await;
    assert!(matches!(error, StartError::HashMismatch { .. }), "{error:?}");
    assert_eq!(server.agents(), [""; 0]);
}

async fn a_stored_agent_that_was_damaged_is_replaced_and_one_of_somebody_elses_is_not_run() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let (connection, channel) = start(&server).await;
    channel.close().await.unwrap();
    let agents = server.path("/var/lib/toril/agents");
    let agent = agents.join(server.agents().pop().unwrap());
    let whole = fs::read(&agent).unwrap();
    let zeros = vec![0; whole.len()];
    let mut other = b"#!/bin/sh\necho sorry >&2; exit 7\n".to_vec();
    other.resize(whole.len(), b'#');
    let write = |bytes: &[u8]| {
        // Not into the program that may still run.
        fs::remove_file(&agent).unwrap();
        fs::write(&agent, bytes).unwrap();
        fs::set_permissions(&agent, PermissionsExt::from_mode(0o755)).unwrap();
    };
    for (what, bytes) in
        [("no program", &zeros[..]), ("another", &other), ("cut off", &whole[..whole.len() / 2])]
    {
        write(bytes);
        let channel = connection.start_agent(&echo_image(), &Sudo::default()).await.unwrap();
        assert!(matches!(channel.delivery(), Delivery::Uploaded { .. }), "{what}");
        channel.close().await.unwrap();
        assert!(fs::read(&agent).unwrap() == whole, "{what}");
    }

    // It would tell that it was run.
    let ran = server.directory.path().join("ran");
    let mut spy = format!("#!/bin/sh\n: >{}\n", ran.display()).into_bytes();
    spy.resize(whole.len(), b'#');
    write(&spy);
    chown(&agent, Some(4242), None).unwrap();
    let channel = connection.start_agent(&echo_image(), &Sudo::default()).await.unwrap();
    assert!(matches!(channel.delivery(), Delivery::Uploaded { .. }));
    channel.close().await.unwrap();
    write(&spy);
    chown(&agents, Some(4242), None).unwrap();
    let error = refused(&server, &server.host(), &echo_image(), &Sudo::default()).await;
    assert!(
        matches!(&error, StartError::Untrusted { directory } if directory == "/var/lib/toril/agents"),
        "{error:?}"
    );
    assert!(!ran.exists());
}

async fn a_start_that_is_broken_off_leaves_nothing() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let file = server.directory.path().join("large");
    // Random, so that it does not become small.
    let mut head = std::process::Command::new("head");
    head.args(["-c", "100M", "/dev/urandom"]).stdout(fs::File::create(&file).unwrap());
    assert!(head.status().unwrap().success());
    let image = AgentImage::from_file(&file).unwrap();
    let connection = connect(&server.host(), &options()).await.unwrap();
    let partial = async {
        loop {
            let size = |name: &String| {
                fs::metadata(server.path("/var/lib/toril/agents").join(name)).map_or(0, |m| m.len())
            };
            if server.agents().iter().any(|name| name.starts_with(".upload") && size(name) > 1 << 20) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let sudo = Sudo::default();
    tokio::select! {
        result = connection.start_agent(&image, &sudo) => panic!("it was not broken off: {:?}", result.err()),
        () = partial => {}
    }
    wait_on("the rest is removed", || server.agents().is_empty()).await;
}

async fn a_full_disk_and_noexec_are_named() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup { mount: Some("size=1m"), ..Setup::default() });
    let error = refused(&server, &server.host(), &echo_image(), &Sudo::default()).await;
    assert!(matches!(error, StartError::NoSpace { .. }), "{error:?}");
    assert!(error.to_string().contains("KiB are free on /var/lib (tmpfs)"), "{error}");
    assert_eq!(server.agents(), [""; 0]);

    let server = Server::start(&Setup { mount: Some("noexec"), ..Setup::default() });
    for _ in 0..2 {
        let error = refused(&server, &server.host(), &echo_image(), &Sudo::default()).await;
        assert!(matches!(error, StartError::NotExecutable { .. }), "{error:?}");
    }

    let server = Server::start(&Setup { mount: Some("ro"), ..Setup::default() });
    let error = refused(&server, &server.host(), &echo_image(), &Sudo::default()).await;
    assert!(matches!(&error, StartError::Write { details } if details.contains("Read-only")), "{error:?}");
}

async fn another_program_is_not_taken_for_an_agent() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let hello = r#"{"magic":"toril","protocol":99,"build":"9.9.9 (feed)"}"#;
    for (script, expected) in [
        (
            format!("printf '\\0\\0\\0\\{:o}\\0%s' '{hello}'; cat", hello.len()),
            "toril 9.9.9 (feed), protocol 99",
        ),
        ("echo Hello, how are you".into(), "unknown type"),
        ("echo sorry >&2; exit 7".into(), "it exited with status 7; it said:\nsorry"),
        ("echo 'no such interpreter'".into(), ""),
    ] {
        let file = server.directory.path().join("other-agent");
        let _ = fs::remove_file(&file);
        let interpreter = if expected.is_empty() { "/no/such" } else { "/bin/sh" };
        fs::write(&file, format!("#!{interpreter}\n{script}\n")).unwrap();
        let image = AgentImage::from_file(&file).unwrap();
        let error = refused(&server, &server.host(), &image, &Sudo::default()).await;
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let deeper =
            std::error::Error::source(&error).and_then(|error| error.source()).map(ToString::to_string);
        let all = format!("{error} {source} {}", deeper.unwrap_or_default());
        assert!(all.contains(expected), "{all}");
    }
}

async fn without_root_and_sudo_nothing_starts_and_a_talking_shell_does_not_matter() {
    if unable().is_some() {
        return;
    }
    let bashrc = "echo Welcome to the machine; echo and its errors >&2; printf 'no end of line '";
    if has_sudo() {
        println!("SKIPPED: that there is no sudo; it is here");
    } else {
        let server = Server::start(&Setup { bashrc, ..Setup::default() });
        let error = refused(&server, &server.host_as(USER), &echo_image(), &Sudo::default()).await;
        assert!(matches!(error, StartError::NoSudoProgram), "{error:?}");
    }
    let server = Server::start(&Setup { bashrc: "yes", ..Setup::default() });
    let error = refused(&server, &server.host_as(USER), &echo_image(), &Sudo::default()).await;
    assert!(matches!(error, StartError::Noise { .. }), "{error:?}");
    let server = Server::start(&Setup { bashrc: "echo maintenance; exit 3", ..Setup::default() });
    let error = refused(&server, &server.host_as(USER), &echo_image(), &Sudo::default()).await;
    assert!(
        matches!(&error, StartError::Other { exit: Exit::Status(3), output } if output == "maintenance"),
        "{error:?}"
    );
}

async fn sudo_is_told_apart() {
    if unable().is_some() {
        return;
    }
    if !has_sudo() {
        println!("SKIPPED: there is no sudo");
        return;
    }
    let bashrc = "echo Welcome to the machine; printf 'no end of line '";
    let right = Sudo::Password(Password::new("right".into()));
    let wrong = Sudo::Password(Password::new("wrong".into()));
    let free = format!("root ALL=(ALL) ALL\n{USER} ALL=(ALL) NOPASSWD: ALL");
    let asking = format!("{USER} ALL=(ALL) ALL");
    let pty = format!("Defaults use_pty\n{asking}");
    let tty = format!("Defaults requiretty\n{free}");
    let other = format!("{USER} ALL=(ALL) NOPASSWD: /bin/true");
    for (sudoers, sudo, expected) in [
        (&free, Sudo::default(), Ok(())),
        (&free, right.clone(), Ok(())),
        (&asking, Sudo::default(), Err("PasswordNeeded")),
        (&asking, right.clone(), Ok(())),
        (&pty, right.clone(), Ok(())),
        (&asking, wrong, Err("WrongPassword")),
        (&tty, Sudo::default(), Err("TtyRequired")),
        (&other, right.clone(), Err("NotAllowed")),
        (&String::new(), right, Err("NotAllowed")),
    ] {
        let server = Server::start(&Setup { sudoers: Some(sudoers), bashrc, ..Setup::default() });
        let connection = connect(&server.host_as(USER), &options()).await.unwrap();
        let begun = Instant::now();
        match (connection.start_agent(&echo_image(), &sudo).await, expected) {
            (Ok(mut channel), Ok(())) => {
                assert!(who(&mut channel).await.starts_with("0 "));
                channel.send(&json!({"Make": 3 << 20})).await.unwrap();
                assert_eq!(blobs(&mut channel, 3 << 20).await.len(), 3 << 20);
                channel.close().await.unwrap();
            }
            (Err(error), Err(expected)) => assert_eq!(format!("{error:?}"), expected, "{sudoers}"),
            (result, expected) => panic!("{sudoers}: {:?}, not {expected:?}", result.err()),
        }
        println!("{sudoers:?}: {expected:?} after {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "current_thread")]
async fn this_machine_runs_the_program_where_it_is() {
    if fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) != 0) {
        println!("SKIPPED: it needs root");
        return;
    }
    let host = Host { name: "here".into(), reach: Reach::Local, sandbox: false };
    let connection = connect(&host, &options()).await.unwrap();
    assert_eq!(connection.facts().transport, "local");
    let mut channel = connection.start_agent(&echo_image(), &Sudo::default()).await.unwrap();
    assert_eq!(*channel.delivery(), Delivery::Present);
    let told = who(&mut channel).await;
    assert!(told.starts_with("0 ") && told.ends_with("examples/echo_agent"), "{told}");
    channel.send(&json!({"Make": 5 << 20})).await.unwrap();
    assert_eq!(blobs(&mut channel, 5 << 20).await.len(), 5 << 20);
    channel.close().await.unwrap();

    let image = AgentImage::from_file(Path::new("/bin/false")).unwrap();
    let error = connection.start_agent(&image, &Sudo::default()).await.err().unwrap();
    assert!(matches!(error, StartError::Died { exit: Exit::Status(1), .. }), "{error:?}");
    connection.close().await;
}
