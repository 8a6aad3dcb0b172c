//! What can be tested here.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::thread;

/// Whether sandboxes can be made here; says so where they cannot.
pub(super) fn can_run() -> bool {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    is_possible(REASON.get_or_init(|| obstacle(&["crun", "mmdebstrap", "ssh", "ssh-keygen"])))
}

/// The same for virtual machines.
pub(super) fn can_run_machines() -> bool {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    can_run() && is_possible(REASON.get_or_init(|| obstacle(&["mke2fs", "qemu-img", "qemu-system-x86_64"])))
}

fn obstacle(tools: &[&str]) -> Option<String> {
    if !is_root() {
        return Some("sandboxes need root".into());
    }
    let path = format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default());
    let missing = |tool: &&str| !env::split_paths(&path).any(|dir| dir.join(tool).exists());
    let missing: Vec<&str> = tools.iter().copied().filter(missing).collect();
    (!missing.is_empty()).then(|| format!("not installed here: {}", missing.join(", ")))
}

fn is_possible(reason: &Option<String>) -> bool {
    if let Some(reason) = reason {
        skip(reason);
        assert!(env::var_os("TORIL_TESTS_MUST_RUN").is_none(), "this test must run: {reason}");
    }
    reason.is_none()
}

/// Says why a test does not run, past the test harness, which hides what passing tests print.
pub(crate) fn skip(reason: &str) {
    let thread = thread::current();
    let line = format!("SKIPPED {}: {reason}\n", thread.name().unwrap_or_default());
    // In one piece: other tests print at the same time.
    drop(io::stderr().write_all(line.as_bytes()));
}

pub(crate) fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0\t")
}

/// Whether hosts are reached by OpenSSH; a test that is about its processes, files and words has nothing to look at where
/// `E2E_TRANSPORT` names another client.
pub(crate) fn by_openssh() -> bool {
    let is = std::env::var_os("E2E_TRANSPORT").is_none_or(|transport| transport == "openssh");
    if !is {
        skip("it is about OpenSSH itself");
    }
    is
}
