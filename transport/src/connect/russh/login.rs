//! Logging in with one key after the other.

use russh::MethodSet;
use russh::client::{AuthResult, Handle};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg};

use super::super::error::ConnectError;
use super::guard::Guard;
use super::keys::{Keys, Offer};
use super::route::Hop;

/// Logs in, and says with which key.
pub(super) async fn log_in(
    handle: &mut Handle<Guard>,
    hop: &Hop,
    interactive: bool,
) -> Result<String, ConnectError> {
    let mut keys = Keys::gather(hop, interactive).await?;
    let mut attempt = Attempt { methods: None, offered: Vec::new() };
    let mut rsa = None;
    for offer in std::mem::take(&mut keys.offers) {
        let (label, is_rsa) = match &offer {
            Offer::Own { label, key } => (label.clone(), key.algorithm().is_rsa()),
            Offer::OfAgent { label, key } => (label.clone(), key.algorithm().is_rsa()),
        };
        let hash = match is_rsa {
            false => None,
            true => match rsa_hash(handle, &mut rsa).await {
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
                handle.authenticate_publickey(&hop.user, key).await.map_err(|error| error.to_string())
            }
            Offer::OfAgent { key, .. } => match &mut keys.agent {
                Some(agent) => handle
                    .authenticate_publickey_with(&hop.user, key, hash, agent)
                    .await
                    .map_err(|error| error.to_string()),
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
        match handle.authenticate_none(&hop.user).await {
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
