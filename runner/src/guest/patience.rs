use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::verdict::{Outcome, Verdict, seconds};

/// How long it may take to make ready what a guest needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience<'s> {
    stop: &'s AtomicBool,
    /// Nothing where no clock goes so far.
    end: Option<Instant>,
    limit: Duration,
}

impl<'s> Patience<'s> {
    pub(crate) fn from_now(stop: &'s AtomicBool, limit: Duration) -> Patience<'s> {
        Patience { stop, end: Instant::now().checked_add(limit), limit }
    }

    /// What becomes true when the run is to end.
    pub(super) fn stop(&self) -> &'s AtomicBool {
        self.stop
    }

    /// # Errors
    /// It is over: one that `verdict` knows, which no call of the system gives.
    pub(super) fn look(&self) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.end.is_some_and(|end| Instant::now() >= end) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// The verdict where a copy of `original` was not made, which `other` puts in words where it was not for the time.
    pub(super) fn verdict(
        &self,
        error: &io::Error,
        original: &Path,
        other: impl FnOnce() -> String,
    ) -> Verdict {
        let original = original.display();
        let ours = error.raw_os_error().is_none() && error.get_ref().is_none();
        let (outcome, reason) = match error.kind() {
            io::ErrorKind::Interrupted if ours => {
                (Outcome::Skipped, format!("stopped before it began, while {original} was copied"))
            }
            io::ErrorKind::TimedOut if ours => {
                let limit = seconds(self.limit);
                let reason = format!(
                    "the copy of {original} was not done within {limit}: have less copied, or set a longer deadline"
                );
                (Outcome::Error, reason)
            }
            _ => (Outcome::Error, other()),
        };
        Verdict { outcome, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_errors_are_of_the_time() {
        let stop = AtomicBool::new(false);
        let patience = Patience::from_now(&stop, Duration::from_secs(2));
        let put = |error: io::Error| {
            let Verdict { outcome, reason } = patience.verdict(&error, Path::new("/d"), || error.to_string());
            format!("{outcome:?}: {reason}")
        };
        assert_eq!(
            put(io::ErrorKind::Interrupted.into()),
            "Skipped: stopped before it began, while /d was copied"
        );
        assert_eq!(
            put(io::ErrorKind::TimedOut.into()),
            "Error: the copy of /d was not done within 2 s: have less copied, or set a longer deadline"
        );
        // As of a file system of the network.
        assert_eq!(put(io::Error::from_raw_os_error(110)), "Error: Connection timed out (os error 110)");
        assert_eq!(
            put(io::Error::new(io::ErrorKind::TimedOut, "/d/e: Connection timed out")),
            "Error: /d/e: Connection timed out"
        );
    }
}
