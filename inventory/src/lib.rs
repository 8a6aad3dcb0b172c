//! Which hosts there are, their groups and variables, and how each host is reached.

mod address;
mod ansible;
mod glob;
mod host;
mod imported;
mod layer;
mod model;
mod read;
mod secret;
mod ssh_config;
mod transport;

pub use address::AddressError;
pub use host::{Host, Reach, Ssh};
pub use imported::Imported;
pub use layer::{Layer, Said, Setting};
pub use model::{Chosen, Explained, Feed, Feeding, Inventory, Resolved, Target};
pub use read::is_reserved;
pub use secret::{Secret, SecretError};
pub use ssh_config::{SshConfig, SshConfigError, SshConfigItem, SshConfigLine};
pub use transport::{Transport, is_fingerprint};
