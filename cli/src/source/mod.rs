//! The tree that a suite tests, made ready to be sent: the working tree as it is, or a commit.

mod git;
mod supply;

pub(crate) use git::Git;
pub(crate) use supply::Supply;
