/// What a new sandbox is to be like. Not looked at when the sandbox is up already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// How many bytes the sandbox may write in all; they are kept in memory. Without it, as many as the disk has.
    pub disk_limit: Option<u64>,
    /// The snapshot to begin from; without it, a fresh Debian.
    pub from: Option<String>,
}

/// What `up` is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Another process is building the base that this one needs.
    WaitingForBase,
    /// The base is being built: once for a machine, about half a minute.
    BuildingBase {
        /// What the builder says, such as `installing essential packages...`.
        step: String,
    },
    /// The sandbox is being started.
    Starting,
    /// The port was taken in the meantime; another one is tried.
    PortTaken {
        /// The one that was taken.
        port: u16,
    },
}
