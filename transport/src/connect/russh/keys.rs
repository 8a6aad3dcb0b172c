//! Private keys: of files, of the environment, and of an agent.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKey, PublicKey, decode_secret_key};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::super::error::ConnectError;
use super::ask;
use super::locked::Locked;
use super::route::Hop;
use super::secrets::{self, KEY_VARIABLE, PASSPHRASE_VARIABLE};

/// How often a passphrase is asked for.
const TRIES: usize = 3;

pub(super) type Agent = AgentClient<UnixStream>;

/// A key that may be offered, and how it is called in messages.
pub(super) enum Offer {
    Own { label: String, key: Arc<PrivateKey> },
    OfAgent { label: String, key: PublicKey },
    Locked(Locked),
}

/// The keys for a machine.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) offers: Vec<Offer>,
    pub(super) agent: Option<Agent>,
    /// What is wrong with keys that are not offered.
    pub(super) notes: Vec<String>,
}

impl Keys {
    /// Gathers them. `interactive`: a passphrase may be asked for. `limit`: how long the agent may take.
    pub(super) async fn gather(hop: &Hop, interactive: bool, limit: Duration) -> Result<Keys, ConnectError> {
        let mut keys = Keys::default();
        if let Some(text) = secrets::key().filter(|_| !hop.named) {
            let name = format!("the key in {KEY_VARIABLE}");
            let locked = Locked { name, text, public: None };
            match locked.open(interactive).await {
                Ok(Some(key)) => keys.own(&locked.name, key),
                Ok(None) => return Err(unusable(&locked.name, "it has a passphrase")),
                Err(reason) => return Err(unusable(&locked.name, &reason)),
            }
            return Ok(keys);
        }
        let held = keys.ask_agent(hop.agent.as_deref(), limit).await;
        let mut offered = Vec::new();
        for file in &hop.identities {
            keys.add_file(file, hop, &held, interactive, &mut offered).await?;
        }
        // As in OpenSSH: those of the agent that the configuration names come first, since a host takes few that it does
        // not want; then the agent's others, which cost nobody a passphrase.
        let (mut first, own): (Vec<Offer>, Vec<Offer>) = std::mem::take(&mut keys.offers)
            .into_iter()
            .partition(|offer| matches!(offer, Offer::OfAgent { .. }));
        if !hop.only {
            let others = held
                .into_iter()
                .filter(|(key, _)| !offered.iter().any(|named| named.key_data() == key.key_data()));
            first.extend(others.map(|(key, comment)| Offer::OfAgent { label: label(&comment, &key), key }));
        }
        // Those last that may cost somebody a passphrase.
        let (locked, own): (Vec<Offer>, Vec<Offer>) =
            own.into_iter().partition(|offer| matches!(offer, Offer::Locked(_)));
        keys.offers = first.into_iter().chain(own).chain(locked).collect();
        Ok(keys)
    }

    fn own(&mut self, name: &str, key: impl Into<Arc<PrivateKey>>) {
        let key = key.into();
        self.offers.push(Offer::Own { label: label(name, key.public_key()), key });
    }

    /// The keys that an agent holds, if there is one.
    async fn ask_agent(&mut self, socket: Option<&Path>, limit: Duration) -> Vec<(PublicKey, String)> {
        let Some(socket) = socket else { return Vec::new() };
        let asked = async {
            let mut agent = AgentClient::connect_uds(socket).await?;
            let identities = agent.request_identities().await?;
            Ok::<_, russh::keys::Error>((agent, identities))
        };
        let answered = match timeout(limit, asked).await {
            Ok(answered) => answered.map_err(|error| error.to_string()),
            Err(_) => Err("no word in time".into()),
        };
        match answered {
            Ok((agent, identities)) => {
                self.agent = Some(agent);
                let keys = identities.into_iter().filter_map(|identity| match identity {
                    AgentIdentity::PublicKey { key, comment } => Some((key, comment)),
                    AgentIdentity::Certificate { .. } => None,
                });
                keys.collect()
            }
            Err(error) => {
                self.notes.push(format!("the agent at {} did not answer: {error}", socket.display()));
                Vec::new()
            }
        }
    }

    async fn add_file(
        &mut self,
        file: &Path,
        hop: &Hop,
        held: &[(PublicKey, String)],
        interactive: bool,
        offered: &mut Vec<PublicKey>,
    ) -> Result<(), ConnectError> {
        let text = match fs::read_to_string(file).map(Zeroizing::new) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !hop.named => {
                // Its public half alone says which of the agent's keys is meant.
                self.add_held(file, "", held, offered);
                return Ok(());
            }
            Err(source) => return Err(ConnectError::Identity { file: file.to_owned(), source }),
        };
        let name = file.display().to_string();
        // An agent that holds it has its passphrase already.
        if self.add_held(file, &text, held, offered) {
            return Ok(());
        }
        if is_open(file) {
            self.notes.push(format!("{name} can be read by others, so it is not used (chmod 600 {name})"));
            return Ok(());
        }
        match decode_secret_key(&text, None) {
            Ok(key) => self.own(&name, key),
            Err(error) if !is_encrypted(&text, &error) => return self.is_unusable(hop, &name, &words(error)),
            Err(_) if interactive || secrets::passphrase().is_some() => {
                let public = public_half(file, &text);
                self.offers.push(Offer::Locked(Locked { name, text, public }));
            }
            Err(_) => self.notes.push(format!(
                "{name} has a passphrase: put it into {PASSPHRASE_VARIABLE}, or the key into ssh-agent"
            )),
        }
        Ok(())
    }

    /// A key that was named must be usable; of another one it is only told.
    pub(super) fn is_unusable(&mut self, hop: &Hop, name: &str, reason: &str) -> Result<(), ConnectError> {
        if hop.named {
            return Err(unusable(name, reason));
        }
        self.notes.push(format!("{name} cannot be used: {reason}"));
        Ok(())
    }

    /// Whether the agent holds the key of this file, and is to sign with it.
    fn add_held(
        &mut self,
        file: &Path,
        text: &str,
        held: &[(PublicKey, String)],
        offered: &mut Vec<PublicKey>,
    ) -> bool {
        let public = public_half(file, text);
        let same = |key: &PublicKey| held.iter().find(|(held, _)| held.key_data() == key.key_data());
        let Some((key, comment)) = public.as_ref().and_then(same) else { return false };
        offered.push(key.clone());
        self.offers.push(Offer::OfAgent { label: label(comment, key), key: key.clone() });
        true
    }
}

fn unusable(key: &str, reason: &str) -> ConnectError {
    ConnectError::Key { key: key.to_owned(), reason: reason.to_owned() }
}

fn words(error: russh::keys::Error) -> String {
    match error {
        russh::keys::Error::CouldNotReadKey => {
            "it is no private key in OpenSSH's format or PEM (`ssh-keygen -p` converts one)".to_owned()
        }
        error => error.to_string(),
    }
}

/// A key's text as a key; `None`: it needs a passphrase that nobody gives.
pub(super) async fn open(text: &str, name: &str, interactive: bool) -> Result<Option<PrivateKey>, String> {
    match decode_secret_key(text, None) {
        Ok(key) => return Ok(Some(key)),
        Err(error) if is_encrypted(text, &error) => {}
        Err(error) => return Err(words(error)),
    }
    if let Some(passphrase) = secrets::passphrase() {
        return decode_secret_key(text, Some(&passphrase))
            .map(Some)
            .map_err(|_| format!("the passphrase in {PASSPHRASE_VARIABLE} does not open it"));
    }
    if !interactive {
        return Ok(None);
    }
    for _ in 0..TRIES {
        let passphrase = ask::passphrase(name.to_owned()).await;
        let passphrase =
            passphrase.map_err(|error| format!("its passphrase cannot be asked for: {error}"))?;
        if let Ok(key) = decode_secret_key(text, Some(&passphrase)) {
            return Ok(Some(key));
        }
    }
    Err("none of the passphrases opens it".into())
}

fn is_encrypted(text: &str, error: &russh::keys::Error) -> bool {
    matches!(error, russh::keys::Error::KeyIsEncrypted)
        || text.contains("BEGIN ENCRYPTED PRIVATE KEY")
        || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// Of the text, where its format shows it or it is one itself, else of the file beside it.
fn public_half(file: &Path, text: &str) -> Option<PublicKey> {
    let beside = || {
        let mut path = file.as_os_str().to_owned();
        path.push(".pub");
        russh::keys::load_public_key(path).ok()
    };
    let private = PrivateKey::from_openssh(text).ok().map(|key| key.public_key().clone());
    private.or_else(|| PublicKey::from_openssh(text).ok()).or_else(beside)
}

/// As OpenSSH judges it: others must not be able to read one's key.
fn is_open(file: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    fs::metadata(file).is_ok_and(|data| data.uid() == me && data.mode() & 0o077 != 0)
}

pub(super) fn label(name: &str, key: &PublicKey) -> String {
    format!("{name} {} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use toril_inventory::Ssh;

    use super::super::super::Options;
    use super::super::route::hops;
    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn an_agent_that_says_nothing_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, config) = (directory.path().join("agent"), directory.path().join("config"));
        let _silent = UnixListener::bind(&socket).unwrap();
        let text = format!("IdentityAgent {}\nIdentityFile none\n", socket.display());
        fs::write(&config, text).unwrap();
        let ssh = Ssh { host: "h".into(), user: Some("u".into()), config: Some(config), ..Ssh::default() };
        let hop = hops(&ssh, &Options::default()).unwrap().remove(0);
        let keys = Keys::gather(&hop, true, Duration::from_secs(75)).await.unwrap();
        assert!(keys.agent.is_none() && keys.offers.is_empty());
        assert!(keys.notes[0].contains("did not answer: no word in time"), "{:?}", keys.notes);
    }
}
