//! The client that is built in, where a CI job runs: no ssh, no home directory, no key on the disk.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{Sandbox, Toril};

const RECIPE: &str = "description = \"One directory\"\nsupports = [\"debian 12\"]\n\
    [[resource]]\nname = \"directory\"\ndirectory = { path = \"/srv/ci\" }\n";

const SUITE: &str = "run-as = \"debian\"\ndeadline = \"5m\"\n\
    [[test]]\nname = \"waits\"\ncommand = [\"sh\", \"-c\", \"until [ -e /tmp/go ]; do sleep 0.05; done\"]\n\
    [[test]]\nname = \"fails\"\ncommand = [\"false\"]\n";

struct Job {
    sandbox: Sandbox,
    files: TempDir,
    host: String,
    /// The fingerprint of the host's key.
    pin: String,
}

impl Job {
    fn call(&self, arguments: &[&str]) -> Toril {
        let key = fs::read_to_string(self.sandbox.identity()).unwrap();
        // It may read nothing of who runs the tests, nor find an ssh.
        let call = Toril::new(arguments).dir(self.files.path()).without(&["HOME", "USER", "LOGNAME"]);
        call.env("PATH", "/nonexistent").env("TORIL_SSH_KEY", &key)
    }

    /// A command on the host, whose key is pinned.
    fn on_host(&self, arguments: &[&str]) -> Toril {
        let (command, more) = arguments.split_first().unwrap();
        self.call(&[&[*command, &self.host, "--host-key", &self.pin], more].concat())
    }

    fn waits_in_its_test(&self) {
        let until = Instant::now() + Duration::from_secs(90);
        while !self.sandbox.processes().iter().any(|line| line.contains("sleep 0.05")) {
            assert!(Instant::now() < until, "no test runs");
            sleep(Duration::from_millis(20));
        }
    }

    fn logins(&self) -> usize {
        let log = fs::read_to_string(self.sandbox.directory().join("log")).unwrap();
        log.matches("Accepted publickey").count()
    }
}

#[test]
fn a_job_without_ssh_and_home_does_all_that_one_with_them_does() {
    let Some(sandbox) = Sandbox::fresh("no-ssh") else { return };
    let key = sandbox.sudo("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
    let job = Job {
        host: format!("debian@{}:{}", sandbox.address(), sandbox.port()),
        pin: key.split(' ').nth(1).unwrap().to_owned(),
        files: tempfile::tempdir().unwrap(),
        sandbox,
    };
    let write = |name: &str, text: &str| fs::write(job.files.path().join(name), text).unwrap();
    write("r.toml", RECIPE);
    write("s.toml", SUITE);
    let check = ["check", "--recipe", "r.toml"];

    // A host that shows another key than the pinned one, or one that nobody knows, is not logged in to.
    let before = job.logins();
    let wrong = format!("SHA256:{}", "A".repeat(43));
    let refused = job.call(&["check", &job.host, "--recipe", "r.toml", "--host-key", &wrong]).run().exits(1);
    refused.shows(&job.pin).shows(&wrong).shows("try: ");
    job.call(&["check", &job.host, "--recipe", "r.toml"]).run().exits(1).shows("the host's key is not known");
    // What OpenSSH cannot check it is not let do.
    job.on_host(&[&check[..], &["--transport", "openssh"]].concat())
        .run()
        .exits(1)
        .shows("a pinned host key");
    assert_eq!(job.logins(), before, "somebody logged in");

    job.on_host(&check).run().exits(3).shows("directory");
    assert_eq!(job.logins(), before + 1);
    let up = ["up", "--yes", "--recipe", "r.toml", "--suite", "s.toml", "--report", "junit=junit.xml"];
    job.sandbox.ssh("touch /tmp/go");
    job.on_host(&up).run().exits(4).shows("changed directory").shows("passed waits").shows("failed fails");
    let report = fs::read_to_string(job.files.path().join("junit.xml")).unwrap();
    assert!(report.contains("failures=\"1\""), "{report}");
    job.on_host(&check).run().exits(0).shows("nothing to change");
    job.sandbox.is_clean();

    // The connection ends in the middle of a test, and the client comes back to its end.
    job.sandbox.ssh("rm /tmp/go");
    let test = ["test", "--suite", "s.toml"];
    let mut client = job.on_host(&[&test[..], &["--json"]].concat()).spawn();
    job.waits_in_its_test();
    job.sandbox.try_ssh("kill $(grep -l 'sshd: [d]ebian' /proc/[0-9]*/cmdline | cut -d/ -f3)");
    client.wait_for("\"event\":\"lost\"");
    job.sandbox.ssh("touch /tmp/go");
    let finished = client.wait().exits(4);
    let outcomes: Vec<String> =
        finished.results().iter().map(|result| result["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes, ["passed", "failed"], "{finished}");
    job.sandbox.is_clean();

    // A job that is cancelled leaves the host clean.
    job.sandbox.ssh("rm /tmp/go");
    let client = job.on_host(&test).spawn();
    job.waits_in_its_test();
    client.signal(2);
    let stopped = client.wait().exits(1);
    stopped.shows("skipped waits").shows("stopped before the end, as was asked");
    job.sandbox.is_clean();
    let left: Vec<_> =
        fs::read_dir(job.files.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 3, "files that nobody asked for: {left:?}");
}
