//! A host on which something is killed, and what is looked for on it.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::errors::recipe;
use crate::harness::{Finished, Running, Sandbox, Toril, command_line, parent};

/// Long enough for anything that should happen at once, on a slow and busy machine.
pub(super) const SOON: Duration = Duration::from_secs(300);

/// A host and its clients, whose own files are all in one directory.
pub(super) struct Scene {
    pub(super) sandbox: Sandbox,
    pub(super) files: TempDir,
    pub(super) recipe: String,
    _recipe: TempDir,
}

impl Scene {
    /// On a bare Debian on which apt holds its locks and waits until it is let go.
    pub(super) fn of_apt(test: &str) -> Option<Scene> {
        let scene = Scene::of(Sandbox::fresh(test)?);
        scene.sandbox.sudo(
            "echo 'DPkg::Pre-Invoke { \"until [ -e /tmp/go ]; do sleep 0.05; done\"; };' > /etc/apt/apt.conf.d/99wait",
        );
        Some(scene)
    }

    pub(super) fn of(sandbox: Sandbox) -> Scene {
        let (recipe, keep) = recipe("make");
        Scene { sandbox, files: tempfile::tempdir().unwrap(), recipe, _recipe: keep }
    }

    pub(super) fn call(&self, arguments: &[&str]) -> Toril {
        let files = self.files.path().to_str().unwrap();
        Toril::new(arguments).env("TMPDIR", files).env("XDG_RUNTIME_DIR", files)
    }

    pub(super) fn host(&self) -> String {
        self.sandbox.host()
    }

    pub(super) fn apply(&self, more: &[&str]) -> Toril {
        let host = self.host();
        self.call(&[&["apply", &host, "--recipe", &self.recipe], more].concat())
    }

    /// An `apply` in the middle of apt's work.
    pub(super) fn applying(&self, more: &[&str]) -> Running {
        let running = self.apply(more).spawn();
        self.process("sh -c until [ -e");
        running
    }

    pub(super) fn let_go(&self) {
        self.sandbox.sudo("touch /tmp/go");
    }

    /// Waits for a process on the host whose command line has this, and returns its id on this machine.
    #[track_caller]
    pub(super) fn process(&self, part: &str) -> u32 {
        soon(&format!("a process with {part:?}"), || self.find(part))
    }

    pub(super) fn find(&self, part: &str) -> Option<u32> {
        self.topmost(|line| line.contains(part) && !line.starts_with("sudo "))
    }

    /// A process whose command line is such, and that is no child of another one: between its fork and its exec, a
    /// child has the command line of its parent.
    pub(super) fn topmost(&self, is: impl Fn(&str) -> bool) -> Option<u32> {
        self.all_topmost(is).first().copied()
    }

    pub(super) fn all_topmost(&self, is: impl Fn(&str) -> bool) -> Vec<u32> {
        let all = self.sandbox.process_ids();
        let such: Vec<u32> = all.iter().filter(|(_, line)| is(line)).map(|(pid, _)| *pid).collect();
        let on_top = |pid: &u32| parent(*pid).is_none_or(|parent| !such.contains(&parent));
        such.iter().copied().filter(on_top).collect()
    }

    /// The agent's front: what the bootstrap has become.
    pub(super) fn front(&self) -> u32 {
        soon("the agent's front", || self.fronts().first().copied())
    }

    /// All of them: one whose connection is lost may not have noticed yet.
    pub(super) fn fronts(&self) -> Vec<u32> {
        self.all_topmost(|line| line.starts_with("/var/lib/toril/agents/") && line.ends_with(" agent"))
    }

    /// Ends the connection of a front from the host's side, where it is a process of the login user's.
    pub(super) fn cut_off(&self, front: u32) {
        let mut above = std::iter::successors(Some(front), |pid| parent(*pid));
        kill(above.find(|pid| command_line(*pid) == "sshd: debian@notty").unwrap());
    }

    #[track_caller]
    pub(super) fn is_gone(&self, part: &str) {
        soon(&format!("the end of {part:?}"), || self.find(part).is_none().then_some(()));
    }

    /// The ssh process that holds a client's connection.
    pub(super) fn master(&self) -> Option<u32> {
        let files = format!("-S {}/toril-ssh-", self.files.path().display());
        let all = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        all.into_iter().find(|pid| command_line(*pid).contains(&files))
    }

    /// Asserts that the clients have left no process and no file on this machine.
    #[track_caller]
    pub(super) fn left_nothing(&self) {
        // A master that was told to end may take longer than its client; one that was not would stay for ten seconds.
        let until = Instant::now() + Duration::from_secs(8);
        while self.master().is_some() {
            assert!(Instant::now() < until, "a master of the client is left");
            sleep(Duration::from_millis(20));
        }
        let left: Vec<_> =
            fs::read_dir(self.files.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "left by the client: {left:?}");
    }

    /// Waits for the end of what holds a client's connection. Where the client had no time to see to that, its files are
    /// taken away by the next one.
    #[track_caller]
    pub(super) fn master_ends(&self) {
        soon("the end of the master", || self.master().is_none().then_some(()));
    }

    /// The events in the journal of the newest run.
    pub(super) fn journal(&self) -> Vec<Value> {
        let text = self.sandbox.sudo("cat $(ls -d /var/lib/toril/journals/* | tail -n 1)/journal");
        let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (number, entry) in entries.iter().enumerate() {
            assert_eq!(entry["number"].as_u64(), Some(number as u64), "{text}");
        }
        entries.into_iter().map(|mut entry| entry["event"].take()).collect()
    }

    /// Asserts that a client with `--json` was told of every event of the newest run, once and in order.
    #[track_caller]
    pub(super) fn told_everything(&self, finished: &Finished) {
        let told = finished.events().into_iter().filter(|event| event["event"] == "run");
        let told: Vec<Value> = told.map(|mut event| event["run"].take()).collect();
        let journal = self.journal();
        assert_eq!(told, journal, "{finished}");
        assert_eq!(journal.last().unwrap()["kind"], "ended");
    }

    /// Asserts that the host is as the recipe says, that another `apply` finds so, and that nothing is left.
    #[track_caller]
    pub(super) fn has_converged(&self) {
        self.sandbox.is_clean();
        self.apply(&[]).run().exits(0).shows("nothing to change");
        self.sandbox.sudo("dpkg --audit; make --version");
        self.left_nothing();
    }
}

/// Waits until there is something.
#[track_caller]
pub(super) fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} is still to come");
        sleep(Duration::from_millis(20));
    }
}

/// Kills a process of this machine.
pub(super) fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
    assert!(killed.unwrap().success(), "cannot kill {pid}");
}
