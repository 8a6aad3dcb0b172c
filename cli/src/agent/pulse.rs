//! Whether the client of a front still is there: a network that falls silent ends no connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How often a client that follows a run says that it is there.
pub(crate) const BEAT: Duration = Duration::from_secs(2);

/// For how many looks nothing may be heard of a client that is watched.
const SILENT: u32 = 10;

/// How long it is from one look to the next.
const LOOK: Duration = Duration::from_secs(1);

/// When something was last heard of the client, in looks. Not by the clock: a machine that stood still has not listened
/// meanwhile.
#[derive(Clone, Default)]
pub(super) struct Pulse(Arc<AtomicU32>);

impl Pulse {
    pub(super) fn heard(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Calls `lost` once nothing was heard for too long. Until what is returned is dropped.
    pub(super) fn watch(&self, lost: impl FnOnce() + Send + 'static) -> Watch {
        self.heard();
        let (watched, unwatched) = mpsc::channel::<()>();
        let pulse = self.clone();
        thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = unwatched.recv_timeout(LOOK) {
                if pulse.is_lost() {
                    return lost();
                }
            }
        });
        Watch { _watched: watched }
    }

    /// A look.
    fn is_lost(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) >= SILENT
    }
}

/// Somebody whose silence counts.
pub(super) struct Watch {
    _watched: mpsc::Sender<()>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_lost_when_nothing_was_heard_for_long() {
        let pulse = Pulse::default();
        for _ in 0..3 {
            assert!((0..SILENT).all(|_| !pulse.is_lost()));
            pulse.heard();
        }
        assert!((0..SILENT).all(|_| !pulse.is_lost()));
        assert!(pulse.is_lost());
    }
}
