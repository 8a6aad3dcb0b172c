//! Starting an agent on a host: becoming root, delivering the program where it is missing, greeting it.

mod drive;
mod error;
mod marker;
mod script;
mod sudo;

pub use drive::Delivery;
pub(crate) use drive::{Limits, NotStarted, drive};
pub use error::StartError;
pub(crate) use script::{Script, Stored, remote_command};
pub(crate) use sudo::PROMPT;
pub use sudo::{Password, Sudo};
