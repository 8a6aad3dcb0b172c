use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use toril_machine::Machine;

use super::prefetch::Lists;
use super::run::{run, update};
use super::steps::{Step, steps};
use super::{AptState, Caches, Database, Estimate, Wish, estimate, locks, offers};
use crate::resource::ResourceError;

/// How often a mirror that fails is asked, and how long it is left alone after the first time; then twice as long.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// Room that dpkg and apt take for themselves, besides what they install: databases and caches, in bytes.
const OVERHEAD: u64 = 16_000_000;

/// Where apt keeps what it has fetched.
pub(super) const ARCHIVES: &str = "/var/cache/apt/archives";

/// With so much room, in bytes, what exactly is needed is not asked: that takes apt seconds.
const PLENTY: u64 = 16 << 30;

/// Installs packages in one transaction: observes how apt and dpkg stand, and does what it takes, step by step. Never
/// asks a question. `lists`: package lists that were fetched beforehand.
pub(crate) fn install(
    wishes: &[Wish],
    recommends: bool,
    lists: Option<&Lists>,
    stop: &AtomicBool,
    log: &mut dyn FnMut(&str),
) -> Result<(), ResourceError> {
    locks::wait(stop, log)?;
    let mut unfinished = None;
    let packages: Vec<String> = wishes.iter().map(Wish::argument).collect();
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    let machine = Machine::this();
    let mut state = AptState::observe(&machine)?;
    state.indexes.fresh = lists.is_some_and(|lists| lists.are_current(&machine));
    let steps = steps(&state, &packages);
    let number = steps.len();
    for (index, step) in steps.into_iter().enumerate() {
        let start = Instant::now();
        let label = format!("step {} of {number}, {step}", index + 1);
        log(&label);
        let mut told = |line: &str| log(&format!("{label}, {}: {line}", locks::short(start.elapsed())));
        match step {
            // Waited for above; whoever has come since, apt itself waits for.
            Step::Wait(_) => {}
            // What is still missing then is what the installation is for: its own error tells more.
            Step::Configure(_) => {
                let args = ["--configure", "--pending", "--force-confdef", "--force-confold"];
                unfinished =
                    run("dpkg", &args, &mut told).inspect_err(|error| told(&error.to_string())).err();
            }
            Step::Discard(paths) => discard(&paths)?,
            Step::Fetch(_) => again(stop, &mut told, fetch)?,
            Step::Install { damaged, broken, .. } => {
                let names = offers::settle(wishes, &Database::read(&machine)?)?;
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                has_room(&names, recommends)?;
                let downgrade = wishes.iter().any(|wish| wish.downgrade);
                let how = How { damaged, recommends, downgrade, mend: !broken.is_empty() };
                again(stop, &mut told, |log| transact(&names, &how, log))?;
                unfinished = None;
            }
        }
    }
    unfinished.map_or(Ok(()), Err)
}

/// Removes lists that apt cannot use: it would take some of them for whole ones.
fn discard(paths: &[String]) -> Result<(), ResourceError> {
    for path in paths {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ResourceError(format!("cannot remove {path}: {error}")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Does it once more, and once more, where it is the mirror or the way to it that failed.
fn again(
    stop: &AtomicBool,
    log: &mut dyn FnMut(&str),
    mut attempt: impl FnMut(&mut dyn FnMut(&str)) -> Result<(), ResourceError>,
) -> Result<(), ResourceError> {
    let mut pause = PAUSE;
    for number in 1.. {
        let Err(error) = attempt(log) else { return Ok(()) };
        let stopped = stop.load(Ordering::Relaxed);
        if !is_passing(&error.0) || stopped {
            return Err(error);
        }
        if number == ATTEMPTS {
            let what = "the mirror, or the way to it, failed each of";
            return Err(ResourceError(format!("{what} {ATTEMPTS} times: {error}")));
        }
        log(&format!("the mirror failed; attempt {} of {ATTEMPTS} in {}", number + 1, locks::short(pause)));
        thread::sleep(pause);
        pause *= 2;
    }
    Ok(())
}

/// Whether a failure may be gone in a moment.
fn is_passing(error: &str) -> bool {
    const SIGNS: [&str; 9] = [
        "Connection reset",
        "Connection failed",
        "Connection timed out",
        "Could not connect",
        "Error reading from server",
        "Remote end closed connection",
        "Temporary failure resolving",
        "Hash Sum mismatch",
        "Service Unavailable",
    ];
    SIGNS.iter().any(|sign| error.contains(sign))
}

fn fetch(log: &mut dyn FnMut(&str)) -> Result<(), ResourceError> {
    // Unlike dpkg, this may be ended at any time: a mirror, or a method of apt's, can hang for ever.
    update(|args| run("timeout", &[&["--kill-after=10", "300", "apt-get"], args].concat(), log))
}

/// Refuses what will not fit, before anything is begun. Where apt cannot tell, its own error does later.
pub(super) fn has_room(packages: &[&str], recommends: bool) -> Result<(), ResourceError> {
    let free = |path: &str| {
        let space = rustix::fs::statvfs(path).ok()?;
        Some((space.f_fsid, space.f_bavail.saturating_mul(space.f_frsize)))
    };
    let (Some((archives, for_archives)), Some((files, for_files))) = (free(ARCHIVES), free("/usr")) else {
        return Ok(());
    };
    if for_archives.min(for_files) >= PLENTY {
        return Ok(());
    }
    let Some(estimate) = estimate(packages, recommends, Caches::Used) else { return Ok(()) };
    let Estimate { download, unpacked, .. } = estimate;
    if download == 0 && unpacked == 0 {
        return Ok(());
    }
    let (download, unpacked) = (download.saturating_add(OVERHEAD), unpacked);
    let lacking = match archives == files && for_archives == for_files {
        true => (for_files < download.saturating_add(unpacked)).then_some(("/", for_files)),
        false if for_archives < download => Some((ARCHIVES, for_archives)),
        false => (for_files < unpacked).then_some(("/usr", for_files)),
    };
    let Some((place, free)) = lacking else { return Ok(()) };
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(ResourceError(format!(
        "no room for this: {} MiB to download and {} MiB unpacked do not fit into the {} MiB that are free at {place}; \
         nothing was begun; free some space (`apt-get clean`, `journalctl --vacuum-size=50M`) and run this again",
        mib(download),
        mib(unpacked),
        free >> 20
    )))
}

/// What a transaction is besides its packages.
struct How {
    /// Packages that are unpacked anew.
    damaged: Vec<String>,
    recommends: bool,
    downgrade: bool,
    /// Whether something that is installed lacks what it needs.
    mend: bool,
}

fn transact(packages: &[&str], how: &How, log: &mut dyn FnMut(&str)) -> Result<(), ResourceError> {
    let How { damaged, recommends, downgrade, mend } = how;
    let mut args = vec!["install", "--yes", "--fix-broken", "-o", "Acquire::Retries=3"];
    args.extend(["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]);
    args.extend(["-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"]);
    args.push(if *recommends { "--install-recommends" } else { "--no-install-recommends" });
    if *downgrade {
        args.push("--allow-downgrades");
    }
    // It would rather take away what lacks something than find it.
    if *mend {
        args.push("--no-remove");
    }
    // By itself, apt leaves half-installed ones as they are.
    if !damaged.is_empty() {
        args.push("--reinstall");
    }
    args.push("--");
    args.extend(packages);
    args.extend(damaged.iter().map(String::as_str).filter(|name| !packages.contains(name)));
    run("apt-get", &args, log)
}

/// Keeps packages at their versions (`hold`), or no longer (`unhold`).
pub(crate) fn mark(
    verb: &str,
    packages: &[&str],
    stop: &AtomicBool,
    log: &mut dyn FnMut(&str),
) -> Result<(), ResourceError> {
    if packages.is_empty() {
        return Ok(());
    }
    locks::wait(stop, log)?;
    let args: Vec<&str> = [verb, "--"].into_iter().chain(packages.iter().copied()).collect();
    run("apt-mark", &args, log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_that_fails_is_asked_again_and_other_failures_are_not() {
        let attempts = |error: &str| {
            let mut count = 0;
            let stop = AtomicBool::new(false);
            let attempt = |_: &mut dyn FnMut(&str)| {
                count += 1;
                if count == 2 { Ok(()) } else { Err(ResourceError(error.into())) }
            };
            let ended = again(&stop, &mut |_| {}, attempt).is_ok();
            (count, ended)
        };
        assert_eq!(attempts("E: Failed to fetch http://m/a.deb  Connection reset by peer"), (2, true));
        assert_eq!(attempts("E: Unable to locate package x"), (1, false));
    }
}
