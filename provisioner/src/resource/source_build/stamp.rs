//! What was built, from what and by what: a file beside the build's products.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::resource::manifest::Manifest;

/// The file's name in the prefix.
pub(super) const STAMP: &str = ".toril-built";

/// From what a prefix was built, and what there was in it then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// Such as `commit 0123…`, `sha256 0123…` or `qemu 1:7.2+dfsg-7`.
    pub(super) source: String,
    /// The script that built it.
    pub(super) script: String,
    /// The first line that the C compiler says of itself; empty where there was none.
    pub(super) compiler: String,
    /// How many jobs it had at a time.
    pub(super) jobs: u64,
    /// Its products.
    pub(super) products: Manifest,
}

impl Stamp {
    /// What stands for the source and the script, in few digits.
    pub(super) fn id(source: &str, script: &str) -> String {
        hex::encode(&Sha256::digest(format!("{source}\n{script}"))[..6])
    }

    /// Nothing: there is none, or none that can be understood.
    pub(super) fn read(prefix: &Path) -> io::Result<Option<Stamp>> {
        match fs::read(prefix.join(STAMP)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(&self, prefix: &Path) -> io::Result<()> {
        let mut file = fs::File::create_new(prefix.join(STAMP))?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()
    }
}
