//! Many hosts at once: how many at a time, and for how long each.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::reach;
use crate::arguments;
use crate::client::{Client, ClientError, Trouble, Way};
use crate::interrupt::Interrupts;
use crate::view::View;
use toril_inventory::Host;

/// How long a host may take that is only looked at, where nobody has said how long.
const LOOK: Duration = Duration::from_secs(300);
/// How many may be connecting, most of which are those that do not answer: each is a socket, or an ssh process.
const CONNECTING: usize = 128;
/// How many may be logging in: a jump host's sshd, or one that several names lead to, refuses some of them when there are ten
/// (`MaxStartups` of sshd_config(5)).
const AT_ONCE: usize = 8;
/// How long a login may take before the next one begins beside it: a host that hangs must not keep others from theirs.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a run may take to stop once its host's time is over.
const STOPPING: Duration = Duration::from_secs(60);

/// How long artifacts may take to be fetched of a host whose time is over.
const FETCHING: Duration = Duration::from_secs(10);

/// How many hosts are worked on at once, and how long each may take.
pub(super) struct Fleet {
    connecting: Arc<Semaphore>,
    /// Taken by hosts that log in, until they have a place; so no more than these are connected and wait.
    logins: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// Taken by who is being made.
    making: Arc<Semaphore>,
    deadline: Option<Duration>,
}

/// What a host has of the fleet: first the right to connect and to log in, then a place among those that are worked on.
pub(super) struct Turn {
    connecting: Option<OwnedSemaphorePermit>,
    login: Option<OwnedSemaphorePermit>,
    place: Option<OwnedSemaphorePermit>,
    clock: Clock,
}

/// A host's own time, in which it waits for no other.
#[derive(Clone)]
pub(super) struct Clock(Rc<Times>);

struct Times {
    start: Cell<Instant>,
    /// Since when it waits for others.
    waiting: Cell<Option<Instant>>,
    /// Whether the host has let toril in.
    logged_in: Cell<bool>,
}

impl Clock {
    fn new() -> Clock {
        Clock(Rc::new(Times {
            start: Cell::new(Instant::now()),
            waiting: Cell::new(None),
            logged_in: Cell::new(false),
        }))
    }

    /// When its time began, moved on by what it has waited for others.
    pub(super) fn start(&self) -> Instant {
        let waited = self.0.waiting.get().map_or(Duration::ZERO, |since| since.elapsed());
        self.0.start.get() + waited
    }

    async fn stopped_during<T>(&self, waiting: impl Future<Output = T>) -> T {
        self.0.waiting.set(Some(Instant::now()));
        let result = waiting.await;
        self.0.start.set(self.start());
        self.0.waiting.set(None);
        result
    }

    /// Until so much of it is over.
    async fn over(&self, limit: Duration) {
        while self.start().elapsed() < limit {
            sleep_until(self.start() + limit).await;
        }
    }
}

impl Turn {
    /// Lets the next host begin, while this one is waited for.
    pub(super) fn give_back(&mut self) {
        self.place = None;
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock.clone()
    }
}

/// They are never closed.
async fn one_of(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(semaphore).acquire_owned().await.ok()
}

impl Fleet {
    pub(super) fn new(arguments: &arguments::Hosts) -> Fleet {
        let places = usize::try_from(arguments.parallel).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Fleet::of(places, arguments.deadline)
    }

    fn of(places: usize, deadline: Option<Duration>) -> Fleet {
        let semaphore = |count| Arc::new(Semaphore::new(count));
        let logins = semaphore(AT_ONCE.min(places));
        let (connecting, making) = (semaphore(CONNECTING), semaphore(1));
        Fleet { connecting, logins, places: semaphore(places), making, deadline }
    }

    /// Waits until no other sandbox is being made: the first one may have to make what all of them stand on.
    pub(super) async fn making(&self) -> Option<OwnedSemaphorePermit> {
        one_of(&self.making).await
    }

    /// Waits until one more may log in. The host's time begins then.
    pub(super) async fn turn(&self) -> Turn {
        let (connecting, login) = (one_of(&self.connecting).await, one_of(&self.logins).await);
        Turn { connecting, login, place: None, clock: Clock::new() }
    }

    /// The turn of a host that is connected already: waits until fewer are worked on than may be.
    pub(super) async fn place(&self) -> Turn {
        let place = one_of(&self.places).await;
        Turn { connecting: None, login: None, place, clock: Clock::new() }
    }

    /// Connects, waits until fewer hosts are worked on than may be, and starts the agent.
    pub(super) async fn connect(
        &self,
        turn: &mut Turn,
        host: &Host,
        way: &Way,
        view: &View,
    ) -> Result<Client, ClientError> {
        let logged_in = self.place_after(turn, reach::log_in(host, way, view)).await?;
        reach::start(logged_in, view).await
    }

    /// What comes of `login`, which takes the turn's place only once it has succeeded.
    async fn place_after<T, E>(
        &self,
        turn: &mut Turn,
        login: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::pin!(login);
        let result = match timeout(PATIENCE, &mut login).await {
            Ok(result) => result,
            Err(_) => {
                turn.login = None;
                login.await
            }
        };
        turn.connecting = None;
        if result.is_ok() {
            turn.clock.0.logged_in.set(true);
            turn.place = turn.clock.stopped_during(one_of(&self.places)).await;
        }
        turn.login = None;
        result
    }

    /// Does what looks at a host, which is left as it is when its time is over; nothing is returned then.
    pub(super) async fn looking<T>(&self, clock: &Clock, look: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            seen = look => Some(seen),
            () = clock.over(self.look()) => None,
        }
    }

    /// What is told of a host whose time was over while it was looked at.
    pub(super) fn late(&self, clock: &Clock) -> Trouble {
        Trouble {
            error: format!("it took longer than {}", self.deadline_words()),
            remedy: Some("a host that is only slow is given more time by --deadline".to_owned()),
            unreachable: !clock.0.logged_in.get(),
        }
    }

    /// How long a host may be looked at.
    fn look(&self) -> Duration {
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
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;
    use crate::commands::hosts::all;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, work)
    }

    /// A host that logs in, is worked on so long, and is gone.
    async fn visit(fleet: Rc<Fleet>, login: impl Future<Output = ()>, work: Duration) {
        let mut turn = fleet.turn().await;
        let login = async {
            login.await;
            Ok::<(), ()>(())
        };
        fleet.place_after(&mut turn, login).await.unwrap();
        sleep(work).await;
    }

    #[test]
    fn so_many_at_once_and_no_more_until_one_gives_its_place_back() {
        block_on(async {
            let fleet = Fleet::of(2, None);
            let mut first = fleet.place().await;
            let _second = fleet.place().await;
            let soon = || timeout(Duration::from_millis(50), fleet.place());
            assert!(soon().await.is_err(), "two is what was said");
            first.give_back();
            assert!(soon().await.is_ok());
        });
    }

    #[test]
    fn so_many_log_in_and_no_more_until_one_is_in_or_hangs() {
        block_on(async {
            let fleet = Fleet::of(100, None);
            let mut turns = Vec::new();
            for _ in 0..AT_ONCE {
                turns.push(fleet.turn().await);
            }
            let soon = || timeout(Duration::from_millis(50), fleet.turn());
            assert!(soon().await.is_err());
            let mut in_now = turns.pop().unwrap();
            fleet.place_after(&mut in_now, async { Ok::<(), ()>(()) }).await.unwrap();
            let next = soon().await.unwrap();
            assert!(soon().await.is_err());
            let mut hanging = turns.pop().unwrap();
            let hangs = pending::<Result<(), ()>>();
            tokio::select! {
                _ = fleet.place_after(&mut hanging, hangs) => panic!("it hangs"),
                turn = fleet.turn() => drop(turn),
            }
            assert_eq!(fleet.places.available_permits(), 99, "none of those has a place");
            drop(next);
        });
    }

    #[test]
    fn hosts_that_hang_delay_nobody() {
        block_on(async {
            let fleet = Rc::new(Fleet::of(2, None));
            let begun = Instant::now();
            for _ in 0..4 {
                tokio::task::spawn_local(visit(Rc::clone(&fleet), pending(), Duration::ZERO));
            }
            tokio::task::yield_now().await;
            all((0..6).map(|_| visit(Rc::clone(&fleet), async {}, Duration::from_millis(20)))).await;
            // Twice two of them hold the right to log in, and none a place.
            assert!(begun.elapsed() < 2 * PATIENCE + Duration::from_millis(400), "{:?}", begun.elapsed());
        });
    }

    #[test]
    fn waiting_for_others_is_not_a_hosts_own_time() {
        block_on(async {
            let limit = Duration::from_millis(100);
            let fleet = Fleet::of(1, Some(limit));
            let busy = fleet.place().await;
            let mut turn = fleet.turn().await;
            let clock = turn.clock();
            let look = async {
                fleet.place_after(&mut turn, async { Ok::<(), ()>(()) }).await.unwrap();
                7
            };
            let (seen, ()) = tokio::join!(fleet.looking(&clock, look), async {
                sleep(3 * limit).await;
                drop(busy);
            });
            assert_eq!(seen, Some(7));
            assert!(clock.start().elapsed() < limit);
            assert!(!fleet.late(&clock).unreachable && fleet.late(&Clock::new()).unreachable);
            assert_eq!(fleet.looking(&clock, pending::<u8>()).await, None);
            assert!(clock.start().elapsed() >= limit);
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
