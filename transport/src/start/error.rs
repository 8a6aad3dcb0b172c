use crate::channel::said;
use crate::hello::HandshakeError;
use crate::image::ImageError;
use crate::process::Exit;

/// Why an agent could not be started. The message says what happened, [`StartError::remedy`] what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The login user is not root, and there is no sudo.
    #[error("root is needed: the login user is not root, and the host has no sudo")]
    NoSudoProgram,
    /// Sudo wants a password and none was given.
    #[error("root is needed: sudo wants a password")]
    PasswordNeeded,
    /// Sudo did not take the password.
    #[error("root is needed: sudo did not accept the password")]
    WrongPassword,
    /// Sudo only works on a terminal.
    #[error("root is needed: sudo refuses to run without a terminal (requiretty)")]
    TtyRequired,
    /// The login user may not become root.
    #[error("root is needed: the login user is not allowed to become root with sudo")]
    NotAllowed,
    /// What arrived on the host is not what was sent.
    #[error(
        "the agent was damaged on its way: the host received a program with the SHA-256 {received}, not {sent}; it was not run"
    )]
    HashMismatch {
        /// Content id that was sent.
        sent: String,
        /// Content id of what arrived.
        received: String,
    },
    /// The upload was incomplete or could not be unpacked.
    #[error("the agent could not be unpacked on the host: {details}")]
    Upload {
        /// What the host said.
        details: String,
    },
    /// The file system is full.
    #[error("there is no space for the agent ({needed} bytes) on the host: {}", space(details))]
    NoSpace {
        /// Size of the agent, in bytes.
        needed: u64,
        /// The line of `df -Pk` about the file system.
        details: String,
    },
    /// The agent's directory or file could not be written.
    #[error("the agent could not be stored on the host: {details}")]
    Write {
        /// What the host said.
        details: String,
    },
    /// The agent's directory belongs to somebody else, can be written by others, or is a link.
    #[error(
        "{directory} on the host is a link, does not belong to root, or can be written by others: no program is run from there"
    )]
    Untrusted {
        /// The directory.
        directory: String,
    },
    /// The agent is there and cannot be executed.
    #[error("the agent is on the host, but it cannot be executed there{}", said(stderr))]
    NotExecutable {
        /// What the host said.
        stderr: String,
    },
    /// The login shell does not let commands be run, or talks without end.
    #[error("the login shell of the host printed {} KiB and did not run the command; it began with:\n{beginning}", super::marker::NOISE >> 10)]
    Noise {
        /// The beginning of it.
        beginning: String,
    },
    /// A step took too long.
    #[error("the host did not answer within {seconds} s while {doing}{}", said(stderr))]
    TimedOut {
        /// What was being done.
        doing: &'static str,
        /// The limit, in seconds.
        seconds: u64,
        /// The last of standard error.
        stderr: String,
    },
    /// The connection was lost, or was not there any more.
    #[error("the connection was lost while the agent was started{}{reason}", if reason.is_empty() { "" } else { ": " })]
    ConnectionLost {
        /// What is known of the reason, possibly nothing.
        reason: String,
    },
    /// The agent ended before it said who it is.
    #[error("the agent did not come up: {exit}{}", said(stderr))]
    Died {
        /// How it ended.
        exit: Exit,
        /// The last of standard error.
        stderr: String,
    },
    /// The two programs do not understand each other.
    #[error(transparent)]
    Handshake(HandshakeError),
    /// This side's program could not be read.
    #[error("the agent could not be prepared")]
    Image(#[from] ImageError),
    /// A process or a channel could not be made on this side.
    #[error("the agent could not be started: {doing} failed")]
    Spawn {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything else.
    #[error("the agent could not be started: {exit}{}", said(output))]
    Other {
        /// How the command ended.
        exit: Exit,
        /// The last of standard error and of standard output.
        output: String,
    },
}

impl StartError {
    /// Whether a program that is damaged may end so.
    pub(crate) fn may_be_damage(&self) -> bool {
        matches!(self, StartError::NotExecutable { .. } | StartError::Died { .. } | StartError::Handshake(_))
    }

    /// What to try, where there is something.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            StartError::NoSudoProgram => "log in as root, or install sudo on the host (apt install sudo)",
            StartError::PasswordNeeded => "pass --ask-sudo-password, or log in as root",
            StartError::WrongPassword => "try again; the password is that of the login user on the host",
            StartError::TtyRequired => {
                "put `Defaults:USER !requiretty` into a file in /etc/sudoers.d on the host (USER is the login user), or log in as root"
            }
            StartError::NotAllowed => "add the login user to the group sudo on the host, or log in as root",
            StartError::HashMismatch { .. }
            | StartError::Upload { .. }
            | StartError::ConnectionLost { .. } => "try again",
            StartError::NoSpace { .. } => "free some space on the host",
            StartError::Write { .. } => "see that the file system of /var/lib/toril is mounted writable",
            StartError::Untrusted { .. } => "find out who made the directory or changed it, and remove it",
            StartError::NotExecutable { .. } => {
                "see that /var/lib/toril is not mounted noexec (findmnt -T /var/lib/toril), and that the host is x86-64 Linux"
            }
            StartError::Noise { .. } => "see what the login user's shell start-up files print",
            StartError::Handshake(_) => "use the same build of toril on both sides",
            _ => return None,
        })
    }
}

/// The line of `df -Pk` in words.
fn space(line: &str) -> String {
    let fields: Vec<&str> = line.split_whitespace().collect();
    match fields[..] {
        [device, .., free, _, mount] => format!("{free} KiB are free on {mount} ({device})"),
        _ => "the file system is full".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named() {
        let error = StartError::NoSpace { needed: 12, details: "tmpfs 1024 1024 0 100% /var/lib".into() };
        assert_eq!(
            error.to_string(),
            "there is no space for the agent (12 bytes) on the host: 0 KiB are free on /var/lib (tmpfs)"
        );
    }
}
