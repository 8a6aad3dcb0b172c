//! From a host of the inventory to the machines that are connected to one after the other.

use std::path::PathBuf;

use toril_inventory::Ssh;

use super::super::Options;
use super::super::error::ConnectError;
use super::super::user::login_name;
use super::config::Config;
use super::known_hosts::{Known, name};
use super::rekey::Rekey;
use super::tokens::{Tokens, home};

/// Jump hosts may have jump hosts of their own, but not without end.
const MOST_HOPS: usize = 8;
/// The known_hosts files of all users.
const GLOBAL: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];

/// A machine on the way, the host itself included.
#[derive(Debug, Clone)]
pub(super) struct Hop {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    /// Private key files, in the order in which they are offered.
    pub(super) identities: Vec<PathBuf>,
    /// The files were named: one that is missing is an error.
    pub(super) named: bool,
    /// Keys of the agent are offered only if they are those of the files.
    pub(super) only: bool,
    pub(super) known_hosts: Vec<PathBuf>,
    /// The one to which new keys are added.
    pub(super) learns: Option<PathBuf>,
    /// The known_hosts file was named for this host, or it is wanted so: no key is asked about.
    pub(super) strict: bool,
    /// Fingerprints that take the place of known_hosts.
    pub(super) pins: Vec<String>,
    /// Fingerprints that are right beside those.
    pub(super) also: Vec<String>,
    /// The socket of the agent that holds keys.
    pub(super) agent: Option<PathBuf>,
    /// It is on the way to the host that is meant.
    pub(super) is_jump: bool,
    pub(super) rekey: Rekey,
}

/// How a host is reached by the built-in client, as far as is known without connecting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `user@host port N` of the jump hosts and then of the host.
    pub hops: Vec<String>,
    /// The host as known_hosts files call it.
    pub name: String,
    /// What vouches for the host's key: a pin, or a line of a known_hosts file.
    pub known: Option<String>,
}

impl Hop {
    /// Host and port as messages say them.
    pub(super) fn place(&self) -> String {
        format!("{} port {}", self.host, self.port)
    }

    /// The host's name in known_hosts.
    pub(super) fn name(&self) -> String {
        name(&self.host, self.port)
    }

    pub(super) fn known(&self) -> Result<Known, ConnectError> {
        Known::read(&self.known_hosts, &self.name())
    }
}

/// The route to a host. Nothing is connected to.
///
/// # Errors
/// [`ConnectError`] when ssh's configuration or known_hosts cannot be read, or says what only OpenSSH can do.
pub fn route(ssh: &Ssh, options: &Options) -> Result<Route, ConnectError> {
    let hops = hops(ssh, options)?;
    let last = hops.last();
    let known = match last {
        Some(hop) if !hop.pins.is_empty() => Some(format!("pinned: {}", hop.pins.join(", "))),
        Some(hop) => hop.known()?.place().map(str::to_owned),
        None => None,
    };
    let name = last.map_or_else(String::new, Hop::name);
    Ok(Route { hops: hops.iter().map(|hop| format!("{}@{}", hop.user, hop.place())).collect(), name, known })
}

/// The jump hosts in order, and the host.
pub(super) fn hops(ssh: &Ssh, options: &Options) -> Result<Vec<Hop>, ConnectError> {
    let mut way = Way { hops: Vec::new(), options };
    way.add(ssh, &Config::of_options(&options.ssh_options)?, true)?;
    let mut hops = way.hops;
    if let Some((host, jumps)) = hops.split_last_mut() {
        if !options.host_keys.is_empty() {
            host.pins.clone_from(&options.host_keys);
        }
        for jump in jumps {
            jump.is_jump = true;
            jump.also.clone_from(&options.host_keys);
        }
    }
    Ok(hops)
}

struct Way<'o> {
    hops: Vec<Hop>,
    options: &'o Options,
}

impl Way<'_> {
    fn add(&mut self, ssh: &Ssh, given: &Config, with_jumps: bool) -> Result<(), ConnectError> {
        if self.hops.len() >= MOST_HOPS {
            return Err(ConnectError::NeedsOpenssh {
                what: format!("a way over more than {MOST_HOPS} jump hosts"),
            });
        }
        let mut config = given.clone();
        match (&ssh.config, home()) {
            (Some(file), _) => config.add_file(file, &ssh.host)?,
            (None, Some(home)) => config.add_users_file(&home.join(".ssh/config"), &ssh.host)?,
            (None, None) => {}
        }
        let jumps = config.jump.as_ref().filter(|jump| with_jumps && !jump.eq_ignore_ascii_case("none"));
        for (number, jump) in jumps.iter().flat_map(|jumps| jumps.split(',')).enumerate() {
            let text = jump.trim().trim_start_matches("ssh://");
            let jump = Ssh::parse(text)
                .map_err(|error| ConnectError::Other { lines: format!("the jump host {error}") })?;
            let jump = self.known(Ssh { config: ssh.config.clone(), ..jump });
            // As in OpenSSH, the first one may be behind others.
            self.add(&jump, &Config { rekey: given.rekey, ..Config::default() }, number == 0)?;
        }
        self.hops.push(hop(ssh, given, config)?);
        Ok(())
    }

    /// With what the inventory says of it, where that has a host of this name. What is named with it is stronger.
    fn known(&self, jump: Ssh) -> Ssh {
        match self.options.machines.get(&jump.host) {
            Some(machine) => Ssh {
                user: jump.user.or(machine.user.clone()),
                port: jump.port.or(machine.port),
                ..machine.clone()
            },
            None => jump,
        }
    }
}

/// `given`: what the command line says, which is stronger than the host's entry; `config` is that and what the files say.
fn hop(ssh: &Ssh, given: &Config, config: Config) -> Result<Hop, ConnectError> {
    let host = config.real_name(&ssh.host);
    let user = given.user.clone().or(ssh.user.clone()).or(config.user).or_else(login_name);
    let user = user.ok_or_else(|| ConnectError::NoLogin { host: ssh.host.clone() })?;
    let port = given.port.or(ssh.port).or(config.port).unwrap_or(22);
    let tokens = Tokens { given: &ssh.host, host: &host, port, user: &user };
    let files = |names: &[String]| -> Result<Vec<PathBuf>, ConnectError> {
        names.iter().filter(|name| !is_none(name)).map(|name| tokens.file(name)).collect()
    };
    let (identities, named) = match &ssh.identity {
        Some(file) => (vec![file.clone()], true),
        None if config.identities.is_empty() => (of_home(&["id_ed25519", "id_ecdsa", "id_rsa"]), false),
        None => (files(&config.identities)?, false),
    };
    let mut known_hosts = match (&ssh.known_hosts, &config.known_hosts) {
        (Some(file), _) => vec![file.clone()],
        (None, Some(names)) => files(names)?,
        (None, None) => of_home(&["known_hosts", "known_hosts2"]),
    };
    let learns = known_hosts.first().cloned();
    if ssh.known_hosts.is_none() {
        known_hosts.extend(match &config.global_known_hosts {
            Some(names) => files(names)?,
            None => GLOBAL.map(PathBuf::from).into(),
        });
    }
    Ok(Hop {
        port,
        only: named || config.identities_only,
        named,
        identities,
        known_hosts,
        learns,
        strict: ssh.known_hosts.is_some() || config.strict == Some(true),
        agent: agent(config.agent.as_deref(), &tokens)?,
        pins: ssh.host_key.clone(),
        also: Vec::new(),
        is_jump: false,
        rekey: config.rekey.unwrap_or_default(),
        host,
        user,
    })
}

/// The agent's socket: what `IdentityAgent` says of it, else what the environment says.
fn agent(named: Option<&str>, tokens: &Tokens) -> Result<Option<PathBuf>, ConnectError> {
    match named {
        Some(name) if is_none(name) => Ok(None),
        Some(name) if name.starts_with('$') => {
            Err(ConnectError::NeedsOpenssh { what: format!("IdentityAgent {name}") })
        }
        Some(name) if name != "SSH_AUTH_SOCK" => tokens.file(name).map(Some),
        _ => Ok(std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(PathBuf::from)),
    }
}

/// Files of the user's own.
fn of_home(names: &[&str]) -> Vec<PathBuf> {
    let directory = home().map(|home| home.join(".ssh"));
    directory.iter().flat_map(|directory| names.iter().map(|name| directory.join(name))).collect()
}

/// Whether it stands for no file at all.
fn is_none(name: &str) -> bool {
    name.eq_ignore_ascii_case("none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops_of(config: &str, ssh: Ssh, ssh_options: &[&str]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        std::fs::write(&file, config).unwrap();
        let ssh_options = ssh_options.iter().map(|option| (*option).to_owned()).collect();
        let options = Options { ssh_options, ..Options::default() };
        route(&Ssh { config: Some(file), ..ssh }, &options).unwrap().hops
    }

    #[test]
    fn an_option_is_stronger_than_the_hosts_entry_and_that_than_the_configuration() {
        let entry = Ssh { host: "h".into(), user: Some("entry".into()), port: Some(1), ..Ssh::default() };
        let config = "User file\nPort 2\n";
        assert_eq!(hops_of(config, entry.clone(), &["User=option", "Port=3"]), ["option@h port 3"]);
        assert_eq!(hops_of(config, entry, &[]), ["entry@h port 1"]);
        let bare = Ssh { host: "h".into(), ..Ssh::default() };
        assert_eq!(hops_of(config, bare.clone(), &["Port=3"]), ["file@h port 3"]);
        assert_eq!(hops_of(config, bare, &[]), ["file@h port 2"]);
    }

    #[test]
    fn no_proxy_is_one_that_no_jump_host_takes_the_place_of() {
        let ssh = Ssh { host: "h".into(), user: Some("u".into()), ..Ssh::default() };
        let jumps = "Host h*\n ProxyJump gate\n";
        let direct = format!("Host h\n ProxyCommand none\n{jumps} ProxyCommand nc %h %p\n");
        assert_eq!(hops_of(&direct, ssh.clone(), &[]), ["u@h port 22"]);
        assert_eq!(hops_of(jumps, ssh.clone(), &["ProxyCommand=none"]), ["u@h port 22"]);
        let late = format!("{jumps}Host h\n ProxyCommand none\n");
        assert_eq!(hops_of(&late, ssh, &["User=v"]).len(), 2, "the first one counts");
    }
}
