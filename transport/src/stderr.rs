//! Collects what a process says on standard error, and notices sudo asking for a password there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::process::Output;
use crate::start::PROMPT;

/// How much of standard error is kept, in bytes.
const KEPT: usize = 8 << 10;
/// How long the rest of standard error may take once standard output has ended.
const REST: Duration = Duration::from_millis(500);

/// Standard error of a running process.
#[derive(Debug)]
pub(crate) struct Stderr {
    kept: Arc<Mutex<VecDeque<u8>>>,
    prompts: watch::Receiver<usize>,
    reader: JoinHandle<()>,
}

impl Stderr {
    /// Reads in the background until the stream ends.
    pub(crate) fn collect(mut stream: Output) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let (asked, prompts) = watch::channel(0);
        let into = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; 4 << 10];
            let mut matched = 0;
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let bytes = buffer.get(..count).unwrap_or_default();
                let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(bytes);
                let excess = kept.len().saturating_sub(KEPT);
                kept.drain(..excess);
                drop(kept);
                let found = prompts_in(bytes, &mut matched);
                if found > 0 {
                    asked.send_modify(|count| *count += found);
                }
            }
        });
        Self { kept, prompts, reader }
    }

    /// Waits until sudo has asked once more, and says how often it has by now. Never returns when it cannot
    /// ask any more.
    pub(crate) async fn prompted(&mut self) -> usize {
        if self.prompts.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.prompts.borrow()
    }

    /// The last of what was said so far, without sudo's prompt.
    pub(crate) fn tail(&self) -> String {
        let kept: Vec<u8> =
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        String::from_utf8_lossy(&kept).replace(PROMPT, "").trim().to_owned()
    }

    /// The last of what was said, once the stream has ended (or a moment has passed).
    pub(crate) async fn rest(&mut self) -> String {
        // A task that has ended must not be waited for twice; what it read is kept.
        if !self.reader.is_finished() {
            let _ = tokio::time::timeout(REST, &mut self.reader).await;
        }
        self.tail()
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// How many prompts end in `bytes`; `matched` carries a prompt that is cut in two.
fn prompts_in(bytes: &[u8], matched: &mut usize) -> usize {
    let prompt = PROMPT.as_bytes();
    let mut found = 0;
    for byte in bytes {
        if prompt.get(*matched) == Some(byte) {
            *matched += 1;
        } else {
            *matched = usize::from(prompt.first() == Some(byte));
        }
        if *matched == prompt.len() {
            found += 1;
            *matched = 0;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_found_however_it_is_cut() {
        let text = format!("lecture\n{PROMPT}Sorry, try again.\ntoril-toril{PROMPT}");
        for size in 1..text.len() {
            let mut matched = 0;
            let found: usize =
                text.as_bytes().chunks(size).map(|piece| prompts_in(piece, &mut matched)).sum();
            assert_eq!(found, 2, "in pieces of {size}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn only_the_end_is_kept() {
        let text = format!("{}{PROMPT}the end\n", "x".repeat(100_000));
        let mut stderr = Stderr::collect(Box::new(std::io::Cursor::new(text.into_bytes())));
        assert_eq!(stderr.prompted().await, 1);
        let rest = stderr.rest().await;
        assert!(rest.ends_with("xthe end") && rest.len() < KEPT, "{}", rest.len());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_rest_may_be_asked_for_again() {
        let mut stderr = Stderr::collect(Box::new(std::io::Cursor::new(b"lost\n".to_vec())));
        assert_eq!(stderr.rest().await, "lost");
        assert_eq!(stderr.rest().await, "lost");
    }
}
