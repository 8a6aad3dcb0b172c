//! Logging in with one key after the other.

use std::sync::Arc;
use std::time::Duration;

use russh::MethodSet;
use russh::client::{AuthResult, Handle};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};

use super::super::error::ConnectError;
use super::clock::Clock;
use super::guard::{CLOSED, Guard};
use super::keys::{Keys, Offer, label};
use super::locked::{Locked, Probe, Probed};
use super::route::Hop;

/// Logs in, and says with which key. `limit`: how long the agent may take to say its keys, and then the login.
pub(super) async fn log_in(
    handle: &mut Handle<Guard>,
    hop: &Hop,
    interactive: bool,
    limit: Duration,
) -> Result<String, ConnectError> {
    let mut keys = Keys::gather(hop, interactive, limit).await?;
    let offers = std::mem::take(&mut keys.offers);
    let clock = Clock::new(limit, hop.place());
    let mut login =
        Login { handle, hop, interactive, clock, keys, rsa: None, methods: None, offered: Vec::new() };
    for offer in offers {
        if let Some(label) = login.offer(offer).await? {
            return Ok(format!("using {label}"));
        }
        if login.handle.is_closed() {
            login.note("the host hung up after these: name the right key (identity)".into());
            break;
        }
    }
    login.end().await
}

struct Login<'h> {
    handle: &'h mut Handle<Guard>,
    hop: &'h Hop,
    interactive: bool,
    clock: Clock,
    keys: Keys,
    /// With what RSA keys sign, once that was asked.
    rsa: Option<Option<HashAlg>>,
    /// What the host accepts.
    methods: Option<MethodSet>,
    /// The labels of the keys that were offered.
    offered: Vec<String>,
}

impl Login<'_> {
    /// Offers a key, and returns its label where the host takes it.
    async fn offer(&mut self, offer: Offer) -> Result<Option<String>, ConnectError> {
        match offer {
            Offer::Own { label, key } => self.offer_own(label, key).await,
            Offer::OfAgent { label, key } => self.offer_of_agent(label, key).await,
            Offer::Locked(locked) => self.offer_locked(&locked).await,
        }
    }

    async fn offer_own(
        &mut self,
        label: String,
        key: Arc<PrivateKey>,
    ) -> Result<Option<String>, ConnectError> {
        let Some(hash) = self.hash(&label, key.algorithm()).await? else { return Ok(None) };
        let key = PrivateKeyWithHashAlg::new(key, hash.0);
        let asked = self.handle.authenticate_publickey(&self.hop.user, key);
        let result = self.clock.within(asked).await?;
        Ok(self.judge(label, result.map_err(|error| error.to_string())))
    }

    async fn offer_of_agent(
        &mut self,
        label: String,
        key: PublicKey,
    ) -> Result<Option<String>, ConnectError> {
        let Some(hash) = self.hash(&label, key.algorithm()).await? else { return Ok(None) };
        let Some(agent) = &mut self.keys.agent else { return Ok(None) };
        let asked = self.handle.authenticate_publickey_with(&self.hop.user, key, hash.0, agent);
        let result = self.clock.within(asked).await?;
        Ok(self.judge(label, result.map_err(|error| error.to_string())))
    }

    /// Opens a key, once the host has said that it would take it, as far as that can be asked without its passphrase.
    async fn offer_locked(&mut self, locked: &Locked) -> Result<Option<String>, ConnectError> {
        if let Some(public) = &locked.public {
            let label = label(&locked.name, public);
            let Some(hash) = self.hash(&label, public.algorithm()).await? else { return Ok(None) };
            let (user, mut probe) = (&self.hop.user, Probe);
            let asked = self.handle.authenticate_publickey_with(user, public.clone(), hash.0, &mut probe);
            match self.clock.within(asked).await? {
                Err(Probed::Wanted) => {}
                Err(Probed::Failed) => return Ok(self.judge(label, Err(CLOSED.into()))),
                Ok(result) => return Ok(self.judge(label, Ok(result))),
            }
        }
        match locked.open(self.interactive).await {
            Ok(Some(key)) => self.offer_own(label(&locked.name, key.public_key()), key).await,
            Ok(None) => Ok(None),
            Err(reason) => self.keys.is_unusable(self.hop, &locked.name, &reason).map(|()| None),
        }
    }

    /// What the host says to a key: its label where it takes it.
    fn judge(&mut self, label: String, result: Result<AuthResult, String>) -> Option<String> {
        self.offered.push(label.clone());
        match result {
            Ok(AuthResult::Success) => return Some(label),
            Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
                if partial_success {
                    self.note(format!("{label} was accepted, and the host wants more than a key"));
                }
                self.methods = Some(remaining_methods).filter(|methods| !methods.is_empty());
            }
            Err(error) => self.note(format!("{label}: {error}")),
        }
        None
    }

    /// With what a key signs; `None`: it must not be offered.
    async fn hash(&mut self, label: &str, sort: Algorithm) -> Result<Option<Hash>, ConnectError> {
        if !sort.is_rsa() {
            return Ok(Some(Hash(None)));
        }
        if self.rsa.is_none() {
            self.rsa = Some(match self.clock.within(self.handle.best_supported_rsa_hash()).await? {
                Ok(Some(hash)) => hash,
                // It does not say: every sshd of the last ten years knows this one.
                _ => Some(HashAlg::Sha512),
            });
        }
        let hash = self.rsa.flatten();
        if hash.is_none() {
            self.note(format!("{label} is not offered: the host would have it sign with SHA-1"));
        }
        Ok(hash.map(|hash| Hash(Some(hash))))
    }

    fn note(&mut self, text: String) {
        self.keys.notes.push(text);
    }

    /// None of the keys was taken.
    async fn end(mut self) -> Result<String, ConnectError> {
        if self.methods.is_none() && !self.handle.is_closed() {
            // Only to learn what the host would accept.
            let asked = self.handle.authenticate_none(&self.hop.user);
            match self.clock.within(asked).await? {
                Ok(AuthResult::Success) => return Ok("without a key".into()),
                Ok(AuthResult::Failure { remaining_methods, .. }) => self.methods = Some(remaining_methods),
                Err(error) => self.note(error.to_string()),
            }
        }
        let methods = self.methods.iter().flat_map(|methods| methods.iter());
        let methods: Vec<&str> = methods.map(<&str>::from).collect();
        Err(ConnectError::PermissionDenied {
            who: format!("{}@{}", self.hop.user, self.hop.host),
            methods: if methods.is_empty() { "it did not say what".into() } else { methods.join(", ") },
            offered: self.offered,
            notes: self.keys.notes,
        })
    }
}

/// The hash that a signature is made of, where its sort leaves that open.
struct Hash(Option<HashAlg>);

#[cfg(test)]
mod tests {
    use russh::keys::ssh_key::private::Ed25519Keypair;
    use russh::server::{self, Auth};
    use toril_inventory::Ssh;

    use super::super::super::Options;
    use super::super::guard::Record;
    use super::super::known_hosts::Known;
    use super::super::route::hops;
    use super::*;

    /// A host that never says whether anybody may log in.
    struct Stalls;

    impl server::Handler for Stalls {
        type Error = russh::Error;

        async fn auth_none(&mut self, _: &str) -> Result<Auth, russh::Error> {
            std::future::pending().await
        }
    }

    async fn connected() -> Handle<Guard> {
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
        let pins = vec![key.public_key().fingerprint(HashAlg::Sha256).to_string()];
        let (here, there) = tokio::io::duplex(1 << 16);
        let config = Arc::new(server::Config { keys: vec![key], ..server::Config::default() });
        tokio::spawn(async move { server::run_stream(config, there, Stalls).await.unwrap().await });
        let guard = Guard {
            known: Known::default(),
            pins,
            also: Vec::new(),
            accepted: None,
            name: "h".into(),
            is_jump: false,
            record: Record::default(),
        };
        russh::client::connect_stream(Arc::default(), here, guard).await.unwrap()
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_host_that_stalls_in_the_login_is_given_up_also_where_somebody_could_be_asked() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config");
        std::fs::write(&config, "IdentityAgent none\nIdentityFile none\n").unwrap();
        let ssh = Ssh { host: "h".into(), user: Some("u".into()), config: Some(config), ..Ssh::default() };
        let hop = hops(&ssh, &Options::default()).unwrap().remove(0);
        let mut handle = connected().await;
        let error = log_in(&mut handle, &hop, true, Duration::from_secs(75)).await.unwrap_err();
        assert!(matches!(&error, ConnectError::TimedOut { place, .. } if place == "h port 22"), "{error}");
    }
}
