//! Logging in with one key after the other.

use std::time::Duration;

use russh::MethodSet;
use russh::client::{AuthResult, Handle};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg};

use super::super::error::ConnectError;
use super::clock::Clock;
use super::guard::Guard;
use super::keys::{Keys, Offer};
use super::route::Hop;

/// Logs in, and says with which key. `limit`: how long the agent may take to say its keys, and then the login.
pub(super) async fn log_in(
    handle: &mut Handle<Guard>,
    hop: &Hop,
    interactive: bool,
    limit: Duration,
) -> Result<String, ConnectError> {
    let mut keys = Keys::gather(hop, interactive, limit).await?;
    let mut clock = Clock::new(limit, hop.place());
    let mut attempt = Attempt { methods: None, offered: Vec::new() };
    let mut rsa = None;
    for offer in std::mem::take(&mut keys.offers) {
        let (label, is_rsa) = match &offer {
            Offer::Own { label, key } => (label.clone(), key.algorithm().is_rsa()),
            Offer::OfAgent { label, key } => (label.clone(), key.algorithm().is_rsa()),
        };
        let hash = match is_rsa {
            false => None,
            true => match clock.within(rsa_hash(handle, &mut rsa)).await? {
                Some(hash) => Some(hash),
                None => {
                    keys.notes
                        .push(format!("{label} is not offered: the host would have it sign with SHA-1"));
                    continue;
                }
            },
        };
        attempt.offered.push(label.clone());
        let result = match offer {
            Offer::Own { key, .. } => {
                let key = PrivateKeyWithHashAlg::new(key, hash);
                let asked = handle.authenticate_publickey(&hop.user, key);
                clock.within(asked).await?.map_err(|error| error.to_string())
            }
            Offer::OfAgent { key, .. } => match &mut keys.agent {
                Some(agent) => {
                    let asked = handle.authenticate_publickey_with(&hop.user, key, hash, agent);
                    clock.within(asked).await?.map_err(|error| error.to_string())
                }
                None => continue,
            },
        };
        match result {
            Ok(AuthResult::Success) => return Ok(format!("using {label}")),
            Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
                if partial_success {
                    keys.notes.push(format!("{label} was accepted, and the host wants more than a key"));
                }
                attempt.methods = Some(remaining_methods).filter(|methods| !methods.is_empty());
            }
            Err(error) => keys.notes.push(format!("{label}: {error}")),
        }
        if handle.is_closed() {
            keys.notes.push("the host hung up after these: name the right key (identity)".into());
            break;
        }
    }
    if attempt.methods.is_none() && !handle.is_closed() {
        // Only to learn what the host would accept.
        match clock.within(handle.authenticate_none(&hop.user)).await? {
            Ok(AuthResult::Success) => return Ok("without a key".into()),
            Ok(AuthResult::Failure { remaining_methods, .. }) => attempt.methods = Some(remaining_methods),
            Err(error) => keys.notes.push(error.to_string()),
        }
    }
    Err(ConnectError::PermissionDenied {
        who: format!("{}@{}", hop.user, hop.host),
        methods: attempt.methods(),
        offered: attempt.offered,
        notes: keys.notes,
    })
}

struct Attempt {
    methods: Option<MethodSet>,
    offered: Vec<String>,
}

impl Attempt {
    fn methods(&self) -> String {
        let names: Vec<&str> =
            self.methods.iter().flat_map(|methods| methods.iter()).map(<&str>::from).collect::<Vec<_>>();
        if names.is_empty() { "it did not say what".into() } else { names.join(", ") }
    }
}

/// The hash with which RSA keys sign; `None` where the host knows SHA-1 only. It is asked once.
async fn rsa_hash(handle: &Handle<Guard>, known: &mut Option<Option<HashAlg>>) -> Option<HashAlg> {
    if known.is_none() {
        *known = Some(match handle.best_supported_rsa_hash().await {
            Ok(Some(hash)) => hash,
            // It does not say: every sshd of the last ten years knows this one.
            _ => Some(HashAlg::Sha512),
        });
    }
    known.flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use russh::keys::PrivateKey;
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
