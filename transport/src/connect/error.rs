use std::fmt;
use std::io;
use std::path::PathBuf;

/// A host key as it was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedKey {
    /// E.g. `ssh-ed25519`.
    pub kind: String,
    /// E.g. `SHA256:…`.
    pub fingerprint: String,
}

impl fmt::Display for OfferedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.fingerprint)
    }
}

/// Why a host could not be reached. The message says what happened, [`ConnectError::remedy`] what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no ssh program.
    #[error("the program ssh was not found on this machine")]
    NoSsh,
    /// The control socket has no place.
    #[error("no directory for ssh's control socket could be made in {directory}")]
    ControlDirectory {
        /// Where it was tried.
        directory: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Another program makes the same standing connection, and does not get done.
    #[error(
        "the standing connection to {host} is still being made by another program{}",
        holder.map(|id| format!(", process {id}")).unwrap_or_default()
    )]
    InTheMaking {
        /// The host.
        host: String,
        /// The other program's process, where it is known.
        holder: Option<u32>,
    },
    /// The private key that was named is not there.
    #[error("the private key {} cannot be read", file.display())]
    Identity {
        /// Its file.
        file: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The ssh program could not be started, or not be waited for.
    #[error("ssh could not be run")]
    Run(#[source] io::Error),
    /// The name has no address.
    #[error("the name {name} has no address: {reason}")]
    NameNotResolved {
        /// The name.
        name: String,
        /// The resolver's reason.
        reason: String,
    },
    /// Nothing listens there.
    #[error("{place} refused the connection: nothing listens there")]
    Refused {
        /// Host and port.
        place: String,
    },
    /// No answer.
    #[error("{place} did not answer in time{during}")]
    TimedOut {
        /// Host and port.
        place: String,
        /// At what point, possibly empty.
        during: &'static str,
    },
    /// The network has no way to it.
    #[error("there is no way to {place}: {reason}")]
    NoRoute {
        /// Host and port.
        place: String,
        /// The system's reason.
        reason: String,
    },
    /// The host's key is not known.
    #[error("the host's key is not known{}", key.as_ref().map(|key| format!(": it offers {key}")).unwrap_or_default())]
    UnknownHostKey {
        /// The key that it offers.
        key: Option<OfferedKey>,
        /// By what it is accepted, once it was compared.
        by: String,
    },
    /// The host's key is another one than before.
    #[error(
        "THE HOST'S KEY HAS CHANGED. Either the host was installed anew, or somebody else answers in its place. Nothing was sent to it.\nit offers {}\nknown is another one: {}",
        key.as_ref().map_or_else(|| "an unknown key".to_owned(), ToString::to_string),
        known.as_deref().unwrap_or("in the known_hosts file")
    )]
    HostKeyChanged {
        /// The key that it offers now.
        key: Option<OfferedKey>,
        /// File and line of the key that was known.
        known: Option<String>,
        /// The command that forgets the old key.
        forget: Option<String>,
    },
    /// The host's key is none of those that were pinned.
    #[error(
        "THE HOST'S KEY IS NOT THE ONE THAT IS PINNED. Nothing was sent to it.\nit offers {key}\npinned: {pins}"
    )]
    HostKeyNotPinned {
        /// The key that it offers.
        key: OfferedKey,
        /// The fingerprints that would do.
        pins: String,
    },
    /// The host's key was revoked.
    #[error("THE HOST'S KEY IS REVOKED ({place}). Nothing was sent to it.\nit offers {key}")]
    HostKeyRevoked {
        /// The key that it offers.
        key: OfferedKey,
        /// File and line that revoke it.
        place: String,
    },
    /// The host's key would have to be vouched for by an authority.
    #[error(
        "the host's key is vouched for only by an authority ({place}), which the built-in client does not check: it offers {key}"
    )]
    HostAuthority {
        /// The key that it offers.
        key: OfferedKey,
        /// File and line of the authority.
        place: String,
    },
    /// No safe way to speak with the host.
    #[error(
        "{place} and the built-in client have no {kind} algorithm in common that is safe enough\nhere: {ours}\nthere: {theirs}"
    )]
    NoAlgorithm {
        /// Host and port.
        place: String,
        /// What for.
        kind: String,
        /// What this side offers.
        ours: String,
        /// What the host offers.
        theirs: String,
    },
    /// A known_hosts file could not be read or written.
    #[error("the known_hosts file {} cannot be used", file.display())]
    KnownHosts {
        /// The file.
        file: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The user's ssh configuration could not be read.
    #[error("ssh's configuration {} cannot be read", file.display())]
    Configuration {
        /// The file.
        file: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something that only OpenSSH can do.
    #[error("the built-in ssh client cannot do this: {what}")]
    NeedsOpenssh {
        /// What, and where it stands.
        what: String,
    },
    /// Something that only the built-in client can do.
    #[error("OpenSSH was chosen, and {what} is only for the built-in client")]
    OnlyRussh {
        /// What.
        what: &'static str,
    },
    /// An option that the built-in client does not know.
    #[error("the built-in ssh client does not know the option `{option}`")]
    Option {
        /// The option as it was given.
        option: String,
    },
    /// A private key is not usable.
    #[error("{key} cannot be used: {reason}")]
    Key {
        /// Its file, or where else it is.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is not the host that could not be reached, but one on the way to it.
    #[error("on the way, the jump host {place}")]
    JumpHost {
        /// Host and port.
        place: String,
        /// Why.
        #[source]
        error: Box<ConnectError>,
    },
    /// Nothing says as whom to log in.
    #[error(
        "nothing says as whom to log in to {host}: neither USER nor LOGNAME is set, and the user database knows no name for this user"
    )]
    NoLogin {
        /// The host.
        host: String,
    },
    /// The host did not accept any key.
    #[error(
        "{who}: permission denied; the host accepts: {methods}; {}{}",
        offered_text(offered),
        notes_text(notes)
    )]
    PermissionDenied {
        /// Login and host.
        who: String,
        /// The methods that the host accepts.
        methods: String,
        /// The keys that were offered.
        offered: Vec<String>,
        /// What is wrong with keys on this side.
        notes: Vec<String>,
    },
    /// The host hung up during the handshake or the login.
    #[error(
        "the host closed the connection during the {}{}: {line}",
        if *before_login { "handshake" } else { "login" },
        if *tries > 1 { format!(", {tries} times") } else { String::new() }
    )]
    Closed {
        /// What ssh said.
        line: String,
        /// Whether nobody had begun to log in, so that it may be tried again.
        before_login: bool,
        /// How often it was tried.
        tries: u32,
    },
    /// Something else listens there.
    #[error("what answers at {place} is no ssh server")]
    NoServer {
        /// Host and port.
        place: String,
    },
    /// Anything else.
    #[error("ssh could not connect:\n{lines}")]
    Other {
        /// The last lines that ssh wrote.
        lines: String,
    },
}

impl ConnectError {
    /// What to try.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NoSsh => "apt install openssh-client".into(),
            Self::ControlDirectory { .. } => {
                "set XDG_RUNTIME_DIR or TMPDIR to a directory that is writable and has a short path".into()
            }
            Self::InTheMaking { .. } => {
                "see whether it asks something on its terminal, or leave no connection open (--standing 0s)".into()
            }
            Self::Identity { .. } => "name the file of a private key that you may read".into(),
            Self::Run(_) => "see whether `ssh -V` works".into(),
            Self::NameNotResolved { .. } => "check the name; `ssh -G NAME` shows what ssh makes of it".into(),
            Self::Refused { .. } => "check the port, and that sshd runs on the host".into(),
            Self::TimedOut { .. } => "check the address, that the host is up, and firewalls in between".into(),
            Self::NoRoute { .. } => "check the address, and this machine's network".into(),
            Self::UnknownHostKey { by, .. } => format!(
                "compare the fingerprint with the one that the provider's console shows (on the host: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then accept the key with: {by}"
            ),
            Self::HostKeyChanged { forget, .. } => {
                let forget = forget.as_ref().map_or_else(String::new, |command| format!(" with: {command}"));
                format!(
                    "only if you know why it changed, and the provider's console shows the same fingerprint: forget the old key{forget}"
                )
            }
            Self::HostKeyNotPinned { .. } => {
                "only if the provider's console shows the same fingerprint: pin this one (host-key in its inventory entry, --host-key)".into()
            }
            Self::HostKeyRevoked { .. } => "find out why it was revoked; the host needs a new key".into(),
            Self::HostAuthority { .. } => {
                "use OpenSSH (--transport openssh), or pin the host's own key (host-key in its inventory entry, --host-key)".into()
            }
            Self::NoAlgorithm { theirs, .. } if theirs.split(", ").any(|name| ONLY_OPENSSH.contains(&name)) => {
                "use OpenSSH, which has one of those (--transport openssh)".into()
            }
            Self::NoAlgorithm { .. } => "update sshd on the host, or mend its configuration".into(),
            Self::KnownHosts { .. } | Self::Configuration { .. } => "see who may read and write the file".into(),
            Self::NeedsOpenssh { .. } => {
                "use OpenSSH (--transport openssh, apt install openssh-client), or change ssh's configuration".into()
            }
            Self::OnlyRussh { .. } => {
                "leave the choice out (--transport, `transport`), or use --transport russh; for OpenSSH, a key is named by identity or held by an agent, and a host key stands in known_hosts".into()
            }
            Self::Option { .. } => {
                "it knows HostName, Port, User, IdentityFile, IdentitiesOnly, IdentityAgent, UserKnownHostsFile, GlobalKnownHostsFile, StrictHostKeyChecking=yes, ProxyJump, ProxyCommand=none and RekeyLimit; for others use --transport openssh".into()
            }
            Self::Key { .. } => "look at the key: `ssh-keygen -yf FILE` reads it and shows its public half".into(),
            // That option names the keys of the host behind it, which would be refused.
            Self::JumpHost { error, .. } => error.remedy().replace(", --host-key)", ")"),
            Self::NoLogin { .. } => "name the user (USER@HOST, or `user` in the inventory)".into(),
            Self::PermissionDenied { .. } => {
                "check the login name and the key (identity); a key with a passphrase must be in ssh-agent (ssh-add), or its passphrase in TORIL_SSH_PASSPHRASE"
                    .into()
            }
            Self::Closed { .. } => {
                "try again; if it persists, look at the host's sshd log: MaxStartups, a ban (fail2ban), or missing host keys".into()
            }
            Self::NoServer { .. } => "check the port; `ssh -v` by hand shows what answers".into(),
            Self::Other { .. } => "try the same connection with ssh -v by hand".into(),
        }
    }
}

/// What OpenSSH takes by default, and the built-in client does not have.
const ONLY_OPENSSH: [&str; 6] = [
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",
    "umac-64-etm@openssh.com",
    "umac-128-etm@openssh.com",
    "umac-64@openssh.com",
    "umac-128@openssh.com",
];

fn offered_text(offered: &[String]) -> String {
    if offered.is_empty() {
        "no key was offered".to_owned()
    } else {
        format!("offered were: {}", offered.join(", "))
    }
}

fn notes_text(notes: &[String]) -> String {
    notes.iter().map(|note| format!("; {note}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_jump_host_no_remedy_names_what_makes_the_host_behind_it_refused() {
        let key = || OfferedKey { kind: "ssh-ed25519".into(), fingerprint: "SHA256:x".into() };
        for error in [
            ConnectError::HostKeyNotPinned { key: key(), pins: "SHA256:y".into() },
            ConnectError::HostAuthority { key: key(), place: "f, line 1".into() },
        ] {
            assert!(error.remedy().contains("host-key in its inventory entry, --host-key"), "{error}");
            let jump = ConnectError::JumpHost { place: "gate port 22".into(), error: error.into() };
            let remedy = jump.remedy();
            assert!(remedy.ends_with("(host-key in its inventory entry)"), "{remedy}");
        }
    }
}
