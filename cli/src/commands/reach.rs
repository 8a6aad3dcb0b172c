//! From a host's name to a client whose agent answers.

use std::io::IsTerminal;
use std::sync::Arc;

use toril_inventory::{Chosen, Host, Reach, Target};
use toril_provisioner::HostInfo;
use toril_transport::{Delivery, Password, PendingImage, Sudo};

use super::hosts::beside;
use super::{UsageError, password, sandbox, work};
use crate::arguments;
use crate::client::{Client, ClientError, LoggedIn, Told, Trouble, Way};
use crate::interrupt::Interrupts;
use crate::settings::Settings;
use crate::view::{Shown, View};

/// How the arguments say that hosts are to be reached; asks for the password where they say so.
pub(super) fn way(arguments: &arguments::Way) -> Result<Way, UsageError> {
    let sudo = match arguments.ask_sudo_password {
        false => Sudo::WithoutPassword,
        true => {
            let answer = password::ask("password for sudo on the hosts: ")
                .map_err(|error| UsageError::Other(format!("cannot ask for the password: {error}")))?;
            Sudo::Password(Password::new(answer))
        }
    };
    let image = PendingImage::of_this_program();
    let standing = match arguments.standing {
        Some(standing) => standing,
        None => Settings::here()?.standing.value,
    };
    let options = toril_transport::Options {
        interactive: std::io::stdin().is_terminal(),
        connect_timeout: arguments.connect_timeout,
        ssh_options: arguments.ssh_options.clone(),
        standing: Some(standing).filter(|time| !time.is_zero()),
        transport: arguments.transport,
        usual_transport: Settings::here()?.transport.value,
        host_keys: arguments.host_keys.clone(),
        machines: Arc::default(),
        hidden: Vec::new(),
    };
    Ok(Way { image, sudo, options })
}

/// The same with what the inventory says of this host alone. A password that somebody was asked for is for all hosts.
pub(super) fn way_to(chosen: &Chosen, way: &Way) -> Result<Way, UsageError> {
    let sudo = match (&way.sudo, &chosen.sudo_password) {
        (Sudo::WithoutPassword, Some(secret)) => {
            let password = secret.read().map_err(|error| {
                let error = crate::client::chain(&error);
                UsageError::Other(format!("{}: the password for sudo: {error}", chosen.name))
            })?;
            Sudo::Password(Password::new(password))
        }
        (sudo, _) => sudo.clone(),
    };
    let mut way = Way { sudo, ..way.clone() };
    way.options.hidden = chosen.hidden.to_vec();
    way.options.machines = Arc::clone(&chosen.machines);
    Ok(way)
}

/// Each host with the way to it.
pub(super) fn ways(hosts: Vec<Chosen>, way: &Way) -> Result<Vec<(Chosen, Way)>, UsageError> {
    UsageError::in_any(hosts.into_iter().map(|chosen| way_to(&chosen, way).map(|way| (chosen, way))))
}

/// The host that was chosen. A sandbox must be up, or `make` be set: then it is made.
pub(super) fn host(chosen: &Chosen, make: bool, view: &View) -> Result<Host, String> {
    match &chosen.target {
        Target::Host(host) => Ok(host.clone()),
        Target::Sandbox(sandbox) => {
            let mut host = sandbox::host(sandbox, make.then_some(&*chosen.name), view)?;
            chosen.name.clone_into(&mut host.name);
            Ok(host)
        }
    }
}

/// The same, with a sandbox being made where it is not up. That may take minutes, in which others are worked on.
pub(super) async fn host_made(chosen: &Chosen, view: &View) -> Result<Host, String> {
    let (chosen, view) = (chosen.clone(), view.clone());
    beside(move || host(&chosen, true, &view)).await?
}

/// Connects and starts the agent, and tells of it.
pub(super) async fn connect(host: &Host, way: &Way, view: &View) -> Result<Client, ClientError> {
    start(log_in(host, way, view).await?, view).await
}

/// Connects, without starting the agent.
pub(super) async fn log_in(host: &Host, way: &Way, view: &View) -> Result<LoggedIn, ClientError> {
    // On a terminal, ssh may ask there about a key or a passphrase: a moving line would write over its question.
    if !way.options.interactive || host.reach == Reach::Local || host.sandbox {
        view.show(Some(&host.name), &Shown::Step { text: "connecting" });
    }
    Client::log_in(host, way).await
}

/// Starts the agent where a connection is, and tells of it.
pub(super) async fn start(logged_in: LoggedIn, view: &View) -> Result<Client, ClientError> {
    let host = logged_in.host().clone();
    let client = logged_in.start().await?;
    if let Some((connection, delivery)) = client.connection() {
        let uploaded = match delivery {
            Delivery::Uploaded { bytes, .. } => Some(*bytes),
            _ => None,
        };
        let shown = Shown::Connected {
            transport: connection.transport,
            key_exchange: connection.key_exchange.as_deref(),
            host_key: connection.host_key.as_deref(),
            weaker: connection.weaker.as_deref(),
            closed_before: connection.closed_before,
            uploaded,
        };
        view.show(Some(&host.name), &shown);
    }
    Ok(client)
}

/// The same, given up at an interrupt.
pub(super) async fn connect_unless_interrupted(
    host: &Host,
    way: &Way,
    view: &View,
    interrupts: &Interrupts,
) -> Result<Client, Trouble> {
    tokio::select! {
        client = connect(host, way, view) => Ok(client?),
        () = interrupts.first() => Err(work::INTERRUPTED.to_owned().into()),
    }
}

/// Shows what is told of a run on a host.
pub(super) fn show(view: &View, host: &str, told: &Told) {
    let shown = match told {
        Told::Run(run) => Shown::Run { run },
        Told::Lost(reason) => Shown::Lost { reason },
        Told::Sending { sent, size } => {
            let text = format!("sending {} of {} MiB", sent >> 20, size.div_ceil(1 << 20));
            return view.show(Some(host), &Shown::Step { text: &text });
        }
    };
    view.show(Some(host), &shown);
}

/// What a recipe's templates may know of a host.
pub(super) fn info(host: &Host) -> HostInfo {
    let user = match &host.reach {
        Reach::Local => None,
        Reach::Ssh(ssh) => ssh.user.clone(),
    };
    HostInfo { name: host.name.clone(), user: user.unwrap_or_else(login) }
}

/// Who this program's user is; whom no database knows is root, or nobody in particular.
fn login() -> String {
    toril_transport::login_name().unwrap_or_else(|| "root".into())
}

/// Whom others are told of who find the host in use, and by what a run is known as one's own: a CI's job, or a user and
/// machine such as `ci@builder`.
pub(super) fn who() -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    job(&set).unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}@{}", login(), host.trim())
    })
}

/// The CI's job that this program is a part of, as the environment tells. All jobs of a runner may have the same user and
/// machine, and so may those of different projects.
fn job(set: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let github = || {
        let [repository, run, attempt, job] =
            ["GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB"].map(set);
        let (repository, run, attempt, job) = (repository?, run?, attempt?, job?);
        // The jobs of a matrix have one name; a runner has one job at a time.
        let runner = set("RUNNER_NAME").map_or_else(String::new, |name| format!(" on {name}"));
        Some(format!("GitHub {repository} run {run} attempt {attempt} job {job}{runner}"))
    };
    let gitlab = || Some(format!("GitLab project {} job {}", set("CI_PROJECT_ID")?, set("CI_JOB_ID")?));
    let travis = || Some(format!("Travis job {}", set("TRAVIS_JOB_ID")?));
    github().or_else(gitlab).or_else(travis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_of_a_ci_is_told_from_every_other() {
        let told = |set: &[(&str, &str)]| {
            let value = |name: &str| set.iter().find(|(known, _)| *known == name);
            job(&|name: &str| value(name).map(|(_, value)| (*value).to_owned()))
        };
        let github = [
            ("GITHUB_REPOSITORY", "acme/kernel"),
            ("GITHUB_RUN_ID", "17"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_JOB", "toril"),
            ("RUNNER_NAME", "lab 3"),
        ];
        assert_eq!(told(&github).as_deref(), Some("GitHub acme/kernel run 17 attempt 2 job toril on lab 3"));
        assert_eq!(told(&github[..4]).as_deref(), Some("GitHub acme/kernel run 17 attempt 2 job toril"));
        // What does not tell a job from others is not taken for one.
        assert_eq!(told(&github[..3]), None);
        let gitlab = [("CI_PROJECT_ID", "7"), ("CI_JOB_ID", "99")];
        assert_eq!(told(&gitlab).as_deref(), Some("GitLab project 7 job 99"));
        assert_eq!(told(&[("TRAVIS_JOB_ID", "5")]).as_deref(), Some("Travis job 5"));
        assert_eq!(told(&[("CI", "true")]), None);
    }
}
