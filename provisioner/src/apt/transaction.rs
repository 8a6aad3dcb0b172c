use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use toril_machine::{Command, Machine};

use super::failure::{Cause, Failure};
use super::prefetch::Lists;
use super::refresh::{discard, fetch, fetch_all};
use super::retry::again;
use super::run::run;
use super::steps::{Step, steps};
use super::{AptState, Caches, Database, Estimate, Wish, estimate, locks, offers};
use crate::resource::ResourceError;

/// Room that dpkg and apt take for themselves, besides what they install: databases and caches, in bytes.
const OVERHEAD: u64 = 16_000_000;

/// Where apt keeps what it has fetched.
pub(super) const ARCHIVES: &str = "/var/cache/apt/archives";

/// With so much room, in bytes, what exactly is needed is not asked: that takes apt seconds.
const PLENTY: u64 = 16 << 30;

/// Installs packages in one transaction: observes how apt and dpkg stand, and does what it takes, step by step. Never
/// asks a question. `lists`: package lists that were fetched beforehand. `own`: held packages that may change for it, and
/// that are held afterwards.
pub(crate) fn install(
    wishes: &[Wish],
    recommends: bool,
    lists: Option<&Lists>,
    own: &[&str],
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
        // Others may have come since the last step.
        locks::wait(stop, log)?;
        let start = Instant::now();
        let label = format!("step {} of {number}, {step}", index + 1);
        log(&label);
        let mut told = |line: &str| match line.starts_with("waiting: ") {
            true => log(line),
            false => log(&format!("{label}, {}: {line}", locks::short(start.elapsed()))),
        };
        match step {
            // Waited for above.
            Step::Wait(_) => {}
            // What is still missing then is what the installation is for: its own error tells more.
            Step::Configure(_) => {
                let args = ["--configure", "--pending", "--force-confdef", "--force-confold"];
                let ended = again(stop, &mut told, |log| run("dpkg", &args, log));
                unfinished = ended.map_err(|failure| failure.error).inspect_err(|error| told(&error.0)).err();
            }
            Step::Discard(paths) => discard(&machine, &paths)?,
            Step::Fetch(_) => fetch(&machine, stop, &mut told).map_err(|failure| failure.error)?,
            Step::Install { damaged, broken, .. } => {
                let transaction = Transaction {
                    machine: &machine,
                    wishes,
                    recommends,
                    own,
                    damaged,
                    mend: !broken.is_empty(),
                };
                transaction.mending(stop, &mut told).map_err(|failure| failure.error)?;
                unfinished = None;
            }
        }
    }
    unfinished.map_or(Ok(()), Err)
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
    let lacking = match archives == files && for_archives == for_files {
        true => (for_files < download.saturating_add(OVERHEAD).saturating_add(unpacked))
            .then_some(("/", for_files)),
        false if for_archives < download.saturating_add(OVERHEAD) => Some((ARCHIVES, for_archives)),
        false => (for_files < unpacked).then_some(("/usr", for_files)),
    };
    match lacking {
        None => Ok(()),
        Some((place, free)) => Err(no_room(estimate, place, free)),
    }
}

fn no_room(Estimate { download, unpacked, .. }: Estimate, place: &str, free: u64) -> ResourceError {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    ResourceError(format!(
        "no room for this: {} MiB to download, {} MiB unpacked and the {} MiB that are kept in reserve for what apt and \
         dpkg write themselves do not fit into the {} MiB that are free at {place}; nothing was begun; free some space \
         (`apt-get clean`, `journalctl --vacuum-size=50M`) and run this again",
        mib(download),
        mib(unpacked),
        mib(OVERHEAD),
        free >> 20
    ))
}

/// What one call of apt brings about.
struct Transaction<'t> {
    machine: &'t Machine,
    wishes: &'t [Wish],
    recommends: bool,
    /// Held packages that may change for it.
    own: &'t [&'t str],
    /// Packages that are unpacked anew.
    damaged: Vec<String>,
    /// Whether something that is installed lacks what it needs.
    mend: bool,
}

impl Transaction<'_> {
    /// Carries it out, and once more after what apt keeps has been replaced where that is damaged: each kind of it once.
    fn mending(&self, stop: &AtomicBool, log: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let (mut lists, mut archives) = (false, false);
        loop {
            let Err(failure) = again(stop, log, |log| self.carry_out(log)) else { return Ok(()) };
            match &failure.cause {
                Cause::Lists if !lists => {
                    lists = true;
                    locks::wait(stop, log)?;
                    fetch_all(self.machine, stop, log)?;
                }
                Cause::Archives(names) if !archives => {
                    archives = true;
                    let removed = remove_archives(self.machine, names)?;
                    if removed.is_empty() {
                        return Err(failure);
                    }
                    let names = removed.join(", ");
                    log(&format!("one more step, remove {names}, which dpkg cannot read, and fetch it anew"));
                    locks::wait(stop, log)?;
                }
                _ => return Err(failure),
            }
        }
    }

    fn carry_out(&self, log: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let database = Database::read(self.machine)?;
        let names = offers::settle(self.wishes, &database).map_err(Failure::of_error)?;
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        has_room(&names, self.recommends)?;
        let damaged: Vec<&str> = self.damaged.iter().map(String::as_str).collect();
        // Apt does nothing at all where it is to unpack anew what it has no source of.
        let damaged = offers::offered(&damaged).map_err(Failure::of_error)?;
        names.extend(damaged.iter().filter(|name| self.wishes.iter().all(|wish| wish.name != **name)));
        let hold = hold_afterwards(self.own);
        let args = self.words(&names, !damaged.is_empty(), &hold);
        let others: BTreeSet<&str> = database.held().filter(|name| !self.own.contains(name)).collect();
        if !self.own.is_empty() && !others.is_empty() {
            spare(&args, &others)?;
        }
        run("apt-get", &args, log)
    }

    /// The words for apt.
    fn words<'w>(&self, names: &[&'w str], reinstall: bool, hold: &'w str) -> Vec<&'w str> {
        let mut args = vec!["install", "--yes", "--fix-broken", "-o", "Acquire::Retries=3"];
        args.extend(["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]);
        args.extend(["-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"]);
        args.push(if self.recommends { "--install-recommends" } else { "--no-install-recommends" });
        if self.wishes.iter().any(|wish| wish.downgrade) {
            args.push("--allow-downgrades");
        }
        if !self.own.is_empty() {
            args.extend(["--allow-change-held-packages", "-o", "APT::Ignore-Hold=true", "-o", hold]);
        }
        // It would rather take away what lacks something than find it.
        if self.mend {
            args.push("--no-remove");
        }
        // By itself, apt leaves half-installed ones as they are.
        if reinstall {
            args.push("--reinstall");
        }
        args.push("--");
        args.extend(names);
        args
    }
}

/// Has apt hold packages again after dpkg's part, however that ended and whether or not anybody still waits for it: it
/// releases what it changes. Under its own lock, which dpkg has to be told of.
fn hold_afterwards(packages: &[&str]) -> String {
    let packages = packages.join(" ");
    format!(
        "DPkg::Post-Invoke::=printf '%s hold\\n' {packages} | DPKG_FRONTEND_LOCKED=1 dpkg --set-selections || true"
    )
}

/// Refuses to change what others hold: apt does not spare these where it need not spare those of the recipe. Where it
/// cannot tell, its own error does.
fn spare(args: &[&str], others: &BTreeSet<&str>) -> Result<(), ResourceError> {
    let args = ["--simulate"].into_iter().chain(args.iter().copied());
    let command = Command::new("apt-get", args).output_limit(16 << 20);
    let Ok(text) = command.output() else { return Ok(()) };
    match changed_of(&text, others) {
        held if held.is_empty() => Ok(()),
        held => Err(ResourceError(format!(
            "held by somebody, and would have to change: {}; `apt-mark unhold` it, or say `hold` in the recipe; nothing \
             was begun",
            held.join(", ")
        ))),
    }
}

/// Those of these packages that a simulation changes.
fn changed_of<'t>(simulation: &'t str, packages: &BTreeSet<&str>) -> Vec<&'t str> {
    let changed = simulation.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let verb = words.next()?;
        words.next().filter(|_| ["Inst", "Remv", "Purg"].contains(&verb))
    });
    changed.filter(|name| packages.contains(name)).collect()
}

/// Removes packages that apt has fetched; those that were there.
fn remove_archives<'n>(machine: &Machine, names: &'n [String]) -> Result<Vec<&'n str>, ResourceError> {
    let mut removed = Vec::new();
    for name in names {
        let path = format!("{ARCHIVES}/{name}");
        match fs::remove_file(machine.path(&path)) {
            Ok(()) => removed.push(name.as_str()),
            // It lies elsewhere, where it is not apt's to fetch.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(ResourceError(format!("cannot remove {path}: {error}"))),
        }
    }
    Ok(removed)
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
    again(stop, log, |log| run("apt-mark", &args, log)).map_err(|failure| failure.error)
}

/// Holds packages after something else has failed, without waiting for anybody.
pub(crate) fn hold_at_once(packages: &[&str], log: &mut dyn FnMut(&str)) {
    let args: Vec<&str> = ["hold", "--"].into_iter().chain(packages.iter().copied()).collect();
    if let (false, Err(failure)) = (packages.is_empty(), run("apt-mark", &args, &mut |_| {})) {
        log(&format!("not held, which the next apply does: {}", failure.error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_packages_are_held_again_by_apt_itself() {
        let machine = Machine::this();
        let words = |own: &[&str]| {
            let damaged = Vec::new();
            let transaction =
                Transaction { machine: &machine, wishes: &[], recommends: false, own, damaged, mend: false };
            transaction.words(&["q"], false, &hold_afterwards(own)).join(" ")
        };
        assert!(words(&["q"]).contains(" --allow-change-held-packages "), "{}", words(&["q"]));
        assert!(words(&["q", "r"]).contains("printf '%s hold\\n' q r | "));
        assert!(!words(&[]).contains("hold"));
    }

    #[test]
    fn what_a_simulation_changes_of_others() {
        let text =
            "NOTE: This is only a simulation!\nInst q [1] (2 m [all])\nRemv r [1]\nConf q (2 m [all])\n";
        assert_eq!(changed_of(text, &BTreeSet::from(["r", "s"])), ["r"]);
        assert_eq!(changed_of(text, &BTreeSet::from(["s"])), [""; 0]);
    }

    #[test]
    fn the_reserve_is_named_as_such() {
        let small = Estimate { packages: 1, download: 640, unpacked: 0 };
        let error = no_room(small, "/", 5 << 20).to_string();
        assert!(
            error.contains("1 MiB to download, 0 MiB unpacked and the 16 MiB that are kept in reserve"),
            "{error}"
        );
    }

    #[test]
    fn only_what_apt_has_fetched_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::at(root.path());
        fs::create_dir_all(root.path().join(&ARCHIVES[1..])).unwrap();
        fs::write(root.path().join(&ARCHIVES[1..]).join("a_1_all.deb"), "").unwrap();
        let names = ["a_1_all.deb".to_owned(), "b_1_all.deb".to_owned()];
        assert_eq!(remove_archives(&machine, &names).unwrap(), ["a_1_all.deb"]);
        assert_eq!(remove_archives(&machine, &names).unwrap(), [""; 0]);
    }
}
