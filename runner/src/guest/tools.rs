use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::forward::find_socat;
use super::virtiofsd::Virtiofsd;
use super::vsock::FIRST_CID;
use crate::account::Account;
use crate::step::StepEnd;

/// What a run has found out of the programs that guests need; each is asked once.
#[derive(Debug)]
pub(crate) struct Tools {
    virtiofsd: Mutex<HashMap<Option<PathBuf>, Result<Virtiofsd, String>>>,
    socat: OnceLock<Result<(), String>>,
    /// The lowest CID that may be free.
    cid: Mutex<u32>,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools { virtiofsd: Mutex::default(), socat: OnceLock::new(), cid: Mutex::new(FIRST_CID) }
    }
}

impl Tools {
    pub(crate) fn virtiofsd(
        &self,
        named: Option<&Path>,
        account: &Account,
        ask: impl FnOnce(&Path) -> StepEnd,
    ) -> Result<Virtiofsd, String> {
        let mut known = self.virtiofsd.lock().unwrap_or_else(PoisonError::into_inner);
        let find = || Virtiofsd::find(named, account, ask);
        known.entry(named.map(Path::to_owned)).or_insert_with(find).clone()
    }

    pub(crate) fn socat(&self, account: &Account) -> Result<(), String> {
        self.socat.get_or_init(|| find_socat(account)).clone()
    }

    pub(crate) fn first_cid(&self) -> u32 {
        *self.cid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that somebody else, who is no guest of toril's, has this CID.
    pub(crate) fn is_taken(&self, cid: u32) {
        let mut first = self.cid.lock().unwrap_or_else(PoisonError::into_inner);
        *first = (*first).max(cid.saturating_add(1));
    }
}
