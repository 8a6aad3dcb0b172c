//! The container's configuration, after the OCI runtime specification.

use std::path::Path;

use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};

use crate::plan::Plan;
use crate::shift;

/// What root may do to what is the sandbox's own; the user namespace already keeps all of these from the machine.
/// Left out are those that mean only the machine: modules, boot, clock, raw I/O, kernel log, mandatory access control,
/// device nodes, limits above the machine's.
const CAPABILITIES: [&str; 22] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_NICE",
    "CAP_SYS_PTRACE",
];

/// Calls that no work in a sandbox needs and that reach far into the machine's kernel. Mounting is not among them: a
/// mount in a user namespace gives nothing that its root did not have, and virtiofsd confines itself with it.
const DENIED_CALLS: [&str; 27] = [
    "acct",
    "add_key",
    "bpf",
    "clock_settime",
    "create_module",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "userfaultfd",
    "vm86",
];

/// Where the stage has put things, all of it in its private mount namespace.
pub(crate) struct Places<'a> {
    pub root: &'a Path,
    pub run: &'a Path,
    pub kvm: Option<&'a Path>,
}

/// The whole `config.json`.
pub(crate) fn config(plan: &Plan, places: &Places<'_>) -> Value {
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "nodev", "noexec"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
        mount("/run", "bind", &places.run.display().to_string(), &["bind", "rw", "nosuid", "nodev"]),
    ];
    if let Some(kvm) = places.kvm {
        mounts.push(mount(
            "/dev/kvm",
            "bind",
            &kvm.display().to_string(),
            &["bind", "rw", "nosuid", "noexec"],
        ));
    }
    let ids = json!([{ "containerID": 0, "hostID": shift::ROOT, "size": shift::COUNT }]);
    let namespaces = ["user", "pid", "mount", "uts", "ipc"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.0",
        "hostname": plan.name,
        "root": { "path": places.root, "readonly": false },
        "mounts": mounts,
        "process": {
            "terminal": false,
            "cwd": "/",
            "user": { "uid": 0, "gid": 0, "umask": 0o022 },
            "args": [
                "/usr/sbin/sshd", "-D", "-e", "-p", plan.port.to_string(),
                "-o", format!("ListenAddress={}", plan.address),
                "-h", "/etc/ssh/ssh_host_ed25519_key",
            ],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "container=toril-sandbox",
            ],
            // sudo is set-user-id.
            "noNewPrivileges": false,
            "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES },
            "rlimits": [
                limit("RLIMIT_NOFILE", Resource::Nofile, 1024, 1 << 20),
                limit("RLIMIT_NPROC", Resource::Nproc, 8192, 8192),
            ],
            // When the machine runs out of memory, this goes first.
            "oomScoreAdj": 500,
        },
        "linux": {
            "namespaces": namespaces,
            "uidMappings": ids,
            "gidMappings": ids,
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": [{ "names": DENIED_CALLS, "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }],
            },
        },
    })
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

/// Never above what the machine gives: that would need a right that root of a container or of a small VM may lack.
fn limit(name: &str, resource: Resource, soft: u64, hard: u64) -> Value {
    let hard = getrlimit(resource).maximum.map_or(hard, |machine| machine.min(hard));
    json!({ "type": name, "soft": soft.min(hard), "hard": hard })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_reaches_the_machine_is_left_out() {
        let plan = Plan {
            name: "a".into(),
            address: Ipv4Addr::new(127, 77, 0, 1),
            port: 20_000,
            lowers: vec![],
            disk_limit: None,
            from: None,
            release: "12".into(),
            machine: None,
            home: 0,
        };
        let here = Path::new("/x");
        let config = config(&plan, &Places { root: here, run: here, kvm: None });
        let bounding = config["process"]["capabilities"]["bounding"].as_array().unwrap();
        for gone in
            ["CAP_SYS_MODULE", "CAP_SYS_BOOT", "CAP_SYS_TIME", "CAP_SYS_RAWIO", "CAP_MKNOD", "CAP_SYSLOG"]
        {
            assert!(!bounding.contains(&json!(gone)), "{gone}");
        }
        assert_eq!(config["linux"]["namespaces"][0]["type"], "user");
        assert!(!config["mounts"].to_string().contains("/dev/kvm"));
        let calls: BTreeSet<_> = DENIED_CALLS.into_iter().collect();
        assert_eq!(calls.len(), DENIED_CALLS.len());
    }
}
