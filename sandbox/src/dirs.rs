use std::env;
use std::path::PathBuf;

/// Where sandboxes are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// The cached bases: a few hundred MB each; may be shared between states.
    pub base: PathBuf,
    /// The sandboxes and snapshots themselves.
    pub state: PathBuf,
}

impl Dirs {
    /// `$TORIL_SANDBOX_DIR`, else `/var/lib/toril-sandbox`.
    pub fn system() -> Dirs {
        let root = env::var_os("TORIL_SANDBOX_DIR").filter(|dir| !dir.is_empty());
        let root = root.map_or_else(|| PathBuf::from("/var/lib/toril-sandbox"), PathBuf::from);
        Dirs { base: root.join("base"), state: root }
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.state.join("hosts")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.state.join("snapshots")
    }
}
