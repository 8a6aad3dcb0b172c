//! The terminal, on which one question is asked at a time: an answer must be that to the question above it.

use tokio::sync::{Mutex, MutexGuard};

static TERMINAL: Mutex<()> = Mutex::const_new(());

/// The right to ask. Others wait until it is dropped.
pub(super) async fn turn() -> MutexGuard<'static, ()> {
    TERMINAL.lock().await
}
