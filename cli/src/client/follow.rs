use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::{Client, ClientError, Parcels};
use crate::agent::{Ended, Order, Report, Request, RunEvent};
use crate::interrupt::Interrupts;

/// How long a lost connection is tried to be had again.
const RECONNECT: Duration = Duration::from_secs(30);

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
                self.open_again(&opening, &lost, RECONNECT, interrupts, tell).await?
            }
            other => other?,
        };
        self.last_run = Some(run.clone());
        let mut seen = 0;
        let mut ended = None;
        let mut stopping = false;
        let mut input = self.input.take();
        let mut patience = RECONNECT;
        loop {
            let report = tokio::select! {
                report = self.report() => report,
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
                    self.open_again(&opening, &lost, patience, interrupts, tell).await?;
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
        patience: Duration,
        interrupts: &Interrupts,
        tell: &mut dyn FnMut(Told),
    ) -> Result<String, ClientError> {
        let until = Instant::now() + patience;
        let mut last = super::chain(lost);
        tell(Told::Lost(last.clone()));
        let options = self.way.options.clone();
        while Instant::now() < until {
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
            sleep(Duration::from_secs(1)).await;
        }
        let host = self.host.name.clone();
        Err(match opening {
            Opening::Attach { run: Some(run), .. } => ClientError::Lost { host, run: run.clone(), last },
            _ => ClientError::LostBefore { host, last },
        })
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
