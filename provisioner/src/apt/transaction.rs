use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use toril_machine::{Machine, STANDARD_PATH, keep_room};

use super::{Database, locks};
use crate::resource::ResourceError;

/// Where what apt and dpkg print is kept.
const LOG: &str = "/var/log/toril-apt.log";

/// How much of it can be written even when the disk becomes full, in bytes: else it could not say that it did.
const LOG_ROOM: u64 = 512 << 10;

/// Installs packages in one transaction: waits for the locks, finishes what dpkg left unfinished, fetches the package
/// lists, installs. Never asks a question.
pub(crate) fn install(
    packages: &[&str],
    recommends: bool,
    stop: &AtomicBool,
    log: &mut dyn FnMut(&str),
) -> Result<(), ResourceError> {
    locks::wait(stop, log)?;
    let database = Database::read(&Machine::this())?;
    if database.pending_updates > 0 || database.interrupted().next().is_some() {
        log("finishing what dpkg left unfinished");
        // What is still missing then is what the installation below is for: its own error tells more.
        if let Err(error) =
            run("dpkg", &["--configure", "--pending", "--force-confdef", "--force-confold"], log)
        {
            log(&error.to_string());
        }
    }
    log("fetching package lists");
    // Unlike dpkg, this may be ended at any time: a mirror, or a method of apt's, can hang for ever.
    let update =
        ["--kill-after=10", "300", "apt-get", "update", "-o", "Acquire::Retries=3", "--error-on=any"];
    run("timeout", &update, log).or_else(|error| {
        match error.0.contains("--error-on") || error.0.contains("Command line option") {
            // apt before 2.1 does not know the option.
            true => run("timeout", &update[..update.len() - 1], log),
            false => Err(error),
        }
    })?;
    let mut args = vec!["install", "--yes", "--fix-broken", "-o", "Acquire::Retries=3"];
    args.extend(["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]);
    args.extend(["-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"]);
    args.push(if recommends { "--install-recommends" } else { "--no-install-recommends" });
    args.push("--");
    args.extend(packages);
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
        line.starts_with("E: ") || line.starts_with("dpkg: error") || line.contains("No space left on device")
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
            "Held packages were changed",
            "a package that has to change is held; `apt-mark unhold` it, or say `hold` in the recipe",
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
    fn a_full_disk_is_recognised() {
        let output = "Unpacking a ...\ndpkg: error processing archive /x.deb (--unpack):\n cannot copy: failed to write (No space left on device)\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n";
        let error = explain("apt-get", &["install", "a"], "exit status: 100", output).to_string();
        assert!(error.contains("the disk is full") && error.contains("Sub-process"), "{error}");
    }
}
