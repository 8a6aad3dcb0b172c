use std::io;
use std::process::exit;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch;

use crate::exit::Status;

/// How long an orderly leave may take.
const LEAVE: Duration = Duration::from_millis(500);

/// Ctrl-C (and SIGTERM): the first asks for an end at the next safe point, the second ends this program at once.
#[derive(Clone)]
pub(crate) struct Interrupts(watch::Receiver<usize>);

/// What interrupts from within.
pub(crate) struct Stop(watch::Sender<usize>);

impl Stop {
    pub(crate) fn interrupt(&self) {
        self.0.send_modify(|pressed| *pressed = (*pressed).max(1));
    }
}

impl Interrupts {
    /// None at all.
    #[cfg(test)]
    pub(crate) fn never() -> Interrupts {
        Interrupts(watch::channel(0).1)
    }

    /// Begins to listen, on a thread: the runtime may be busy with something that does not yield.
    pub(crate) fn listen() -> io::Result<Interrupts> {
        let (sender, receiver) = watch::channel(0);
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        thread::Builder::new().name("interrupts".into()).spawn(move || {
            for (before, _) in signals.forever().enumerate() {
                // Nobody may be waiting for it.
                let _ = sender.send(before + 1);
                if before > 0 {
                    thread::sleep(LEAVE);
                    exit(Status::Operation.number().into());
                }
            }
        })?;
        Ok(Interrupts(receiver))
    }

    /// The same, and another that comes from within.
    pub(crate) fn and_another(&self) -> (Interrupts, Stop) {
        let (sender, receiver) = watch::channel(*self.0.borrow());
        let stop = Stop(sender.clone());
        let mut outer = self.0.clone();
        tokio::task::spawn_local(async move {
            loop {
                tokio::select! {
                    changed = outer.changed() => {
                        let pressed = *outer.borrow_and_update();
                        if changed.is_err() || sender.send(pressed).is_err() {
                            return;
                        }
                    }
                    () = sender.closed() => return,
                }
            }
        });
        (Interrupts(receiver), stop)
    }

    /// Waits for the first.
    pub(crate) async fn first(&self) {
        self.reach(1).await;
    }

    /// Waits for the second.
    pub(crate) async fn second(&self) {
        self.reach(2).await;
    }

    async fn reach(&self, count: usize) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|pressed| *pressed >= count).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits, without yielding, until a line can be read from standard input; `false` after an interrupt.
    pub(crate) fn wait_for_line(&self) -> io::Result<bool> {
        const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let input = io::stdin();
        while *self.0.borrow() == 0 {
            match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&PAUSE)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}
