//! What runs on the host: the front, which talks to the client, and the worker, which does what takes long and
//! outlives the connection; and who watches that one, to clean up after it if it is killed.

mod attachments;
mod front;
mod journal;
mod large;
mod protocol;
mod pulse;
mod run_directory;
mod steer;
mod uninstall;
mod verify;
mod watcher;
mod worker;

pub(crate) use front::front;
pub(crate) use large::Pieces;
pub(crate) use protocol::{
    Attached, Attachment, Ended, Entry, Job, Order, Reboot, Report, Request, RunEvent,
};
pub(crate) use pulse::BEAT;
pub(crate) use uninstall::{Footprint, Own, Uninstall};
pub(crate) use watcher::watcher;
pub(crate) use worker::{KernelTest, SourceOrder, TEST_USER, TestJob, Tests, worker};
