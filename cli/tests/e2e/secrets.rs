//! What is secret stays so: looked for in all that is printed, written, and passed from process to process, all the time.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::harness::{Finished, Sandbox, TORIL, Toril, command_line};

/// A part of every secret that may have one; a key has not.
const CANARY: &str = "canary-6b1f0d";
/// What is no secret, and is there to be found: it shows that looking finds things.
const OPEN: &str = "open-2c94e7";

const RECIPE: &str = "description = \"One directory\"\nsupports = [\"debian 12\"]\n\
    [[resource]]\nname = \"directory\"\ndirectory = { path = \"/srv/secrets\" }\n\
    [[resource]]\nname = \"fails\"\ncommand = { shell = \"env; exit 1\", creates = \"/never\" }\nneeds = [\"directory\"]\n";

const SUITE: &str = "run-as = \"debian\"\n[[test]]\nname = \"fails\"\nenv = { MARK = \"OPEN-env\" }\n\
    command = [\"sh\", \"-c\", \"env; sleep 3; false\", \"OPEN-argument\"]\n";

/// Looks at the arguments and the environment of every process of this machine, those in sandboxes included, until it is
/// told to end.
struct Watch {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Found>,
}

#[derive(Default)]
struct Found {
    /// Where a secret was.
    leaks: BTreeSet<String>,
    open: BTreeSet<&'static str>,
    rounds: usize,
}

impl Watch {
    fn begin(secrets: &Secrets) -> Watch {
        let end = Arc::new(AtomicBool::new(false));
        let (told, secrets) = (Arc::clone(&end), secrets.clone());
        let thread = thread::spawn(move || {
            let mut found = Found::default();
            while !told.load(Ordering::Relaxed) {
                let entries = fs::read_dir("/proc").unwrap().flatten();
                let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
                pids.for_each(|pid| found.look(pid, &secrets));
                found.rounds += 1;
            }
            found
        });
        Watch { end, thread }
    }

    fn end(self) -> Found {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

impl Found {
    fn look(&mut self, pid: u32, secrets: &Secrets) {
        // Both of one program: a process that becomes another one has for a moment the arguments of neither.
        let (line, environment) = loop {
            let line = command_line(pid);
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if command_line(pid) == line {
                break (line, environment);
            }
        };
        let environment = String::from_utf8_lossy(&environment);
        // The client was given them so.
        let is_client = line.starts_with(TORIL);
        if secrets.are_in(&line) || (!is_client && secrets.are_in(&environment)) {
            self.leaks.insert(line.clone());
        }
        if line.contains(&format!("{OPEN}-argument")) {
            self.open.insert("argument");
        }
        if environment.contains(&format!("{OPEN}-env")) {
            self.open.insert("environment");
        }
    }
}

/// What is looked for.
#[derive(Clone)]
struct Secrets([String; 2]);

impl Secrets {
    /// The canary, and a piece of the key's own text: of its private part, which is the last.
    fn with(key: &str) -> Secrets {
        let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with("-----")).collect();
        let piece = &lines[lines.len() - 2][..40];
        Secrets([CANARY.to_owned(), piece.to_owned()])
    }

    fn are_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| text.contains(secret))
    }

    /// Asserts that no file below a directory holds one.
    #[track_caller]
    fn are_in_no_file(&self, directory: &Path) {
        let [canary, key] = &self.0;
        let grep = ["-rlaF", "-D", "skip", "-e", canary, "-e", key];
        let found = Command::new("grep").args(grep).arg(directory).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "a secret is in these files");
    }

    /// Asserts that a call has printed none.
    #[track_caller]
    fn are_kept(&self, finished: Finished) -> Finished {
        self.0.iter().fold(finished, |finished, secret| finished.hides(secret))
    }
}

#[test]
fn secrets_are_in_no_output_log_file_argument_or_environment() {
    let Some(sandbox) = Sandbox::fresh("secrets") else { return };
    let (given, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = given.path().join("key");
    let phrase = format!("{CANARY}-phrase");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-C", &format!("{CANARY}-comment"), "-N", &phrase, "-f"]).arg(&key);
    assert!(keygen.status().unwrap().success());
    let key = fs::read_to_string(key).unwrap();
    let secrets = Secrets::with(&key);
    let public = fs::read_to_string(given.path().join("key.pub")).unwrap();
    let public = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
    // The commands that set passwords are over before anybody looks.
    sandbox.sudo(&format!(
        "for user in anna berta; do
             useradd --create-home --shell /bin/bash $user; cp -r ~debian/.ssh /home/$user/
             echo '{public}' >> /home/$user/.ssh/authorized_keys; chown -R $user: /home/$user/.ssh
             echo \"$user ALL=(ALL) ALL\" > /etc/sudoers.d/$user
         done
         echo anna:{CANARY}-sudo | chpasswd; echo berta:another | chpasswd"
    ));
    let fingerprint = sandbox.sudo("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
    let pin = fingerprint.split(' ').nth(1).unwrap();
    let place = format!("address = \"{}\"\nport = {}\n", sandbox.address(), sandbox.port());
    let secret = given.path().join("sudo");
    fs::write(&secret, format!("{CANARY}-sudo\n")).unwrap();
    let openssh = format!(
        "transport = \"openssh\"\nidentity = \"{}\"\nknown-hosts = \"{}\"\nsudo-password = {{ file = \"{}\" }}\n",
        sandbox.identity().display(),
        sandbox.known_hosts().display(),
        secret.display()
    );
    let inventory = format!(
        "[groups.all]\nsudo-password = {{ env = \"LAB_SUDO\" }}\nuser = \"anna\"\n\
         [hosts.by-russh]\n{place}host-key = [\"{pin}\"]\n[hosts.by-openssh]\n{place}{openssh}\
         [hosts.wrong]\n{place}host-key = [\"{pin}\"]\nuser = \"berta\"\n\
         [hosts.refused]\naddress = \"localhost\"\nport = 1\n"
    );
    let write = |name: &str, text: &str| fs::write(files.path().join(name), text).unwrap();
    write("inventory.toml", &inventory);
    write("r.toml", RECIPE);
    write("s.toml", &SUITE.replace("OPEN", OPEN));
    let call = |arguments: &[&str]| {
        let call = Toril::new(arguments).dir(files.path()).env("TMPDIR", files.path().to_str().unwrap());
        let call = call.env("TORIL_SSH_KEY", &key).env("TORIL_SSH_PASSPHRASE", &phrase);
        call.env("LAB_SUDO", &format!("{CANARY}-sudo"))
    };

    let watch = Watch::begin(&secrets);
    secrets.are_kept(call(&["inventory", "show", "by-russh"]).run().exits(0)).shows("***");
    for host in ["by-russh", "by-openssh"] {
        let apply = call(&["apply", host, "--yes", "-v", "--recipe", "r.toml"]).run().exits(1);
        secrets.are_kept(apply).shows("failed fails");
        secrets.are_kept(call(&["check", host, "--json", "--recipe", "r.toml"]).run());
        let reports = ["junit", "json", "html", "tap"].map(|kind| format!("{kind}={host}.{kind}"));
        let reports = reports.iter().flat_map(|report| ["--report", report]).collect::<Vec<_>>();
        let test = call(&[&["test", host, "-v", "--suite", "s.toml"], &reports[..]].concat()).run();
        secrets.are_kept(test.exits(4)).shows("failed fails");
    }
    let wrong = call(&["facts", "wrong", "-v"]).run().exits(1);
    secrets.are_kept(wrong).shows("did not accept the password");
    secrets.are_kept(call(&["facts", "refused", "-v"]).run().exits(1)).shows("refused the connection");
    let facts = || call(&["facts", "by-russh", "-v"]);
    let closed = facts().env("TORIL_SSH_PASSPHRASE", &format!("{CANARY}-wrong")).run().exits(1);
    secrets.are_kept(closed).shows("does not open it");
    secrets.are_kept(facts().env("TORIL_SSH_KEY", &format!("{CANARY}-no-key")).run().exits(1)).shows("try: ");
    let found = watch.end();

    assert_eq!(found.leaks, BTreeSet::new(), "processes that were given a secret");
    assert_eq!(found.open, ["argument", "environment"].into(), "in {} rounds", found.rounds);
    // All that the host has written, its journals and logs included, and what sshd has said.
    secrets.are_in_no_file(&sandbox.directory());
    secrets.are_in_no_file(files.path());
}
