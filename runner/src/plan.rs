use std::fs::File;

use crate::guest::{Cid, ShareFolder};
use crate::observe::Heard;
use crate::supervise::{Member, Stream};

/// What is to be started for a test, and what is heard of it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub members: Vec<Member>,
    pub channels: Vec<(Stream, File)>,
    pub heard: Heard,
    /// What messages call the members, without the first.
    pub names: Vec<String>,
    pub reproduce: String,
    /// What is not as the suite wants it, though the test runs.
    pub warnings: Vec<String>,
    /// Its guest's own as long as the test lasts.
    pub cid: Option<Cid>,
    /// What its guest shares, if it does.
    pub share: Option<ShareFolder>,
    /// The port at which a debugger is waited for.
    pub debugger: Option<u16>,
}
