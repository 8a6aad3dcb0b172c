//! What was built, from what and by what: a file beside the build's products.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::resource::manifest::Manifest;

/// The file's name in the prefix.
pub(super) const STAMP: &str = ".toril-built";

/// How many digits stand for source and script.
const ID_DIGITS: usize = 12;

/// From what a prefix was built, and what there was in it then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// Such as `commit 0123…`, `sha256 0123…` or `qemu 1:7.2+dfsg-7`.
    pub(super) source: String,
    /// The place that it was built for. Builds of earlier versions do not say.
    #[serde(default)]
    pub(super) path: Option<String>,
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
        hex::encode(&Sha256::digest(format!("{source}\n{script}"))[..ID_DIGITS / 2])
    }

    /// Whether a directory beside a place of this name can be one of its builds: `NAME-ID` or `NAME-ID.NUMBER`.
    pub(super) fn is_name(directory: &str, name: &str) -> bool {
        let rest = directory.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
        let (id, number) = rest.split_once('.').unwrap_or((rest, "0"));
        let is_id =
            id.len() == ID_DIGITS && id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        is_id && !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_builds_are_told_from_others() {
        let id = Stamp::id("commit 0", "make");
        for name in [format!("x-{id}"), format!("x-{id}.1"), format!("x-{id}.12")] {
            assert!(Stamp::is_name(&name, "x"), "{name}");
            assert!(!Stamp::is_name(&name, "y") && !Stamp::is_name(&name, "x-"), "{name}");
        }
        for name in
            [format!("x-micro-{id}"), format!("x-{id}-kept"), format!("x-{id}."), "x-old".into(), "x".into()]
        {
            assert!(!Stamp::is_name(&name, "x"), "{name}");
        }
    }

    #[test]
    fn stamps_of_earlier_versions_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"source":"s","script":"t","compiler":"","jobs":1,"products":{"sha256":"","strip":0,"files":[]}}"#;
        fs::write(dir.path().join(STAMP), text).unwrap();
        assert_eq!(Stamp::read(dir.path()).unwrap().unwrap().path, None);
    }
}
