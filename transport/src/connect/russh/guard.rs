//! What the library asks and tells while a connection is made and held: above all, whether a host's key is right.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::Names;
use russh::client::{DisconnectReason, Handler, Session};
use russh::keys::{HashAlg, PublicKey, PublicKeyOrCertificate};

use super::super::error::{ConnectError, OfferedKey};
use super::known_hosts::{Known, Verdict};

/// What was seen of a connection so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) key_exchange: Option<String>,
    pub(super) host_key: Option<OfferedKey>,
    /// The key itself, to be learnt.
    pub(super) offered: Option<PublicKey>,
    pub(super) server: Option<String>,
    /// Why the connection has ended.
    pub(super) end: Option<String>,
}

pub(super) type Record = Arc<Mutex<Seen>>;

/// The record, whatever happened to who wrote it.
pub(super) fn look(record: &Record) -> MutexGuard<'_, Seen> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Judges a host's key, and keeps record.
pub(super) struct Guard {
    pub(super) known: Known,
    /// These alone are right, if there are any.
    pub(super) pins: Vec<String>,
    /// These are right in any case.
    pub(super) also: Vec<String>,
    /// This one is right where no other is known.
    pub(super) accepted: Option<PublicKey>,
    /// The host as known_hosts calls it.
    pub(super) name: String,
    /// Another host lies behind it, of which the command line's fingerprints are.
    pub(super) is_jump: bool,
    pub(super) record: Record,
}

/// Why a connection is not made or has ended.
#[derive(Debug)]
pub(super) enum Refusal {
    Host(Box<ConnectError>),
    Ssh(russh::Error),
}

impl From<russh::Error> for Refusal {
    fn from(error: russh::Error) -> Refusal {
        Refusal::Ssh(error)
    }
}

impl Guard {
    fn judge(&self, key: &PublicKey, offered: OfferedKey) -> Result<(), ConnectError> {
        if self.also.contains(&offered.fingerprint) {
            return Ok(());
        }
        let key_seen = Some(offered.clone());
        if !self.pins.is_empty() {
            return match self.pins.contains(&offered.fingerprint) {
                true => Ok(()),
                false => Err(ConnectError::HostKeyNotPinned { key: offered, pins: self.pins.join(", ") }),
            };
        }
        Err(match self.known.judge(key) {
            Verdict::Known => return Ok(()),
            Verdict::Unknown
                if self.accepted.as_ref().is_some_and(|one| one.key_data() == key.key_data()) =>
            {
                return Ok(());
            }
            Verdict::Unknown => {
                let entry = format!("host-key = [\"{}\"] in its inventory entry", offered.fingerprint);
                let by = match self.is_jump {
                    true => format!("{entry}, or its line in known_hosts"),
                    false => format!("{entry}, or --host-key {}", offered.fingerprint),
                };
                ConnectError::UnknownHostKey { key: key_seen, by }
            }
            Verdict::Changed { place, file } => {
                let forget = Some(format!("ssh-keygen -f \"{}\" -R \"{}\"", file.display(), self.name));
                ConnectError::HostKeyChanged { key: key_seen, known: Some(place), forget }
            }
            Verdict::Revoked { place } => ConnectError::HostKeyRevoked { key: offered, place },
            Verdict::Authority { place } => ConnectError::HostAuthority { key: offered, place },
        })
    }
}

impl Handler for Guard {
    type Error = Refusal;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Refusal> {
        // Certificates are not asked for.
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else { return Ok(false) };
        let offered = OfferedKey {
            kind: key.algorithm().to_string(),
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        };
        let mut seen = look(&self.record);
        seen.host_key = Some(offered.clone());
        seen.offered = Some(key.clone());
        drop(seen);
        self.judge(key, offered).map_err(|error| Refusal::Host(error.into())).map(|()| true)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        names: &Names,
        session: &mut Session,
    ) -> Result<(), Refusal> {
        let mut seen = look(&self.record);
        seen.key_exchange = Some(names.kex.as_ref().to_owned());
        let server = String::from_utf8_lossy(session.remote_sshid()).trim().to_owned();
        seen.server = Some(server.trim_start_matches("SSH-2.0-").to_owned());
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Refusal>) -> Result<(), Refusal> {
        let (words, result) = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                (format!("the host said: {}", info.message), Ok(()))
            }
            DisconnectReason::Error(Refusal::Ssh(error)) => (end(&error), Err(Refusal::Ssh(error))),
            DisconnectReason::Error(Refusal::Host(error)) => (error.to_string(), Err(Refusal::Host(error))),
        };
        look(&self.record).end = Some(words);
        result
    }
}

/// Why a connection has ended, in words.
pub(super) fn end(error: &russh::Error) -> String {
    match error {
        russh::Error::HUP | russh::Error::Disconnect => CLOSED.into(),
        russh::Error::IO(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::UnexpectedEof
                    | std::io::ErrorKind::ConnectionReset
                    | std::io::ErrorKind::BrokenPipe
            ) =>
        {
            CLOSED.into()
        }
        russh::Error::KeepaliveTimeout => "the host did not answer any more".into(),
        error => error.to_string(),
    }
}

pub(super) const CLOSED: &str = "it was closed from the other side";
