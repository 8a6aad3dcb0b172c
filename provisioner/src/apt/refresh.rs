//! Fetching package lists.

use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use toril_machine::Machine;

use super::failure::{Cause, Failure};
use super::indexes::{LISTS, PARTIAL, names};
use super::retry::again;
use super::run::{LOG, run_group};
use super::{locks, steps::Step};
use crate::resource::ResourceError;

/// How long apt may make no progress.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often progress is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Where apt keeps what it has made of the lists.
const CACHES: &str = "/var/cache/apt";

/// Has package lists fetched by `apt-get`, which is given its arguments.
pub(super) fn update(mut apt_get: impl FnMut(&[&str]) -> Result<(), Failure>) -> Result<(), Failure> {
    let args = ["update", "-o", "Acquire::Retries=1", "--error-on=any"];
    apt_get(&args).or_else(|failure| {
        match failure.error.0.contains("--error-on") || failure.error.0.contains("Command line option") {
            // apt before 2.1 does not know the option.
            true => apt_get(&args[..args.len() - 1]),
            false => Err(failure),
        }
    })
}

/// Has lists fetched that are not the host's own, by an `apt-get` that is given its arguments; once more where a mirror
/// fails.
pub(crate) fn update_others(
    stop: &AtomicBool,
    log: &mut dyn FnMut(&str),
    apt_get: impl Fn(&[&str]) -> Result<(), ResourceError>,
) -> Result<(), ResourceError> {
    let attempt = |_: &mut dyn FnMut(&str)| update(|args| apt_get(args).map_err(Failure::of_error));
    again(stop, log, attempt).map_err(|failure| failure.error)
}

/// Fetches the host's lists; where apt cannot read those that are here, all of them.
pub(super) fn fetch(machine: &Machine, stop: &AtomicBool, log: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    match again(stop, log, |log| attempt(machine, stop, log)) {
        Err(failure) if failure.cause == Cause::Lists => fetch_all(machine, stop, log),
        ended => ended,
    }
}

/// Fetches all of the lists anew: apt cannot read what is here, and takes it for whole.
pub(super) fn fetch_all(
    machine: &Machine,
    stop: &AtomicBool,
    log: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let mut paths = Vec::new();
    for directory in [LISTS, PARTIAL, CACHES] {
        let names = names(machine, directory)?.into_iter();
        let names = names.filter(|name| directory != CACHES || name.ends_with("pkgcache.bin"));
        paths.extend(names.map(|name| format!("{directory}/{name}")));
    }
    let step = Step::Discard(paths.clone());
    log(&format!("one more step, {step}, nor what it has made of them; then fetch them all anew"));
    discard(machine, &paths)?;
    again(stop, log, |log| attempt(machine, stop, log))
}

/// Removes lists that apt cannot use: it would take some of them for whole ones.
pub(super) fn discard(machine: &Machine, paths: &[String]) -> Result<(), ResourceError> {
    for path in paths {
        match fs::remove_file(machine.path(path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ResourceError(format!("cannot remove {path}: {error}")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Unlike dpkg, this may be ended at any time: a mirror, or a method of apt's, can hang for ever.
fn attempt(machine: &Machine, stop: &AtomicBool, log: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let is_stopped = || stop.load(Ordering::Relaxed);
    let progress = || progress(machine);
    let stall = Stall::begin(PATIENCE, LOOK, &progress);
    let is_over = || is_stopped() || stall.is_over();
    update(|args| run_group(&is_over, "apt-get", args, log)).map_err(|failure| {
        let partial = match failure.cause {
            // What is there of these would be gone on with.
            Cause::Spoiled => names(machine, PARTIAL).unwrap_or_default(),
            _ => Vec::new(),
        };
        let partial: Vec<String> = partial.iter().map(|name| format!("{PARTIAL}/{name}")).collect();
        let _ = discard(machine, &partial);
        if is_stopped() {
            return ResourceError("the run was stopped while package lists were fetched".into()).into();
        }
        match stall.over.get() {
            true => ResourceError(format!(
                "`apt-get update` got no further for {} and was ended; look at the host's network and at \
                 /etc/apt/sources.list* (all of its output: {LOG})",
                locks::short(PATIENCE)
            ))
            .into(),
            false => failure,
        }
    })
}

/// Something that changes as long as apt gets further: what it has printed, and how much of lists has come.
fn progress(machine: &Machine) -> (u64, u64) {
    let length = |path: &str| fs::metadata(machine.path(path)).map_or(0, |data| data.len());
    let partial = names(machine, PARTIAL).unwrap_or_default();
    (length(LOG), partial.iter().map(|name| length(&format!("{PARTIAL}/{name}")) + 1).sum())
}

/// Watches for something to stand still.
struct Stall<'p, P> {
    patience: Duration,
    look: Duration,
    progress: &'p dyn Fn() -> P,
    seen: Cell<P>,
    since: Cell<Instant>,
    looked: Cell<Instant>,
    over: Cell<bool>,
}

impl<P: PartialEq + Copy> Stall<'_, P> {
    fn begin(patience: Duration, look: Duration, progress: &dyn Fn() -> P) -> Stall<'_, P> {
        let (seen, now) = (Cell::new(progress()), Cell::new(Instant::now()));
        Stall { patience, look, progress, seen, since: now.clone(), looked: now, over: Cell::new(false) }
    }

    /// Whether it has stood still for too long.
    fn is_over(&self) -> bool {
        if self.looked.get().elapsed() < self.look {
            return self.over.get();
        }
        self.looked.set(Instant::now());
        let now = (self.progress)();
        if self.seen.replace(now) != now {
            self.since.set(Instant::now());
        }
        self.over.set(self.since.get().elapsed() >= self.patience);
        self.over.get()
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn what_gets_further_is_not_ended() {
        let at = Cell::new(0);
        let progress = || at.get();
        let stall = Stall::begin(Duration::from_millis(200), Duration::ZERO, &progress);
        for step in 1..=10 {
            sleep(Duration::from_millis(50));
            at.set(step);
            assert!(!stall.is_over(), "for longer than its patience, and always with progress");
        }
        sleep(Duration::from_millis(220));
        assert!(stall.is_over());
    }

    #[test]
    fn an_old_apt_is_asked_without_what_it_does_not_know() {
        let mut asked = Vec::new();
        let ended = update(|args| {
            asked.push(args.len());
            let error =
                "`apt-get` exited with status 100: E: Command line option --error-on=any is not understood";
            if args.contains(&"--error-on=any") {
                Err(Failure::of_error(ResourceError(error.into())))
            } else {
                Ok(())
            }
        });
        assert!(ended.is_ok());
        assert_eq!(asked, [4, 3]);
    }
}
