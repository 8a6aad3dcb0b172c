use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{Client, ClientError, Parcels};
use crate::agent::{BEAT, Ended, Order, Report, Request, RunEvent};
use crate::interrupt::Interrupts;

/// How long a lost connection is tried to be had again.
const RECONNECT: Duration = Duration::from_secs(30);

/// How long to wait between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// How much longer it is tried after an interrupt: over a connection that is there again, the run can be asked to end.
const PARTING: Duration = Duration::from_secs(3);

/// What is told to who follows a run.
#[expect(clippy::large_enum_variant, reason = "one at a time, and most are the large one")]
pub(crate) enum Told {
    /// Something happened in the run.
    Run(RunEvent),
    /// The connection was lost, and is being made again; why.
    Lost(String),
    /// Files are being sent: how many bytes of how many.
    Sending { sent: u64, size: u64 },
}

/// What somebody does at a terminal that is a guest's console.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    Bytes(Vec<u8>),
    /// The run is to end.
    Leave,
}

/// What makes the agent send a run's entries, on the first connection and on every later one.
enum Opening<'p> {
    Start { token: String, order: Order, parcels: Parcels<'p> },
    Attach { run: Option<String>, from: u64 },
    Cancel { run: Option<String>, who: Option<String> },
}

impl Client {
    /// Does an order on the host, telling of everything that happens. A connection that is lost on the way is made
    /// again, and what happened in between is told then; an interrupt asks the run to end at the next safe point.
    pub(crate) async fn run(
        &mut self,
        order: Order,
        parcels: Parcels<'_>,
        interrupts: &Interrupts,
        tell: &mut dyn FnMut(Told),
    ) -> Result<Ended, ClientError> {
        self.follow(Opening::Start { token: token(), order, parcels }, interrupts, tell).await
    }

    /// Follows a run that was begun earlier; the newest where none is named.
    pub(crate) async fn attach(
        &mut self,
        run: Option<String>,
        interrupts: &Interrupts,
        tell: &mut dyn FnMut(Told),
    ) -> Result<Ended, ClientError> {
        self.follow(Opening::Attach { run, from: 0 }, interrupts, tell).await
    }

    /// Asks a run to end at the next safe point (the newest that has not ended, where none is named; of `who`, if that is given),
    /// and follows it.
    pub(crate) async fn cancel(
        &mut self,
        run: Option<String>,
        who: Option<String>,
        interrupts: &Interrupts,
        tell: &mut dyn FnMut(Told),
    ) -> Result<Ended, ClientError> {
        self.follow(Opening::Cancel { run, who }, interrupts, tell).await
    }

    async fn follow(
        &mut self,
        opening: Opening<'_>,
        interrupts: &Interrupts,
        tell: &mut dyn FnMut(Told),
    ) -> Result<Ended, ClientError> {
        let run = match self.open(&opening, interrupts, tell).await {
            Err(lost) if lost.is_loss() => {
                let loss = Loss { until: Instant::now() + RECONNECT, again: false, stopping: false };
                self.open_again(&opening, &lost, loss, interrupts, tell).await?
            }
            other => other?,
        };
        self.last_run = Some(run.clone());
        let mut seen = 0;
        let mut ended = None;
        let mut stopping = false;
        let mut input = self.input.take();
        let mut patience = RECONNECT;
        let mut losses = Losses::new(Instant::now());
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let report = tokio::select! {
                report = self.report() => report,
                _ = beat.tick() => {
                    // Where it cannot be sent, receiving says why.
                    drop(self.send(&Request::Alive).await);
                    continue;
                }
                () = interrupts.first(), if !stopping => {
                    stopping = true;
                    self.stop(&run).await;
                    continue;
                }
                typed = next(&mut input) => {
                    match typed {
                        // Where it cannot be sent, receiving says why.
                        Some(Typed::Bytes(bytes)) => {
                            drop(self.send(&Request::Input { run: run.clone(), bytes }).await);
                        }
                        Some(Typed::Leave) => {
                            stopping = true;
                            self.stop(&run).await;
                        }
                        None => input = None,
                    }
                    continue;
                }
            };
            match report {
                Ok(Report::Entry(entry)) => {
                    if entry.number >= seen {
                        losses.has_grown();
                    }
                    seen = entry.number + 1;
                    match &entry.event {
                        RunEvent::Ended { ended: end } => ended = Some(end.clone()),
                        // What the run has said last is then heard when the machine is back.
                        RunEvent::Rebooting { deadline, .. } => {
                            patience = Duration::from_secs(*deadline).max(RECONNECT);
                        }
                        _ => {}
                    }
                    tell(Told::Run(entry.event));
                }
                Ok(Report::Done) => return ended.ok_or(ClientError::Unexpected),
                Ok(_) => return Err(ClientError::Unexpected),
                Err(lost) if lost.is_loss() => {
                    if let Some(rebooting) = ended.take_if(|ended| ended.reboot.is_some()) {
                        return Ok(rebooting);
                    }
                    let opening = Opening::Attach { run: Some(run.clone()), from: seen };
                    let loss = losses.next(Instant::now(), patience, stopping);
                    self.open_again(&opening, &lost, loss, interrupts, tell).await?;
                    losses.is_open(Instant::now());
                    if stopping {
                        // The first may have been lost with the connection.
                        self.stop(&run).await;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks a run to end. Where it cannot be asked, receiving says why.
    async fn stop(&mut self, run: &str) {
        let _ = self.send(&Request::Stop { run: run.to_owned() }).await;
    }

    /// Begins to follow a run, and returns its name.
    async fn open(
        &mut self,
        opening: &Opening<'_>,
        interrupts: &Interrupts,
        tell: &mut dyn FnMut(Told),
    ) -> Result<String, ClientError> {
        match opening {
            Opening::Start { token, order, parcels } => {
                let (token, order) = (token.clone(), order.clone());
                let attachments = parcels.announced();
                self.send(&Request::Start { token, order, attachments }).await?;
                self.send_parcels(*parcels, interrupts, tell).await?;
            }
            Opening::Attach { run, from } => {
                self.send(&Request::Attach { run: run.clone(), from: *from }).await?;
            }
            Opening::Cancel { run, who } => {
                self.send(&Request::Cancel { run: run.clone(), who: who.clone() }).await?;
            }
        }
        match self.report().await? {
            Report::Following { run } => Ok(run),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Makes a lost connection again and asks there for the same: a run that was begun is not begun twice.
    async fn open_again(
        &mut self,
        opening: &Opening<'_>,
        lost: &ClientError,
        loss: Loss,
        interrupts: &Interrupts,
        tell: &mut dyn FnMut(Told),
    ) -> Result<String, ClientError> {
        let last = super::chain(lost);
        tell(Told::Lost(last.clone()));
        let left = async {
            interrupts.first().await;
            sleep(PARTING).await;
        };
        tokio::select! {
            opened = self.try_again(opening, last.clone(), loss, interrupts, tell) => opened,
            () = left, if !loss.stopping => {
                let run = match opening {
                    Opening::Attach { run, .. } => run.clone(),
                    _ => None,
                };
                Err(ClientError::LeftLost { host: self.host.name.clone(), run, last })
            }
        }
    }

    async fn try_again(
        &mut self,
        opening: &Opening<'_>,
        mut last: String,
        loss: Loss,
        interrupts: &Interrupts,
        tell: &mut dyn FnMut(Told),
    ) -> Result<String, ClientError> {
        let options = self.way.options.clone();
        if loss.again {
            sleep(PAUSE).await;
        }
        while Instant::now() < loss.until {
            let opened = match self.connect_again(&options).await {
                Ok(()) => self.open(opening, interrupts, tell).await,
                Err(error) => Err(error),
            };
            match opened {
                Ok(run) => return Ok(run),
                Err(
                    error @ (ClientError::Refused(_)
                    | ClientError::NoneOf(_)
                    | ClientError::Unexpected
                    | ClientError::Interrupted),
                ) => return Err(error),
                Err(error) => last = super::chain(&error),
            }
            sleep(PAUSE).await;
        }
        let host = self.host.name.clone();
        Err(match opening {
            Opening::Attach { run: Some(run), .. } => ClientError::Lost { host, run: run.clone(), last },
            _ => ClientError::LostBefore { host, last },
        })
    }
}

/// A connection that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Loss {
    /// How long it is tried to be had again.
    until: Instant,
    /// Whether the last one was of no use either.
    again: bool,
    /// Whether the run was asked to end already.
    stopping: bool,
}

/// Connections that were lost one after the other. That one can be had is no success yet: patience starts anew when it
/// has brought something that was not seen before.
struct Losses {
    opened: Instant,
    /// When the patience ends that began with the first loss since then.
    until: Option<Instant>,
}

impl Losses {
    fn new(opened: Instant) -> Losses {
        Losses { opened, until: None }
    }

    /// More of the run was seen.
    fn has_grown(&mut self) {
        self.until = None;
    }

    /// There is a connection again.
    fn is_open(&mut self, now: Instant) {
        self.opened = now;
    }

    fn next(&mut self, now: Instant, patience: Duration, stopping: bool) -> Loss {
        // It was a good one, of a run that had nothing to say.
        if now >= self.opened + RECONNECT {
            self.until = None;
        }
        let again = self.until.is_some();
        Loss { until: *self.until.get_or_insert(now + patience), again, stopping }
    }
}

/// The next thing that is typed; nothing, ever, where nobody types.
async fn next(input: &mut Option<mpsc::Receiver<Typed>>) -> Option<Typed> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

/// A client's own name for a run, which no other run has: 16 hexadecimal digits.
fn token() -> String {
    // The only randomness of the standard library: the keys of this hash.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_starts_anew_only_with_something_new() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let loss = |until, again| Loss { until: at(until), again, stopping: false };
        let mut losses = Losses::new(start);
        assert_eq!(losses.next(at(1), RECONNECT, false), loss(31, false));
        // Each attempt is answered, and brings nothing.
        for second in 2..40 {
            losses.is_open(at(second));
            assert_eq!(losses.next(at(second), RECONNECT, false), loss(31, true));
        }
        losses.is_open(at(40));
        losses.has_grown();
        assert_eq!(losses.next(at(41), RECONNECT, false), loss(71, false));
        // A run that says nothing for long is no loss by itself.
        losses.is_open(at(42));
        assert_eq!(losses.next(at(300), RECONNECT, false), loss(330, false));
    }
}
