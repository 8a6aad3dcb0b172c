//! The same work on many hosts at once.

use std::future::Future;
use std::io;
use std::process::exit;

use tokio::task::LocalSet;

use super::UsageError;
use crate::exit::Status;
use crate::interrupt::Interrupts;
use crate::view::{Shown, View};

/// Runs `work` on a runtime of its own, with interrupts being heard.
pub(super) fn block_on<T>(view: &View, work: impl AsyncFnOnce(Interrupts) -> T) -> Result<T, UsageError> {
    let failed = |error: io::Error| UsageError::Other(format!("cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let shown = view;
    let view = view.clone();
    let interrupts = Interrupts::listen().map_err(failed)?;
    let tasks = LocalSet::new();
    let done = tasks.block_on(&runtime, async {
        let first = interrupts.clone();
        tokio::task::spawn_local(async move {
            first.first().await;
            let text = "stopping at the next safe point; press Ctrl-C again to leave at once";
            view.show(None, &Shown::Note { text });
        });
        tokio::select! {
            result = work(interrupts.clone()) => Some(result),
            () = interrupts.second() => None,
        }
    });
    if done.is_none() {
        shown.leave();
    }
    // Closes the connections; what was begun on hosts goes on there.
    drop(tasks);
    // Not by waiting for its threads: one may read an answer from the terminal that nobody gives any more.
    runtime.shutdown_background();
    done.ok_or_else(|| exit(Status::Operation.number().into()))
}

/// Does on a thread of its own what would keep all hosts from being worked on meanwhile.
pub(super) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("its thread did not end well: {error}"))
}

/// Does all of these at once and returns what came of them, in their order.
pub(super) async fn all<T: 'static>(
    work: impl IntoIterator<Item = impl Future<Output = T> + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = work.into_iter().map(tokio::task::spawn_local).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        // A task ends without a result only by a panic, which aborts the program.
        if let Ok(result) = task.await {
            results.push(result);
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn others_go_on_beside_what_does_not_yield() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (sender, receiver) = mpsc::channel();
        let (heard, ()) = runtime.block_on(async {
            // It would wait for ever where it kept the other from its turn.
            let waits = beside(move || receiver.recv_timeout(Duration::from_secs(30)));
            tokio::join!(waits, async { sender.send(7).unwrap() })
        });
        assert_eq!(heard, Ok(Ok(7)));
    }
}
