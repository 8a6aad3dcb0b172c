//! The machine this program runs on.
//!
//! What the provisioner and the runner both need of it has its one home here: reading its files (or those of a fake
//! root in tests), running commands with a deadline, writing files atomically, users and groups, facts, locks.

mod atomic;
mod command;
mod facts;
mod fingerprint;
mod kvm;
mod lock;
mod probe;
mod reboot;
mod room;
mod root;
mod users;

pub use atomic::{FileAttributes, WriteError, write_atomically};
pub use command::{Command, CommandError, ENDS_WITH_US, Finished, STANDARD_PATH};
pub use facts::{Facts, FactsError};
pub use fingerprint::{Comparison, Difference, FIGURES, Fingerprint, RECIPE, sha256_of};
pub use kvm::{KvmTrial, try_kvm, try_kvm_apart};
pub use lock::{HostLock, LockError, LockHolder, record_lock_holder};
pub use probe::Probe;
pub use room::{keep_room, room_taken};
pub use root::Machine;
pub use users::{Group, User};
