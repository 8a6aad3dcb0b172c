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
        /// The command that shows the key and asks whether to accept it.
        command: String,
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
    /// The host hung up before or during the handshake.
    #[error("the host closed the connection during the handshake: {line}")]
    Closed {
        /// What ssh said.
        line: String,
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
            Self::Identity { .. } => "name the file of a private key that you may read".into(),
            Self::Run(_) => "see whether `ssh -V` works".into(),
            Self::NameNotResolved { .. } => "check the name; `ssh -G NAME` shows what ssh makes of it".into(),
            Self::Refused { .. } => "check the port, and that sshd runs on the host".into(),
            Self::TimedOut { .. } => "check the address, that the host is up, and firewalls in between".into(),
            Self::NoRoute { .. } => "check the address, and this machine's network".into(),
            Self::UnknownHostKey { command, .. } => format!(
                "compare the fingerprint with the one that the provider's console shows (on the host: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then accept the key with: {command}"
            ),
            Self::HostKeyChanged { forget, .. } => {
                let forget = forget.as_ref().map_or_else(String::new, |command| format!(" with: {command}"));
                format!(
                    "only if you know why it changed, and the provider's console shows the same fingerprint: forget the old key{forget}"
                )
            }
            Self::PermissionDenied { .. } => {
                "check the login name and the key (identity); a key with a passphrase must be in ssh-agent (ssh-add)"
                    .into()
            }
            Self::Closed { .. } => {
                "try again; if it persists, look at the host's sshd log: MaxStartups, a ban (fail2ban), or missing host keys".into()
            }
            Self::Other { .. } => "try the same connection with ssh -v by hand".into(),
        }
    }
}

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
