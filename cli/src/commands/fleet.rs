//! Many hosts at once: how many at a time, and for how long each.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::reach;
use crate::arguments;
use crate::client::{Client, ClientError, Way};
use crate::interrupt::Interrupts;
use crate::view::View;
use toril_inventory::Host;

/// How long a host may take that is only looked at, where nobody has said how long.
const LOOK: Duration = Duration::from_secs(300);
/// How long a host may be silent before the next one gets its turn: waiting for it costs nothing.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many may be logging in before the next one waits a little: a jump host's sshd, or one that several names lead to,
/// refuses some of them when there are ten (`MaxStartups` of sshd_config(5)).
const AT_ONCE: usize = 8;
/// How long that one waits at most.
const JITTER: Duration = Duration::from_millis(200);
/// How long a run may take to stop once its host's time is over.
const STOPPING: Duration = Duration::from_secs(60);

/// How long artifacts may take to be fetched of a host whose time is over.
const FETCHING: Duration = Duration::from_secs(10);

/// How many hosts are worked on at once, and how long each may take.
pub(super) struct Fleet {
    slots: Arc<Semaphore>,
    /// How many are logging in.
    knocking: Cell<usize>,
    deadline: Option<Duration>,
}

/// That a host is one of those that are worked on.
pub(super) struct Turn(Option<OwnedSemaphorePermit>);

/// That one more is logging in.
struct Knocking<'f>(&'f Cell<usize>);

impl Drop for Knocking<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Turn {
    /// Lets the next host begin, while this one is waited for.
    pub(super) fn give_back(&mut self) {
        self.0 = None;
    }
}

impl Fleet {
    pub(super) fn new(arguments: &arguments::Hosts) -> Fleet {
        let slots = usize::try_from(arguments.parallel).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Fleet::of(slots, arguments.deadline)
    }

    fn of(slots: usize, deadline: Option<Duration>) -> Fleet {
        Fleet { slots: Arc::new(Semaphore::new(slots)), knocking: Cell::new(0), deadline }
    }

    /// Waits until fewer hosts are worked on than may be.
    pub(super) async fn turn(&self) -> Turn {
        // It is never closed.
        Turn(Arc::clone(&self.slots).acquire_owned().await.ok())
    }

    /// Connects in this turn, and gives it back where the host lets it wait.
    pub(super) async fn connect(
        &self,
        turn: &mut Turn,
        host: &Host,
        way: &Way,
        view: &View,
    ) -> Result<Client, ClientError> {
        let _knocking = self.knock(&host.name).await;
        let connecting = reach::connect(host, way, view);
        tokio::pin!(connecting);
        match timeout_at(Instant::now() + PATIENCE, &mut connecting).await {
            Ok(result) => result,
            Err(_) => {
                turn.give_back();
                connecting.await
            }
        }
    }

    /// Waits a moment where many are logging in; until the result is dropped, one more is.
    async fn knock(&self, name: &str) -> Knocking<'_> {
        if self.knocking.get() >= AT_ONCE {
            let random = RandomState::new().hash_one(name);
            let most = u64::try_from(JITTER.as_millis()).unwrap_or(1).max(1);
            sleep(Duration::from_millis(1 + random % most)).await;
        }
        self.knocking.set(self.knocking.get() + 1);
        Knocking(&self.knocking)
    }

    /// How long a host may be looked at.
    pub(super) fn look(&self) -> Duration {
        self.deadline.unwrap_or(LOOK)
    }

    /// Does `run`, whose host may take so long from `start` on: at the deadline the run is asked to stop, as by Ctrl-C,
    /// and a host that does not even do that is left alone. Says whether the deadline was missed.
    pub(super) async fn within_deadline<T>(
        &self,
        start: Instant,
        interrupts: &Interrupts,
        run: impl AsyncFnOnce(Interrupts) -> T,
    ) -> (Option<T>, bool) {
        let Some(deadline) = self.deadline else { return (Some(run(interrupts.clone()).await), false) };
        let (interrupts, stop) = interrupts.and_another();
        let running = run(interrupts);
        tokio::pin!(running);
        match timeout_at(start + deadline, &mut running).await {
            Ok(result) => (Some(result), false),
            Err(_) => {
                stop.interrupt();
                (timeout_at(Instant::now() + STOPPING, &mut running).await.ok(), true)
            }
        }
    }

    /// Until when what a run has left may be fetched of a host whose time began at `start`: as long as it has left, and a
    /// little in any case, for the run may have taken all of it.
    pub(super) fn rest(&self, start: Instant) -> Option<Instant> {
        self.deadline.map(|deadline| (start + deadline).max(Instant::now() + FETCHING))
    }

    /// How long a host may take, in words.
    pub(super) fn deadline_words(&self) -> String {
        format!("{} s", self.look().as_secs_f32())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, work)
    }

    #[test]
    fn so_many_at_once_and_no_more_until_one_gives_its_turn_back() {
        block_on(async {
            let fleet = Fleet::of(2, None);
            let mut first = fleet.turn().await;
            let _second = fleet.turn().await;
            let soon = || timeout_at(Instant::now() + Duration::from_millis(50), fleet.turn());
            assert!(soon().await.is_err(), "two is what was said");
            first.give_back();
            assert!(soon().await.is_ok());
        });
    }

    #[test]
    fn only_where_many_are_logging_in_the_next_one_waits() {
        block_on(async {
            let fleet = Fleet::of(100, None);
            let mut knocking = Vec::new();
            let at_once = || timeout(Duration::ZERO, fleet.knock("host"));
            for _ in 0..AT_ONCE {
                knocking.extend(at_once().await);
            }
            assert_eq!((knocking.len(), fleet.knocking.get()), (AT_ONCE, AT_ONCE));
            assert!(at_once().await.is_err());
            knocking.pop();
            assert!(at_once().await.is_ok());
            drop(fleet.knock("host").await);
            assert_eq!(fleet.knocking.get(), AT_ONCE - 1);
        });
    }

    #[test]
    fn what_is_fetched_has_the_time_that_is_left_and_a_little_more() {
        block_on(async {
            let start = Instant::now();
            assert_eq!(Fleet::of(1, None).rest(start), None);
            let long = Fleet::of(1, Some(Duration::from_secs(600)));
            assert_eq!(long.rest(start), Some(start + Duration::from_secs(600)));
            let over = Fleet::of(1, Some(Duration::from_millis(1))).rest(start).unwrap();
            assert!(over >= start + FETCHING && over < start + 2 * FETCHING, "{:?}", over - start);
        });
    }

    #[test]
    fn a_run_is_asked_to_stop_at_its_deadline_and_not_before() {
        block_on(async {
            let fleet = Fleet::of(1, Some(Duration::from_millis(50)));
            let interrupts = Interrupts::never();
            let quick = fleet.within_deadline(Instant::now(), &interrupts, async |_| 7).await;
            assert_eq!(quick, (Some(7), false));
            let stopped = async |interrupts: Interrupts| {
                interrupts.first().await;
                "stopped"
            };
            let slow = fleet.within_deadline(Instant::now(), &interrupts, stopped).await;
            assert_eq!(slow, (Some("stopped"), true));
        });
    }
}
