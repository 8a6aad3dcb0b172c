use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Does all of the items, `jobs` of them side by side, each begun in the items' order; those that are to be alone run
/// while nothing else does. The results are in the items' order.
pub(crate) fn do_all<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    is_alone: impl Fn(&T) -> bool + Sync,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let jobs = jobs.clamp(1, items.len().max(1));
    if jobs == 1 {
        return items.iter().map(work).collect();
    }
    let queue = Queue { state: Mutex::default(), changed: Condvar::new() };
    let worker = || {
        let mut done = Vec::new();
        while let Some(index) = queue.take(items.len(), |index| is_alone(&items[index])) {
            // Given back however the work ends, or the others would wait for ever.
            let _turn = Turn(&queue);
            done.push((index, work(&items[index])));
        }
        done
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        let ends = workers.into_iter().map(|worker| worker.join());
        ends.flat_map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[derive(Debug, Default)]
struct State {
    next: usize,
    running: usize,
    alone: bool,
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item, as soon as it may be begun. Nothing overtakes one that waits to be alone.
    fn take(&self, count: usize, is_alone: impl Fn(usize) -> bool) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.next == count {
                return None;
            }
            let alone = is_alone(state.next);
            if !state.alone && (!alone || state.running == 0) {
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let index = state.next;
        state.next += 1;
        state.running += 1;
        state.alone = is_alone(index);
        Some(index)
    }
}

struct Turn<'q>(&'q Queue);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running -= 1;
        state.alone = false;
        drop(state);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn everything_is_done_once_and_the_lonely_are_alone(
            alone in prop::collection::vec(any::<bool>(), 0..12),
            jobs in 0..6_usize,
        ) {
            let running = AtomicUsize::new(0);
            let most = AtomicUsize::new(0);
            let items: Vec<(usize, bool)> = alone.into_iter().enumerate().collect();
            let seen = do_all(&items, jobs, |item| item.1, |(index, alone)| {
                let before = running.fetch_add(1, Ordering::SeqCst);
                most.fetch_max(before + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(1));
                let during = running.load(Ordering::SeqCst);
                running.fetch_sub(1, Ordering::SeqCst);
                (*index, !alone || (before == 0 && during == 1))
            });
            prop_assert!(seen.iter().enumerate().all(|(index, (item, _))| index == *item));
            prop_assert!(seen.iter().all(|(_, was_alone)| *was_alone));
            prop_assert_eq!(seen.len(), items.len());
            prop_assert!(most.load(Ordering::SeqCst) <= jobs.max(1));
        }
    }

    #[test]
    fn they_run_side_by_side() {
        let barrier = std::sync::Barrier::new(3);
        // Would not end otherwise.
        do_all(&[(); 3], 3, |()| false, |()| barrier.wait().is_leader());
    }
}
