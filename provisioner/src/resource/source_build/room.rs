//! How many jobs a build may have at a time: a small host must not be driven into the kernel's out-of-memory killer.

use std::num::NonZero;
use std::thread::available_parallelism;

use toril_machine::{Machine, Probe};

/// Memory for each job, in bytes, where the recipe does not say: Gentoo's handbook has a build take no more jobs than
/// memory divided by 2 GiB, and no more than CPUs.
pub(super) const MEMORY_PER_JOB: u64 = 2 << 30;

/// What a build may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) jobs: u64,
    /// In bytes: what the machine can give now.
    pub(super) memory: u64,
}

impl Room {
    /// As it is now: CPUs as far as this process may use them, memory as far as the machine and its control groups have it.
    pub(super) fn of(machine: &Machine, per_job: u64) -> Room {
        let cpus = available_parallelism().map_or(1, NonZero::get);
        let read = |path: &str| if let Probe::Known(text) = machine.read(path) { Some(text) } else { None };
        let available = read("/proc/meminfo").and_then(|text| available(&text)).unwrap_or(0);
        let groups = read("/proc/self/cgroup").unwrap_or_default();
        let memory = group_directories(&groups).into_iter().filter_map(|directory| {
            ["memory.max memory.current", "memory.limit_in_bytes memory.usage_in_bytes"].iter().find_map(
                |files| {
                    let (limit, used) = files.split_once(' ')?;
                    let number =
                        |name: &str| read(&format!("{directory}/{name}"))?.trim().parse::<u64>().ok();
                    let stat = read(&format!("{directory}/memory.stat")).unwrap_or_default();
                    Some(number(limit)?.saturating_sub(number(used)?.saturating_sub(reclaimable(&stat))))
                },
            )
        });
        let memory = memory.fold(available, u64::min);
        Room { jobs: jobs(u64::try_from(cpus).unwrap_or(1), memory, per_job), memory }
    }
}

/// As many jobs as there are CPUs, but no more than have their memory, and one in any case.
fn jobs(cpus: u64, memory: u64, per_job: u64) -> u64 {
    cpus.min(memory / per_job.max(1)).max(1)
}

/// What can be had without swapping, of /proc/meminfo.
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// What a control group would give back first: files that were read and are not in use.
fn reclaimable(stat: &str) -> u64 {
    let values = stat.lines().filter_map(|line| line.split_once(' '));
    let of = |wanted: &str| values.clone().find(|(name, _)| *name == wanted)?.1.parse().ok();
    of("total_inactive_file").or_else(|| of("inactive_file")).unwrap_or(0)
}

/// Where the memory of a process's control group and of those above it is told, of /proc/self/cgroup: cgroups(7).
fn group_directories(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let top = match controllers {
            "" => "/sys/fs/cgroup",
            _ if controllers.split(',').any(|name| name == "memory") => "/sys/fs/cgroup/memory",
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        if path.split('/').any(|part| part == "..") {
            continue;
        }
        loop {
            found.push(format!("{top}{path}"));
            let Some((above, _)) = path.rsplit_once('/') else { break };
            path = above;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_jobs_as_have_cpus_and_memory() {
        let gib = 1 << 30;
        // A host of 1 CPU and 2 GiB, of which not all is there, and larger ones.
        assert_eq!(jobs(1, 2 * gib - 1, MEMORY_PER_JOB), 1);
        assert_eq!(jobs(8, 2 * gib, MEMORY_PER_JOB), 1);
        assert_eq!(jobs(8, 7 * gib, MEMORY_PER_JOB), 3);
        assert_eq!(jobs(2, 64 * gib, MEMORY_PER_JOB), 2);
        assert_eq!(jobs(4, 0, 0), 1);
    }

    #[test]
    fn memory_is_what_the_machine_and_all_groups_above_can_give() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let room = || Room::of(&Machine::at(dir.path()), 1 << 20).memory >> 20;
        write("proc/meminfo", "MemTotal: 9999999 kB\nMemAvailable:    4194304 kB\n");
        assert_eq!(room(), 4096);
        write("proc/self/cgroup", "0::/a/b\n");
        write("sys/fs/cgroup/a/b/memory.max", "max\n");
        write("sys/fs/cgroup/a/memory.max", "2147483648\n");
        write("sys/fs/cgroup/a/memory.current", "1610612736\n");
        write("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 1073741824\n");
        assert_eq!(room(), 1536);
        write("proc/self/cgroup", "4:cpu,memory:/c\n0::/\n");
        write("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "1073741824\n");
        write("sys/fs/cgroup/memory/c/memory.usage_in_bytes", "536870912\n");
        assert_eq!(room(), 512);
    }

    proptest::proptest! {
        #[test]
        fn any_text_of_groups_is_read(text in "([0-9]?:(memory|cpu|)?:?/?[a-z./]{0,9}\n){0,5}") {
            for directory in group_directories(&text) {
                proptest::prop_assert!(directory.starts_with("/sys/fs/cgroup") && !directory.contains("/../"));
            }
        }
    }
}
