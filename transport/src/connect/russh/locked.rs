//! Private keys with a passphrase, for which nobody is asked before a host wants the key, nor twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use russh::keys::agent::AgentIdentity;
use russh::keys::{HashAlg, PrivateKey, PublicKey};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::keys::open;

/// The keys that were opened by this program, by the names of their files. Locked while somebody is asked, so that those who
/// want the same key need not ask.
static OPENED: Mutex<BTreeMap<String, Arc<PrivateKey>>> = Mutex::const_new(BTreeMap::new());

/// A key of a file.
pub(super) struct Locked {
    pub(super) name: String,
    pub(super) text: Zeroizing<String>,
    /// What is known of it without its passphrase.
    pub(super) public: Option<PublicKey>,
}

impl Locked {
    /// Opens it, by the passphrase of the environment or of whoever is asked; `None`: there is neither.
    pub(super) async fn open(&self, interactive: bool) -> Result<Option<Arc<PrivateKey>>, String> {
        let mut opened = OPENED.lock().await;
        if let Some(key) = opened.get(&self.name) {
            return Ok(Some(Arc::clone(key)));
        }
        let key = open(&self.text, &self.name, interactive).await?.map(Arc::new);
        if let Some(key) = &key {
            opened.insert(self.name.clone(), Arc::clone(key));
        }
        Ok(key)
    }
}

/// A signer that signs nothing: a host asks for a signature where it would take the key.
pub(super) struct Probe;

/// What comes of a probe in place of a signature.
pub(super) enum Probed {
    Wanted,
    Failed,
}

impl From<russh::SendError> for Probed {
    fn from(_: russh::SendError) -> Probed {
        Probed::Failed
    }
}

impl russh::Signer for Probe {
    type Error = Probed;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        _: Option<HashAlg>,
        _: Vec<u8>,
    ) -> Result<Vec<u8>, Probed> {
        Err(Probed::Wanted)
    }
}
