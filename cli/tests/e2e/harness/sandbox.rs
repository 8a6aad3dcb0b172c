//! Hosts for tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::id;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::possible::{can_run, can_run_machines, skip};
use super::processes::{command_line, descendants};
use super::program::{Finished, Toril, toril};
use super::snapshot::{machine_snapshot, snapshot};

/// What makes a sandbox a virtual machine.
pub(super) const MACHINE: [&str; 3] = ["--vm", "--accel", "tcg"];

/// A throwaway host that is gone with this guard.
pub(crate) struct Sandbox {
    pub(crate) name: String,
    /// The command that `toril sandbox up` names.
    ssh: Vec<String>,
    /// Virtual machines run one at a time: two of them keep a small machine from its deadlines.
    turn: Option<MutexGuard<'static, ()>>,
}

static MACHINES: Mutex<()> = Mutex::new(());

impl Sandbox {
    /// A bare Debian. `None`, after saying why, where there can be none.
    pub(crate) fn fresh(test: &str) -> Option<Sandbox> {
        can_run().then(|| Sandbox::up(test, &[]))
    }

    /// One that has been brought to the built-in recipe.
    pub(crate) fn provisioned(test: &str) -> Option<Sandbox> {
        can_run().then(|| {
            let sandbox = Sandbox::up(test, &["--from", snapshot()]);
            // The snapshot spares the downloads; that the host is as this very build wants it is made sure of here.
            toril(&["apply", &sandbox.host()]).exits(0);
            sandbox.is_quiet();
            sandbox
        })
    }

    /// A virtual machine that has been brought to the built-in recipe, emulated everywhere so that it is the same
    /// everywhere.
    pub(crate) fn machine(test: &str) -> Option<Sandbox> {
        can_run_machines().then(|| {
            // One that panicked has ended its machine all the same.
            let turn = MACHINES.lock().unwrap_or_else(PoisonError::into_inner);
            let mut sandbox = Sandbox::up(test, &[&MACHINE[..], &["--from", machine_snapshot()]].concat());
            sandbox.turn = Some(turn);
            sandbox
        })
    }

    /// A bare Debian of another release. `None`, after saying why, where there can be none: the mirror may not have it.
    pub(crate) fn of_release(test: &str, release: &str) -> Option<Sandbox> {
        if !can_run() {
            return None;
        }
        let mut sandbox = Sandbox { name: format!("e2e-{test}-{}", id()), ssh: Vec::new(), turn: None };
        let up = toril(&["sandbox", "up", &sandbox.name, "--release", release]);
        let lacking = ["does not have", "does not know the keys", "knows no Debian source"];
        if up.status.code() == Some(1) && lacking.iter().any(|words| up.stdout.contains(words)) {
            skip(up.stdout.trim());
            return None;
        }
        sandbox.make(&["--release", release]);
        Some(sandbox)
    }

    /// Whether there can be none here; says why.
    pub(crate) fn cannot_be_made() -> bool {
        !can_run()
    }

    pub(super) fn up(test: &str, options: &[&str]) -> Sandbox {
        let name = format!("e2e-{test}-{}", id());
        assert!(name.len() <= 32, "{name} is too long for a sandbox");
        // Made before `up`, so that a half-made sandbox goes away as well.
        let mut sandbox = Sandbox { name: name.clone(), ssh: Vec::new(), turn: None };
        sandbox.make(options);
        sandbox
    }

    fn make(&mut self, options: &[&str]) {
        let arguments = [&["sandbox", "up", &self.name], options].concat();
        let up = toril(&arguments).exits(0);
        let line = up.stdout.lines().map(str::trim).find(|line| line.starts_with("ssh "));
        let line = line.unwrap_or_else(|| panic!("it does not say how to log in{up}"));
        self.ssh = line.split(' ').map(str::to_owned).collect();
    }

    /// Finds out how to log in after the sandbox was taken down and made anew by a test.
    pub(crate) fn find_again(&mut self) {
        self.make(&[]);
    }

    /// What toril calls it.
    pub(crate) fn host(&self) -> String {
        format!("sandbox:{}", self.name)
    }

    /// The loopback address of its sshd.
    pub(crate) fn address(&self) -> &str {
        self.ssh.last().unwrap().trim_start_matches("debian@")
    }

    pub(crate) fn port(&self) -> &str {
        let flag = self.ssh.iter().position(|word| word == "-p").unwrap();
        &self.ssh[flag + 1]
    }

    pub(crate) fn identity(&self) -> &Path {
        self.file_option("IdentityFile=")
    }

    pub(crate) fn known_hosts(&self) -> &Path {
        self.file_option("UserKnownHostsFile=")
    }

    fn file_option(&self, name: &str) -> &Path {
        let file = self.ssh.iter().find_map(|word| word.strip_prefix(name));
        Path::new(file.unwrap_or_else(|| panic!("no {name} in {:?}", self.ssh)))
    }

    /// Where this machine keeps it.
    pub(crate) fn directory(&self) -> PathBuf {
        sandboxes().join("hosts").join(&self.name)
    }

    /// Runs a shell script as `debian`, and says how it ended.
    pub(crate) fn try_ssh(&self, script: &str) -> Finished {
        let mut arguments: Vec<&str> = vec!["-o", "BatchMode=yes", "-o", "LogLevel=ERROR"];
        arguments.extend(self.ssh[1..].iter().map(String::as_str));
        arguments.push(script);
        Toril::of(Path::new("ssh"), &arguments).run()
    }

    /// Runs a shell script as `debian`, and returns what it prints.
    #[track_caller]
    pub(crate) fn ssh(&self, script: &str) -> String {
        self.try_ssh(script).exits(0).stdout
    }

    /// The same as root, stopping at the first command that fails.
    #[track_caller]
    pub(crate) fn sudo(&self, script: &str) -> String {
        let quoted = script.replace('\'', r"'\''");
        self.ssh(&format!("sudo env DEBIAN_FRONTEND=noninteractive sh -euc '{quoted}'"))
    }

    /// The content of a file.
    #[track_caller]
    pub(crate) fn read_bytes(&self, path: &str) -> Vec<u8> {
        let hex = self.sudo(&format!("od -An -v -t x1 {path}"));
        hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    /// The command lines of what runs inside, without what the sandbox itself consists of (its sshd). Looked at from
    /// outside, so that looking leaves no trace.
    pub(crate) fn processes(&self) -> BTreeSet<String> {
        self.process_ids().into_iter().map(|(pid, line)| format!("{pid}: {line}")).collect()
    }

    /// The process that all others of it come from, on this machine.
    fn init(&self) -> u32 {
        let running = fs::read(self.directory().join("running.json")).unwrap();
        let running: Value = serde_json::from_slice(&running).unwrap();
        u32::try_from(running["init"]["pid"].as_u64().unwrap()).unwrap()
    }

    /// The same, with each process's id on this machine.
    pub(crate) fn process_ids(&self) -> Vec<(u32, String)> {
        let machine = format!("qemu-system-x86_64 -name {} ", self.name);
        let itself = ["crun ", "[libcrun:", "sshd: /usr/sbin/sshd ", &machine];
        let found = descendants(self.init()).into_iter().map(|pid| (pid, command_line(pid)));
        found
            .filter(|(_, line)| !line.is_empty() && !itself.iter().any(|own| line.starts_with(own)))
            .collect()
    }

    /// Runs a program among the files of a container with the rights of the machine's root, which root inside lacks.
    #[track_caller]
    pub(crate) fn outside(&self, command: &[&str]) {
        let sshd = |pid: &u32| command_line(*pid).starts_with("sshd: /usr/sbin/sshd ");
        let pid = descendants(self.init()).into_iter().find(sshd).unwrap().to_string();
        let enter = ["--target", &pid, "--user", "--pid", "--mount", "--root"];
        Toril::of(Path::new("nsenter"), &[&enter, command].concat()).run().exits(0);
    }

    /// Asserts that nothing runs inside, once connections have had their time to end: on a slow machine they take seconds,
    /// and what a test leaves behind would stay for a minute.
    #[track_caller]
    pub(crate) fn is_quiet(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        let mut quiet = 0;
        // Twice: who is just being made or inherited may be missed by one look.
        while quiet < 2 {
            let left = self.processes();
            quiet = if left.is_empty() { quiet + 1 } else { 0 };
            assert!(left.is_empty() || Instant::now() < until, "still running on {}: {left:#?}", self.host());
            sleep(Duration::from_millis(20));
        }
    }

    /// Asserts that nothing that a run made is left: no process, no directory, no checkout.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        self.is_quiet();
        let left = self.sudo("find /var/lib/toril/runs -mindepth 1 2>/dev/null || :");
        assert_eq!(left, "", "left in /var/lib/toril/runs");
        let mounts = self.sudo("grep -e toril /proc/mounts || :");
        assert_eq!(mounts, "", "left mounts");
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let down = toril(&["sandbox", "down", &self.name]);
        // A second panic would hide the first.
        if !thread::panicking() {
            down.exits(0);
        }
    }
}

/// Where this machine keeps them.
pub(super) fn sandboxes() -> PathBuf {
    let dir = std::env::var_os("TORIL_SANDBOX_DIR").filter(|dir| !dir.is_empty());
    dir.map_or_else(|| PathBuf::from("/var/lib/toril-sandbox"), PathBuf::from)
}
