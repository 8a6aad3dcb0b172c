use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use toril_machine::{Machine, Probe, record_lock_holder};

use crate::resource::ResourceError;

/// The locks that apt and dpkg take, all of them fcntl locks: `flock` succeeds while they are held.
const LOCKS: [&str; 4] = [
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
];

/// How long to wait for others. First boot holds the locks for minutes.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// Somebody who is at work on packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The first boot has not ended: cloud-init may install packages at any time.
    CloudInit,
    /// A process that holds a lock.
    Process {
        lock: &'static str,
        /// 0 where it is in another PID namespace.
        pid: u32,
        /// Its command line, where it can be seen.
        command: Option<String>,
        /// The unit of systemd's that it belongs to.
        unit: Option<String>,
        /// How long it has been running.
        running: Option<Duration>,
    },
}

impl Holder {
    /// Who it is, without how long.
    fn who(&self) -> String {
        match self {
            Holder::CloudInit => "cloud-init, which has not ended its first boot".into(),
            Holder::Process { lock, pid, command, unit, .. } => {
                let command = command.as_ref().map(|command| format!("`{command}`"));
                let named = [unit.clone(), command].into_iter().flatten().collect::<Vec<_>>().join(" ");
                let named = if named.is_empty() { "a process".to_owned() } else { named };
                format!("{named}, pid {pid}, which holds {lock}")
            }
        }
    }

    /// What stands in a line that a terminal may cut off: a short name and how long first, all of it after that.
    fn waiting(&self, waited: &str, of: &str) -> String {
        match self {
            Holder::CloudInit => {
                format!("waiting: cloud-init, {waited} of {of}: it has not ended its first boot")
            }
            Holder::Process { lock, pid, command, unit, .. } => {
                let unit = unit.as_ref().map(|unit| unit.trim_end_matches(".service"));
                let program =
                    command.as_ref().and_then(|command| command.split(' ').next()?.rsplit('/').next());
                let name = unit.or(program).unwrap_or("a process");
                let command = command.as_ref().map(|command| format!("`{command}` ")).unwrap_or_default();
                format!("waiting: {name}, pid {pid}, {waited} of {of}: {command}holds {lock}")
            }
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.who())?;
        match self {
            Holder::Process { running: Some(running), .. } => write!(f, ", running for {}", short(*running)),
            _ => Ok(()),
        }
    }
}

/// Who is at work on a machine's packages.
pub(super) fn holder(machine: &Machine) -> Result<Option<Holder>, ResourceError> {
    if is_first_boot(machine) {
        return Ok(Some(Holder::CloudInit));
    }
    for lock in LOCKS {
        match record_lock_holder(&machine.path(lock)) {
            Probe::Known(pid) => return Ok(Some(process(machine, lock, pid))),
            Probe::Absent => {}
            Probe::Unreadable(reason) => return Err(ResourceError(reason)),
        }
    }
    Ok(None)
}

/// cloud-init leaves its result when it is done, however that ended. One that never comes to that holds nobody up
/// for ever.
fn is_first_boot(machine: &Machine) -> bool {
    let exists = |path: &str| matches!(machine.exists(path), Probe::Known(()));
    let early = || uptime(machine).is_some_and(|uptime| uptime < PATIENCE.as_secs_f64());
    exists("/run/cloud-init/enabled") && !exists("/run/cloud-init/result.json") && early()
}

fn process(machine: &Machine, lock: &'static str, pid: u32) -> Holder {
    let read = |name: &str| machine.read(&format!("/proc/{pid}/{name}")).known().ok().flatten();
    let command = read("cmdline").map(|text| text.replace('\0', " ").trim().to_owned());
    let unit = read("cgroup").and_then(|text| unit_of(&text));
    let running = read("stat").and_then(|stat| Some(uptime(machine)? - started(&stat)?));
    Holder::Process {
        lock,
        pid,
        command: command.filter(|command| !command.is_empty()),
        unit,
        running: running.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    }
}

/// The innermost unit in a process's control groups: proc(5), systemd.unit(5).
fn unit_of(cgroup: &str) -> Option<String> {
    let mut parts =
        cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).flat_map(|path| path.split('/'));
    parts.rfind(|part| part.ends_with(".service")).map(str::to_owned)
}

/// When a process was started, in seconds since boot: the 22nd field of its `stat`, in ticks of 10 ms.
fn started(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    Some(after_name.split_whitespace().nth(19)?.parse::<f64>().ok()? / 100.0)
}

/// In seconds.
fn uptime(machine: &Machine) -> Option<f64> {
    machine.read("/proc/uptime").known().ok()??.split(' ').next()?.parse().ok()
}

/// Such as `7 s` and `1m40`.
pub(super) fn short(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{}m{:02}", seconds / 60, seconds % 60),
    }
}

/// Waits until nobody else is at work on packages, saying who is. apt before 1.9.11 does not wait by itself, and
/// later ones not for the lists. Gives up when `stop` becomes true.
pub(super) fn wait(stop: &AtomicBool, log: &mut dyn FnMut(&str)) -> Result<(), ResourceError> {
    let start = Instant::now();
    let (mut told, mut next) = (None, Duration::ZERO);
    loop {
        let Some(holder) = holder(&Machine::this())? else { return Ok(()) };
        let (who, waited) = (holder.who(), short(start.elapsed()));
        if stop.load(Ordering::Relaxed) {
            return Err(ResourceError(format!("the run was stopped while it waited for {who}")));
        }
        if start.elapsed() > PATIENCE {
            return Err(ResourceError(format!(
                "waited {waited} for {who}; look at what it is doing, and run this again when it has ended"
            )));
        }
        // At first each second, and then seldom: it may be ten minutes in a log.
        if told.as_ref() != Some(&who) || start.elapsed() >= next {
            log(&holder.waiting(&waited, &short(PATIENCE)));
            next = start.elapsed() + Duration::from_secs(if start.elapsed().as_secs() < 5 { 1 } else { 10 });
            told = Some(who);
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Waits until nobody is at work on this machine's packages, telling who is. Machines without apt have nobody.
///
/// # Errors
/// They were at it for too long, `stop` became true, or it could not be looked at; says which.
pub fn wait_for_packages(stop: &AtomicBool, log: &mut dyn FnMut(&str)) -> Result<(), String> {
    wait(stop, log).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_holder_is_named_by_its_unit_command_and_time() {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc/812");
        fs::create_dir_all(&proc).unwrap();
        fs::write(proc.join("cmdline"), "/usr/bin/apt-get\0update\0").unwrap();
        fs::write(proc.join("cgroup"), "1:name=systemd:/\n0::/system.slice/apt-daily.service\n").unwrap();
        let fields = format!("812 (apt (get)) S {}10000 0\n", "1 ".repeat(18));
        fs::write(proc.join("stat"), fields).unwrap();
        fs::write(root.path().join("proc/uptime"), "200.50 1.00\n").unwrap();
        let machine = Machine::at(root.path());
        assert_eq!(
            process(&machine, LOCKS[0], 812).to_string(),
            "apt-daily.service `/usr/bin/apt-get update`, pid 812, which holds /var/lib/dpkg/lock-frontend, \
             running for 1m40"
        );
        assert_eq!(
            process(&machine, LOCKS[0], 812).waiting("1m40", "10m"),
            "waiting: apt-daily, pid 812, 1m40 of 10m: `/usr/bin/apt-get update` holds /var/lib/dpkg/lock-frontend"
        );
        assert_eq!(
            process(&machine, LOCKS[1], 7).waiting("0 s", "10m"),
            "waiting: a process, pid 7, 0 s of 10m: holds /var/lib/dpkg/lock"
        );
        assert_eq!(
            Holder::CloudInit.waiting("7 s", "10m"),
            "waiting: cloud-init, 7 s of 10m: it has not ended its first boot"
        );
        assert_eq!(
            process(&machine, LOCKS[1], 7).to_string(),
            "a process, pid 7, which holds /var/lib/dpkg/lock"
        );
    }

    #[test]
    fn a_first_boot_comes_before_locks_and_ends() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::at(root.path());
        fs::create_dir_all(root.path().join("run/cloud-init")).unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/uptime"), "20.0 1\n").unwrap();
        assert_eq!(holder(&machine).unwrap(), None);
        fs::write(root.path().join("run/cloud-init/enabled"), "").unwrap();
        assert_eq!(holder(&machine).unwrap(), Some(Holder::CloudInit));
        fs::write(root.path().join("proc/uptime"), "700.0 1\n").unwrap();
        assert_eq!(holder(&machine).unwrap(), None, "it never came to its end");
        fs::write(root.path().join("proc/uptime"), "20.0 1\n").unwrap();
        fs::write(root.path().join("run/cloud-init/result.json"), "").unwrap();
        assert_eq!(holder(&machine).unwrap(), None);
    }
}
