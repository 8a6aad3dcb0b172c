//! What the tests of real sandboxes share.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use toril_inventory::Reach;
use toril_sandbox::{Dirs, Kind, Options, Sandbox, Sandboxes, missing_tools};

/// Sandboxes of this test alone, over the bases of this machine; all taken down at its end, however it ends.
pub struct Scene {
    pub sandboxes: Sandboxes,
    pub state: TempDir,
}

/// Says why a test is skipped; fails where none may be (`.ci/run`).
fn skip<T>(why: &str) -> Option<T> {
    eprintln!("skipped: {why}");
    assert!(std::env::var_os("TORIL_TESTS_MUST_RUN").is_none(), "this test must run: {why}");
    None
}

impl Scene {
    /// `None`, and the reason on the terminal, where sandboxes cannot be made.
    pub fn new() -> Option<Scene> {
        Scene::of(Kind::Container)
    }

    pub fn of(kind: Kind) -> Option<Scene> {
        let uid = Command::new("id").arg("-u").output().unwrap();
        if uid.stdout != b"0\n" {
            return skip("making sandboxes needs root");
        }
        if !missing_tools(kind).is_empty() {
            return skip(&format!("not installed here: {}", missing_tools(kind).join(", ")));
        }
        let state = tempfile::tempdir().unwrap();
        let dirs = Dirs { base: Dirs::system().base, state: state.path().to_owned() };
        let stage = PathBuf::from(env!("CARGO_BIN_EXE_toril-sandbox-stage"));
        Some(Scene { sandboxes: Sandboxes::at(dirs, vec![stage.into()]), state })
    }

    pub fn up(&self, name: &str) -> Sandbox {
        self.up_with(name, &Options::default())
    }

    pub fn up_with(&self, name: &str, options: &Options) -> Sandbox {
        self.sandboxes.up(name, options, &mut |progress| eprintln!("{name}: {progress:?}")).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Err(error) = self.sandboxes.down_all() {
            eprintln!("cannot clean up: {error}");
        }
    }
}

/// The real client, as a user has it, with no configuration of its own.
pub fn ssh(sandbox: &Sandbox, command: &str) -> Output {
    let Reach::Ssh(ssh) = sandbox.host().reach else { panic!("a sandbox is reached by ssh") };
    let known_hosts = format!("UserKnownHostsFile={}", ssh.known_hosts.unwrap().display());
    Command::new("ssh")
        .args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "IdentitiesOnly=yes",
        ])
        .args(["-o", "ConnectTimeout=10", "-o", &known_hosts])
        .arg("-i")
        .arg(ssh.identity.unwrap())
        .args(["-l", &ssh.user.unwrap(), "-p", &ssh.port.unwrap().to_string(), &ssh.host, "--", command])
        .output()
        .unwrap()
}

/// The same, as root; its output, after it succeeded.
pub fn sudo(sandbox: &Sandbox, command: &str) -> String {
    let output = try_sudo(sandbox, command);
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn try_sudo(sandbox: &Sandbox, command: &str) -> Output {
    assert!(!command.contains('\''));
    ssh(sandbox, &format!("sudo sh -c '{command}'"))
}

/// The namespaces that a sandbox is in and this test is not: outer ones of its init, inner ones of its sshd.
pub fn namespaces(sandbox: &Sandbox) -> BTreeSet<String> {
    let init = sandbox.init_pid().unwrap();
    let inside = children(init);
    assert!(!inside.is_empty());
    let theirs = namespaces_of_all(inside.into_iter().chain([init]));
    // Mount and PID twice, user, UTS and IPC; the network is shared.
    assert_eq!(theirs.len(), 7, "{theirs:?}");
    theirs
}

/// The namespaces that processes are in and this test is not.
pub fn namespaces_of_all(pids: impl Iterator<Item = u32>) -> BTreeSet<String> {
    let all: BTreeSet<_> = pids.flat_map(namespaces_of).collect();
    all.difference(&namespaces_of(std::process::id())).cloned().collect()
}

/// Waits until no process is in any of them: then the kernel has taken the namespaces and the mounts in them away.
pub fn assert_gone(namespaces: &BTreeSet<String>) {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let left: Vec<_> = processes().filter(|pid| !namespaces_of(*pid).is_disjoint(namespaces)).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "processes {left:?} are left in {namespaces:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn children(pid: u32) -> Vec<u32> {
    processes().filter(|other| parent(*other) == Some(pid)).collect()
}

pub fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// A process that has ended has none.
fn namespaces_of(pid: u32) -> BTreeSet<String> {
    let link = |kind: &str| Some(fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?.display().to_string());
    ["mnt", "pid", "user", "uts", "ipc"].into_iter().filter_map(link).collect()
}
