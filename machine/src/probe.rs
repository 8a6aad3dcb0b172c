use serde::{Deserialize, Serialize};

/// What looking at something gave. "Could not look" is never "not there".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe<T> {
    /// It is there and this is what it is.
    Known(T),
    /// It is certainly not there.
    Absent,
    /// It could not be looked at; the reason.
    Unreadable(String),
}

impl<T> Probe<T> {
    /// Sorts the result of a system call into the three.
    pub fn of_io(result: std::io::Result<T>, what: &str) -> Probe<T> {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        match result {
            Ok(value) => Probe::Known(value),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Probe::Absent,
            Err(error) => Probe::Unreadable(format!("cannot read {what}: {error}")),
        }
    }

    /// Changes what is known.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Probe<U> {
        match self {
            Probe::Known(value) => Probe::Known(change(value)),
            Probe::Absent => Probe::Absent,
            Probe::Unreadable(reason) => Probe::Unreadable(reason),
        }
    }

    /// What is known, or nothing where it is absent.
    ///
    /// # Errors
    /// The reason why it could not be looked at.
    pub fn known(self) -> Result<Option<T>, String> {
        match self {
            Probe::Known(value) => Ok(Some(value)),
            Probe::Absent => Ok(None),
            Probe::Unreadable(reason) => Err(reason),
        }
    }
}
