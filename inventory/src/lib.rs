//! Which hosts there are and how each is reached.

mod address;
mod host;
mod inventory;

pub use address::AddressError;
pub use host::{Host, Reach, Ssh};
pub use inventory::{Inventory, Target};
