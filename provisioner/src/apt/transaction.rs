use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use toril_machine::{Machine, STANDARD_PATH, keep_room};

use super::steps::{Step, steps};
use super::{AptState, Caches, Database, Estimate, Wish, estimate, locks, offers};
use crate::resource::ResourceError;

/// Where what apt and dpkg print is kept.
const LOG: &str = "/var/log/toril-apt.log";

/// How much of it can be written even when the disk becomes full, in bytes: else it could not say that it did.
const LOG_ROOM: u64 = 512 << 10;

/// How often a mirror that fails is asked, and how long it is left alone after the first time; then twice as long.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// Room that dpkg and apt take for themselves, besides what they install: databases and caches, in bytes.
const OVERHEAD: u64 = 16_000_000;

/// Where apt keeps what it has fetched.
const ARCHIVES: &str = "/var/cache/apt/archives";

/// With so much room, in bytes, what exactly is needed is not asked: that takes apt seconds.
const PLENTY: u64 = 16 << 30;

/// Installs packages in one transaction: observes how apt and dpkg stand, and does what it takes, step by step. Never
/// asks a question.
pub(crate) fn install(
    wishes: &[Wish],
    recommends: bool,
    stop: &AtomicBool,
    log: &mut dyn FnMut(&str),
) -> Result<(), ResourceError> {
    locks::wait(stop, log)?;
    let mut unfinished = None;
    let packages: Vec<String> = wishes.iter().map(Wish::argument).collect();
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    let steps = steps(&AptState::observe(&Machine::this())?, &packages);
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
                let names = offers::settle(wishes, &Database::read(&Machine::this())?)?;
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
    let update =
        ["--kill-after=10", "300", "apt-get", "update", "-o", "Acquire::Retries=1", "--error-on=any"];
    run("timeout", &update, log).or_else(|error| {
        match error.0.contains("--error-on") || error.0.contains("Command line option") {
            // apt before 2.1 does not know the option.
            true => run("timeout", &update[..update.len() - 1], log),
            false => Err(error),
        }
    })
}

/// Refuses what will not fit, before anything is begun. Where apt cannot tell, its own error does later.
fn has_room(packages: &[&str], recommends: bool) -> Result<(), ResourceError> {
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

/// Runs apt or dpkg to its end. It is never killed half-way, and its output goes to a file and not to a pipe, so that
/// it goes on to its end even if this process is killed.
fn run(program: &str, args: &[&str], log: &mut dyn FnMut(&str)) -> Result<(), ResourceError> {
    let failed = |what: &str, error: std::io::Error| ResourceError(format!("cannot {what}: {error}"));
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(LOG)
        .map_err(|error| failed(&format!("write {LOG}"), error))?;
    let mut reader = File::open(LOG).map_err(|error| failed(&format!("read {LOG}"), error))?;
    let start = reader.seek(SeekFrom::End(0)).map_err(|error| failed(&format!("read {LOG}"), error))?;
    if let Err(error) = keep_room(&output, LOG_ROOM) {
        return Err(ResourceError(format!(
            "cannot write {LOG}: {error}; free some space and run this again"
        )));
    }
    let copy = output.try_clone().map_err(|error| failed(&format!("write {LOG}"), error))?;
    let room = output.try_clone().map_err(|error| failed(&format!("write {LOG}"), error))?;
    // setsid: a hangup or an interrupt meant for this program must not reach dpkg.
    let mut child = Command::new("setsid")
        .args(["--wait", program])
        .args(args)
        .env("PATH", STANDARD_PATH)
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("NEEDRESTART_SUSPEND", "1")
        .env("APT_LISTCHANGES_FRONTEND", "none")
        .stdin(Stdio::null())
        .stdout(copy)
        .stderr(output)
        .spawn()
        .map_err(|error| failed(&format!("run {program}"), error))?;
    let mut pending = String::new();
    let status = loop {
        let ended = child.try_wait().map_err(|error| failed(&format!("wait for {program}"), error))?;
        let mut bytes = Vec::new();
        if reader.read_to_end(&mut bytes).is_ok() {
            pending.push_str(&String::from_utf8_lossy(&bytes));
            while let Some(end) = pending.find('\n') {
                let line: String = pending.drain(..=end).collect();
                if !line.trim().is_empty() {
                    log(line.trim_end());
                }
            }
        }
        match ended {
            Some(status) => break status,
            None => thread::sleep(Duration::from_millis(30)),
        }
    };
    // Frees the room that was not used; it is no more than some room.
    let _ = reader.metadata().and_then(|data| room.set_len(data.len()));
    if status.success() {
        return Ok(());
    }
    let output = text_from(Path::new(LOG), start);
    // timeout(1) exits with 124 when it ended what it ran.
    if program == "timeout" && status.code() == Some(124) {
        return Err(ResourceError(format!(
            "`apt-get update` was still running after 300 s and was ended; look at the host's network and at \
             /etc/apt/sources.list* (all of its output: {LOG})"
        )));
    }
    let (program, args) = if program == "timeout" { (args[2], &args[3..]) } else { (program, args) };
    Err(explain(program, args, &status.to_string(), &output))
}

fn text_from(path: &Path, start: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// Turns a failure's output into cause and remedy.
fn explain(program: &str, args: &[&str], status: &str, output: &str) -> ResourceError {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let is_error = |line: &&str| {
        line.starts_with("E: ")
            || line.contains("script subprocess returned error")
            || line.starts_with("dpkg: error")
            || line.contains("No space left on device")
    };
    let errors: Vec<&str> = lines.iter().copied().filter(is_error).collect();
    let shown = match errors.is_empty() {
        true => &lines[lines.len().saturating_sub(5)..],
        false => &errors[..errors.len().min(6)],
    };
    let known = [
        ("No space left on device", "the disk is full; free some space and run this again"),
        ("have enough free space", "the disk is too small for this; free some space and run this again"),
        ("Unable to locate package", "no source has this package; look at /etc/apt/sources.list*"),
        ("Temporary failure resolving", "the mirror's name cannot be resolved; look at the host's DNS"),
        (
            "404  Not Found",
            "a source names a suite that its mirror no longer has; look at /etc/apt/sources.list*",
        ),
        (
            "EXPKEYSIG",
            "a key that signs a source has expired: name the release files that you know by `in-release` of apt-source \
             (microvm-host: the variable `in_release`), or a mirror that is signed anew",
        ),
        (
            "BADSIG",
            "a source is not what was signed: somebody altered it, or it broke on the way; nothing of it is used",
        ),
        ("is not valid yet", "the host's clock is wrong"),
        (
            "script subprocess returned error",
            "a package's own script fails; mend what it says, and run this again: it goes on from there",
        ),
        (
            "Held packages were changed",
            "a package that has to change is held; `apt-mark unhold` it, or say `hold` in the recipe",
        ),
        (
            "but remove is disabled",
            "dependencies are broken, and apt could only mend them by taking packages away: look at `apt-get install \
             --fix-broken`, and decide by hand",
        ),
        (
            "Conflicting values set for option",
            "two lists name the same suite with other options; take one out of use (`replaces` of apt-source)",
        ),
        (
            "you have held broken packages",
            "what is to be installed does not fit what is; does a source lack the updates of what is?",
        ),
        ("was not found", "no source has this release of the package; look at /etc/apt/sources.list*"),
    ];
    let remedy = known.iter().find(|(sign, _)| output.contains(sign)).map(|(_, remedy)| *remedy);
    ResourceError(format!(
        "`{program} {}` failed ({status}): {}\n  {} (all of its output: {LOG})",
        args.first().unwrap_or(&""),
        remedy.unwrap_or("see its errors"),
        shown.join("\n  "),
    ))
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

    #[test]
    fn a_full_disk_is_recognised() {
        let output = "Unpacking a ...\ndpkg: error processing archive /x.deb (--unpack):\n cannot copy: failed to write (No space left on device)\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n";
        let error = explain("apt-get", &["install", "a"], "exit status: 100", output).to_string();
        assert!(error.contains("the disk is full") && error.contains("Sub-process"), "{error}");
    }
}
