//! A client as a process of its own, which the integration tests start, answer and kill. Its only argument says what it does:
//! `one` connects to a host and stays until a line is typed, `several` connects to hosts at once, `end` ends the standing
//! connections to a host. The hosts are JSON in `TORIL_TEST_HOSTS`.

use std::env;
use std::time::Duration;

use toril_inventory::{Host, Reach, Ssh};
use toril_transport::{ConnectError, Options, connect, disconnect};

type Failure = Box<dyn std::error::Error>;

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn main() -> Result<(), Failure> {
    let text = env::var("TORIL_TEST_HOSTS")?;
    let hosts = || serde_json::from_str::<Vec<Ssh>>(&text);
    let host = || -> Result<Ssh, Failure> { Ok(hosts()?.pop().ok_or("no host")?) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match env::args().nth(1).as_deref() {
        Some("one") => runtime.block_on(one(host()?)),
        Some("several") => tokio::task::LocalSet::new().block_on(&runtime, several(hosts()?)),
        Some("end") => {
            println!("ended={}", runtime.block_on(disconnect(Some(&host()?)))?);
            Ok(())
        }
        _ => Err("the only argument is `one`, `several` or `end`".into()),
    }
}

fn options() -> Options {
    Options {
        connect_timeout: Duration::from_secs(30),
        interactive: true,
        ssh_options: env::var("TORIL_TEST_OPTION").into_iter().collect(),
        standing: env::var_os("TORIL_TEST_STANDING").map(|_| Duration::from_secs(600)),
        ..Options::default()
    }
}

fn host(ssh: Ssh) -> Host {
    Host { name: "test".into(), reach: Reach::Ssh(ssh), sandbox: false }
}

#[expect(clippy::print_stdout, reason = "the test reads it")]
async fn one(ssh: Ssh) -> Result<(), Failure> {
    match connect(&host(ssh), &options()).await {
        Ok(connection) => {
            let socket = connection.control_socket().map(|socket| socket.display().to_string());
            println!("by={} socket={}", connection.facts().transport, socket.unwrap_or_default());
            std::io::stdin().read_line(&mut String::new())?;
        }
        Err(error) => println!("failed={error:?}"),
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the test reads it")]
async fn several(hosts: Vec<Ssh>) -> Result<(), Failure> {
    let connecting = hosts.into_iter().map(|ssh| {
        tokio::task::spawn_local(async move {
            let port = ssh.port.unwrap_or_default();
            match connect(&host(ssh), &options()).await {
                Ok(_) => println!("{port} is reached"),
                Err(ConnectError::UnknownHostKey { .. }) => println!("{port} is unknown"),
                Err(error) => println!("{port} failed={error:?}"),
            }
        })
    });
    for connected in connecting.collect::<Vec<_>>() {
        connected.await?;
    }
    Ok(())
}
