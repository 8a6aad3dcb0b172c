use serde::{Deserialize, Serialize};

/// What the namespace's first process is to run: one line of JSON, after a byte that carries the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The program, found on the search path of `env`, and its arguments. [`file_placeholder`]s in them become the
    /// numbers that the files have in the program.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub dir: String,
    pub uid: u32,
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
    /// How many files come along; it finds them open.
    pub files: usize,
    /// Which of the files is its standard input; that is empty where none is.
    pub input: Option<usize>,
    /// The CPUs that it may run on; all where none is named.
    pub pin: Vec<usize>,
    /// The real-time priority that it is given where that is permitted.
    pub realtime: Option<u8>,
    /// Whether it is kept from making files that run with their owner's or group's rights.
    pub forbids_set_id: bool,
}

/// What the first process tells, one line of JSON each: `NotStarted`, or `Started` and then `Ended`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    /// With the program's arguments as they were.
    Started {
        argv: Vec<String>,
        /// Why it has no real-time priority, where it was to have one.
        not_realtime: Option<String>,
    },
    NotStarted {
        why: String,
    },
    Ended {
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// What stands in an argument for the number of the file with this index.
pub(crate) fn file_placeholder(index: usize) -> String {
    format!("@toril-file-{index}@")
}

/// More files than this are never sent along.
pub(crate) const MOST_FILES: usize = 16;
