//! Trying again where a host closes a connection before anybody has logged in: an sshd that has many logins under way turns
//! some of the next ones away (`MaxStartups` of `sshd_config(5)`), and takes them a moment later.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::ConnectError;

/// How often a connection is tried.
const TRIES: u32 = 6;
/// The pause before the second try; each of the next is twice as long.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What the first `attempt` brings that the host does not close at once, and how many it had closed before. An attempt is told
/// how much of `limit` is left for it, and none is begun after that. `pause` is that before the second.
pub(super) async fn until_it_stays_open<T>(
    limit: Duration,
    mut pause: Duration,
    mut attempt: impl AsyncFnMut(Duration) -> Result<T, ConnectError>,
) -> Result<(T, u32), ConnectError> {
    let end = Instant::now() + limit;
    let mut closed = 0;
    let mut left = limit;
    loop {
        let line = match attempt(left).await {
            Ok(made) => return Ok((made, closed)),
            Err(ConnectError::Closed { line, before_login: true, .. }) => line,
            Err(error) => return Err(error),
        };
        closed += 1;
        let next = Instant::now() + jittered(pause);
        left = end.saturating_duration_since(next);
        if closed == TRIES || left.is_zero() {
            return Err(ConnectError::Closed { line, before_login: true, tries: closed });
        }
        sleep(next.saturating_duration_since(Instant::now())).await;
        pause *= 2;
    }
}

/// From half of it to all of it: those that were turned away together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let random = RandomState::new().hash_one(pause);
    half + Duration::from_nanos(random % u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(4);

    fn closed(before_login: bool) -> ConnectError {
        ConnectError::Closed { line: "closed".into(), before_login, tries: 1 }
    }

    /// What comes of attempts with these results, and how many of them were made.
    async fn tried(
        limit: Duration,
        mut results: Vec<Result<(), ConnectError>>,
    ) -> (Result<u32, String>, usize) {
        let mut made = 0;
        results.reverse();
        let result = until_it_stays_open(limit, SHORT, async |left| {
            assert!(left <= limit && !left.is_zero());
            made += 1;
            results.pop().unwrap_or_else(|| Err(closed(true)))
        });
        let result = result.await.map(|((), closed)| closed).map_err(|error| error.to_string());
        (result, made)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn only_what_was_closed_before_the_login_is_tried_again() {
        assert_eq!(tried(LONG, vec![Ok(())]).await, (Ok(0), 1));
        assert_eq!(tried(LONG, vec![Err(closed(true)), Err(closed(true)), Ok(())]).await, (Ok(2), 3));
        let late = "the host closed the connection during the login: closed";
        assert_eq!(tried(LONG, vec![Err(closed(false)), Ok(())]).await, (Err(late.into()), 1));
        let refused = || ConnectError::Refused { place: "here".into() };
        let (result, made) = tried(LONG, vec![Err(closed(true)), Err(refused()), Ok(())]).await;
        assert_eq!((result, made), (Err(refused().to_string()), 2));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn it_is_tried_so_often_and_so_long() {
        let words = |tries: u32| {
            let times = if tries > 1 { format!(", {tries} times") } else { String::new() };
            Err(format!("the host closed the connection during the handshake{times}: closed"))
        };
        let begun = Instant::now();
        assert_eq!(tried(LONG, Vec::new()).await, (words(TRIES), 6));
        assert!(begun.elapsed() >= 31 * SHORT / 2, "{:?}", begun.elapsed());
        assert_eq!(tried(SHORT / 2, Vec::new()).await, (words(1), 1));
    }

    #[test]
    fn those_that_were_turned_away_together_come_back_one_by_one() {
        let pauses: Vec<Duration> = (0..20).map(|_| jittered(SHORT)).collect();
        assert!(pauses.iter().all(|pause| (SHORT / 2..SHORT).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| pause != &pauses[0]), "{pauses:?}");
    }
}
