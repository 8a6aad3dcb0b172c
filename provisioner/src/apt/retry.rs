//! Doing again what failed for a reason that passes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::failure::{Cause, Failure};
use super::locks;
use crate::resource::ResourceError;

/// How often a mirror that fails is asked, and how long it is left alone after the first time; then twice as long.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

type Log<'l> = &'l mut dyn FnMut(&str);

/// Does it once more, and once more, where it is the mirror or the way to it that failed; and as soon as nobody holds them
/// where somebody took apt's or dpkg's locks in between.
pub(super) fn again(
    stop: &AtomicBool,
    log: Log<'_>,
    attempt: impl FnMut(Log<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    again_after(stop, log, |log| locks::wait(stop, log), attempt)
}

/// The same; `wait`: until nobody holds the locks.
fn again_after(
    stop: &AtomicBool,
    log: Log<'_>,
    mut wait: impl FnMut(Log<'_>) -> Result<(), ResourceError>,
    mut attempt: impl FnMut(Log<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut number, mut pause) = (1, PAUSE);
    let mut locked: Option<Instant> = None;
    loop {
        let Err(failure) = attempt(log) else { return Ok(()) };
        if stop.load(Ordering::Relaxed) {
            return Err(failure);
        }
        match failure.cause {
            Cause::Locked if locked.is_none_or(|since| since.elapsed() < locks::PATIENCE) => {
                locked.get_or_insert_with(Instant::now);
                log("somebody else took a lock in between; it is done again when nobody holds it");
                // Whoever has it may have it for a moment only, and not be seen.
                thread::sleep(Duration::from_secs(1));
                wait(log)?;
            }
            Cause::Mirror | Cause::Spoiled if number == ATTEMPTS => {
                let what = "the mirror, or the way to it, failed each of";
                let error = ResourceError(format!("{what} {ATTEMPTS} times: {}", failure.error));
                return Err(Failure { error, ..failure });
            }
            Cause::Mirror | Cause::Spoiled => {
                number += 1;
                log(&format!("the mirror failed; attempt {number} of {ATTEMPTS} in {}", locks::short(pause)));
                thread::sleep(pause);
                pause *= 2;
            }
            _ => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often it is tried, and waited for locks, where it fails the first time.
    fn attempts(error: &str) -> (u32, u32, bool) {
        let (mut count, mut waits) = (0, 0);
        let stop = AtomicBool::new(false);
        let attempt = |_: Log<'_>| {
            count += 1;
            if count == 2 { Ok(()) } else { Err(Failure::of_error(ResourceError(error.into()))) }
        };
        let wait = |_: Log<'_>| {
            waits += 1;
            Ok(())
        };
        let ended = again_after(&stop, &mut |_| {}, wait, attempt).is_ok();
        (count, waits, ended)
    }

    #[test]
    fn a_mirror_that_fails_is_asked_again_and_other_failures_are_not() {
        assert_eq!(attempts("E: Failed to fetch http://m/a.deb  Connection reset by peer"), (2, 0, true));
        assert_eq!(attempts("E: Failed to fetch http://m/a  504  Gateway Time-out"), (2, 0, true));
        assert_eq!(attempts("E: Unable to locate package x"), (1, 0, false));
    }

    #[test]
    fn locks_that_others_took_in_between_are_waited_for() {
        assert_eq!(
            attempts("E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7"),
            (2, 1, true)
        );
    }
}
