//! The way to a host, as ssh's own configuration has it.

use std::path::Path;
use std::time::{Duration, Instant};

use toril_inventory::{Ssh, Transport};
use toril_machine::Command;
use toril_provisioner::{Check, CheckState};
use toril_transport::Route;

use crate::client::{Client, ClientError, Way, chain};

const PATIENCE: Duration = Duration::from_secs(5);

/// What ssh makes of a name, and whether it knows the host's key. Nothing is connected to.
pub(super) fn checks(ssh: &Ssh, way: &Way) -> Vec<Check> {
    let unfit = |error: toril_transport::ConnectError| {
        vec![Check::trouble("the way", CheckState::Bad, chain(&error), error.remedy())]
    };
    match toril_transport::chosen(ssh, &way.options) {
        Ok(Transport::Openssh) => by_openssh(ssh, way),
        Ok(Transport::Russh) => {
            toril_transport::route(ssh, &way.options).map_or_else(unfit, |route| by_russh(&route))
        }
        Err(error) => unfit(error),
    }
}

fn by_russh(route: &Route) -> Vec<Check> {
    let way = Check::fine("the way", format!("{}, by russh", route.hops.join(", then ")));
    vec![way, host_key(&route.name, route.known.as_deref())]
}

fn host_key(name: &str, known: Option<&str>) -> Check {
    const NAME: &str = "host key";
    match known {
        Some(known) => Check::fine(NAME, format!("{known} knows {name}").replace("pinned: ", "a pin ")),
        None => Check::trouble(
            NAME,
            CheckState::Doubtful,
            format!("no known_hosts file knows {name}"),
            "connect once by hand, and compare the fingerprint with the one that the provider's console shows",
        ),
    }
}

/// What the connection is protected by.
pub(super) fn connection(client: &Client) -> Option<Check> {
    const NAME: &str = "key exchange";
    let (connection, _) = client.connection()?;
    let exchange = connection.key_exchange?;
    Some(match connection.weaker {
        Some(weaker) => {
            Check::trouble(NAME, CheckState::Doubtful, weaker, "use OpenSSH, or update sshd on the host")
        }
        None => Check::fine(NAME, format!("{exchange}, by {}", connection.transport)),
    })
}

fn by_openssh(ssh: &Ssh, way: &Way) -> Vec<Check> {
    let mut arguments: Vec<String> = vec!["-G".into()];
    arguments.extend(ssh.config.iter().flat_map(|file| ["-F".into(), file.display().to_string()]));
    arguments.extend(way.options.ssh_options.iter().flat_map(|option| ["-o".into(), option.clone()]));
    arguments.extend(ssh.user.iter().flat_map(|user| ["-l".into(), user.clone()]));
    arguments.extend(ssh.port.iter().flat_map(|port| ["-p".into(), port.to_string()]));
    arguments.extend(["--".into(), ssh.host.clone()]);
    let printed = match Command::new("ssh", &arguments).deadline(PATIENCE).output() {
        Ok(printed) => printed,
        Err(error) => {
            return vec![Check::trouble(
                "the way",
                CheckState::Bad,
                error.to_string(),
                "mend ssh's configuration",
            )];
        }
    };
    let value = |key: &str| {
        let values = printed.lines().filter_map(|line| line.split_once(' '));
        values.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
    };
    let (host, port) =
        (value("hostname").unwrap_or_else(|| ssh.host.clone()), value("port").unwrap_or_default());
    let user = value("user").unwrap_or_default();
    let jump = value("proxyjump").map_or(String::new(), |jump| format!(", by way of {jump}"));
    let route = Check::fine("the way", format!("{user}@{host} port {port}{jump}, by openssh"));
    let known = match &ssh.known_hosts {
        Some(file) => file.display().to_string(),
        None => value("userknownhostsfile").unwrap_or_default(),
    };
    vec![route, known_key(&host, &port, &known)]
}

fn known_key(host: &str, port: &str, files: &str) -> Check {
    let name = if port == "22" { host.to_owned() } else { format!("[{host}]:{port}") };
    let home = std::env::var("HOME").unwrap_or_default();
    let expand =
        |file: &str| file.strip_prefix("~/").map_or(file.to_owned(), |rest| format!("{home}/{rest}"));
    let files: Vec<String> =
        files.split_whitespace().map(expand).filter(|file| Path::new(file).exists()).collect();
    // ssh-keygen(1) reads hashed names too, and exits with 1 where it finds none.
    let has_key = |file: &String| {
        let command = Command::new("ssh-keygen", ["-F", &name, "-f", file]).deadline(PATIENCE);
        command.run().is_ok_and(|finished| finished.status.success())
    };
    host_key(&name, files.iter().find(|file| has_key(file)).map(String::as_str))
}

/// How long a question and its answer take, once connected.
pub(super) async fn round_trip(client: &mut Client) -> Result<Check, ClientError> {
    const SLOW: Duration = Duration::from_millis(500);
    let start = Instant::now();
    let facts = client.facts().await?;
    let took = start.elapsed();
    let what = format!(
        "{} {}, kernel {}; the agent answers as root, in {} ms",
        facts.os,
        facts.version,
        facts.kernel,
        took.as_millis()
    );
    Ok(match took > SLOW {
        true => Check::trouble(
            "agent",
            CheckState::Doubtful,
            what,
            "a slow line, or a busy host: runs take longer",
        ),
        false => Check::fine("agent", what),
    })
}
