//! The time that a login may take, in which the time that a person takes to answer does not count.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::super::error::ConnectError;

pub(super) struct Clock {
    left: Duration,
    /// Host and port, for messages.
    place: String,
}

impl Clock {
    pub(super) fn new(limit: Duration, place: String) -> Clock {
        Clock { left: limit, place }
    }

    /// What comes of a step, within the time that is left.
    pub(super) async fn within<T>(&mut self, step: impl Future<Output = T>) -> Result<T, ConnectError> {
        let begun = Instant::now();
        let done = timeout(self.left, step).await;
        self.left = self.left.saturating_sub(begun.elapsed());
        done.map_err(|_| ConnectError::TimedOut {
            place: self.place.clone(),
            during: ": it took the connection, but the login did not finish",
        })
    }
}
