use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use toril_machine::{ENDS_WITH_US, STANDARD_PATH, keep_room};

use crate::resource::ResourceError;

/// Where what apt and dpkg print is kept.
const LOG: &str = "/var/log/toril-apt.log";

/// How much of it can be written even when the disk becomes full, in bytes: else it could not say that it did.
const LOG_ROOM: u64 = 512 << 10;

/// Runs apt or dpkg to its end. It is never killed half-way, and its output goes to a file and not to a pipe, so that
/// it goes on to its end even if this process is killed.
pub(super) fn run(program: &str, args: &[&str], log: &mut dyn FnMut(&str)) -> Result<(), ResourceError> {
    // setsid: a hangup or an interrupt meant for this program must not reach dpkg.
    let mut command = Command::new("setsid");
    command.args(["--wait", program]).args(args);
    // timeout(1) exits with 124 when it ended what it ran.
    let (inner, rest) = if program == "timeout" { (args[2], &args[3..]) } else { (program, args) };
    let status = |status: &ExitStatus| match (program, status.code()) {
        ("timeout", Some(124)) => Some(ResourceError(format!(
            "`apt-get update` was still running after 300 s and was ended; look at the host's network and at \
             /etc/apt/sources.list* (all of its output: {LOG})"
        ))),
        _ => None,
    };
    follow(command, (inner, rest), &|| false, &status, log)
}

/// Runs apt for something that may be ended at any time, which is whatever it does without dpkg: it ends when `is_over`,
/// and with the thread that runs it.
pub(super) fn run_until(
    is_over: &dyn Fn() -> bool,
    program: &str,
    args: &[&str],
    log: &mut dyn FnMut(&str),
) -> Result<(), ResourceError> {
    let [first, rest @ ..] = ENDS_WITH_US;
    let mut command = Command::new(first);
    command.args(rest).arg(program).args(args).process_group(0);
    follow(command, (program, args), is_over, &|_| None, log)
}

/// Has package lists fetched by `apt-get`, which is given its arguments.
pub(super) fn update(
    mut apt_get: impl FnMut(&[&str]) -> Result<(), ResourceError>,
) -> Result<(), ResourceError> {
    let args = ["update", "-o", "Acquire::Retries=1", "--error-on=any"];
    apt_get(&args).or_else(|error| {
        match error.0.contains("--error-on") || error.0.contains("Command line option") {
            // apt before 2.1 does not know the option.
            true => apt_get(&args[..args.len() - 1]),
            false => Err(error),
        }
    })
}

/// Runs a command with its output in the log, line by line told as well; `words` are what it is called by in errors.
fn follow(
    mut command: Command,
    words: (&str, &[&str]),
    is_over: &dyn Fn() -> bool,
    known: &dyn Fn(&ExitStatus) -> Option<ResourceError>,
    log: &mut dyn FnMut(&str),
) -> Result<(), ResourceError> {
    let (program, args) = words;
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
    let mut child = command
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
            None if is_over() => {
                end(&mut child);
                free(&reader, &room);
                return Err(ResourceError(format!("`{program} {}` was ended", args.first().unwrap_or(&""))));
            }
            None => thread::sleep(Duration::from_millis(30)),
        }
    };
    free(&reader, &room);
    if status.success() {
        return Ok(());
    }
    let output = text_from(Path::new(LOG), start);
    Err(known(&status).unwrap_or_else(|| explain(program, args, &status.to_string(), &output)))
}

/// Frees the room that was not used; it is no more than some room.
fn free(log: &File, room: &File) {
    let _ = log.metadata().and_then(|data| room.set_len(data.len()));
}

/// Ends a child that leads a group of its own, and the group: apt's methods fetch in processes of theirs.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended in between.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
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
            "Connection failed",
            "a mirror, or the proxy to it, closed the connection; look at the host's network and at /etc/apt/apt.conf.d",
        ),
        (
            "Could not connect",
            "a mirror, or the proxy to it, cannot be reached; look at the host's network and at /etc/apt/apt.conf.d",
        ),
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
    fn a_full_disk_is_recognised() {
        let output = "Unpacking a ...\ndpkg: error processing archive /x.deb (--unpack):\n cannot copy: failed to write (No space left on device)\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n";
        let error = explain("apt-get", &["install", "a"], "exit status: 100", output).to_string();
        assert!(error.contains("the disk is full") && error.contains("Sub-process"), "{error}");
    }
}
