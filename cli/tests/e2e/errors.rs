//! What goes wrong on the way to a host or on it: each a clear message, the right exit status, no hang.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{Finished, Sandbox, TORIL, Toril, by_openssh, descendants, skip, toril};

/// A sandbox as a host that toril knows nothing of: by its address, over plain ssh.
struct Plain<'s> {
    sandbox: &'s Sandbox,
    user: &'s str,
    port: u16,
    known_hosts: PathBuf,
    identity: PathBuf,
}

impl<'s> Plain<'s> {
    fn of(sandbox: &'s Sandbox, user: &'s str) -> Plain<'s> {
        Plain {
            sandbox,
            user,
            port: sandbox.port().parse().unwrap(),
            known_hosts: sandbox.known_hosts().to_owned(),
            identity: sandbox.identity().to_owned(),
        }
    }

    fn host(&self) -> String {
        format!("{}@{}:{}", self.user, self.sandbox.address(), self.port)
    }

    fn words(&self, command: &[&str]) -> Vec<String> {
        let (command, more) = command.split_first().unwrap();
        let mut words = vec![(*command).to_owned(), self.host()];
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words.extend(["-o".into(), format!("UserKnownHostsFile={}", self.known_hosts.display())]);
        words.extend(["-o".into(), format!("IdentityFile={}", self.identity.display())]);
        words.extend(["-o".into(), "IdentitiesOnly=yes".into()]);
        words
    }

    fn call(&self, command: &[&str]) -> Finished {
        let words = self.words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        toril(&words)
    }

    /// Asserts that the host cannot be worked on, and that it is said what and why, and what to try.
    #[track_caller]
    fn fails(&self, because: &str, try_this: &str) -> Finished {
        let host = self.host();
        let finished = self.call(&["facts"]).exits(1);
        finished.shows(&format!("{host}: error: connecting: ")).shows(because).shows("try: ").shows(try_this)
    }
}

#[test]
fn errors_of_a_host_that_cannot_be_reached_are_told_apart() {
    if !by_openssh() {
        return;
    }
    let Some(sandbox) = Sandbox::fresh("reach") else { return };
    let files = tempfile::tempdir().unwrap();
    let plain = || Plain::of(&sandbox, "debian");
    plain().call(&["facts"]).exits(0).shows("debian 12");

    let key = sandbox.sudo("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
    let fingerprint = key.split(' ').nth(1).unwrap();
    let unknown = Plain { known_hosts: files.path().join("none"), ..plain() };
    let by_hand = format!("UserKnownHostsFile={} ", files.path().join("none").display());
    unknown
        .fails("the host's key is not known", "compare the fingerprint")
        .shows(fingerprint)
        .shows(&by_hand);
    assert!(!unknown.known_hosts.exists(), "the key was accepted without being asked for");

    make_key(&files.path().join("other"));
    let other = fs::read_to_string(files.path().join("other.pub")).unwrap();
    let line = format!("[{}]:{} {other}", sandbox.address(), sandbox.port());
    fs::write(files.path().join("changed"), line).unwrap();
    let changed = Plain { known_hosts: files.path().join("changed"), ..plain() };
    changed.fails("THE HOST'S KEY HAS CHANGED", "forget the old key with: ssh-keygen").shows(fingerprint);

    let denied = Plain { identity: files.path().join("other"), ..plain() };
    denied.fails("permission denied", "check the login name and the key").shows("offered were: ");
    let nobody = Plain { user: "no-such-user", ..plain() };
    nobody.fails("permission denied", "check the login name and the key");

    Plain { port: 1, ..plain() }.fails("port 1 refused the connection", "check the port");
}

#[test]
fn errors_of_a_name_or_a_port_that_does_not_answer_take_no_longer_than_was_said() {
    let unresolved = toril(&["facts", "debian@no-such-host.invalid"]).exits(1);
    unresolved.shows("the name no-such-host.invalid has no address").shows("try: check the name");

    // The kernel takes the connection, and nobody ever says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("debian@127.0.0.1:{}", silent.local_addr().unwrap().port());
    let arguments = ["facts", &host, "--connect-timeout", "2s"];
    // Less than where nothing is said of it.
    let silent = toril(&arguments).exits(1).takes_at_most(Duration::from_secs(14));
    silent.shows("no ssh server spoke").shows("did not answer in time").shows("try: check the address");
}

#[test]
fn errors_on_the_way_to_root_are_told_apart() {
    let Some(sandbox) = Sandbox::fresh("root") else { return };
    sandbox.sudo(
        r#"
        for user in anna berta carl; do
            useradd --create-home --shell /bin/bash $user
            install -d -m 700 -o $user -g $user /home/$user/.ssh
            install -m 600 -o $user -g $user /home/debian/.ssh/authorized_keys /home/$user/.ssh/authorized_keys
        done
        install -d -m 700 /root/.ssh
        install -m 600 /home/debian/.ssh/authorized_keys /root/.ssh/authorized_keys
        printf "anna:right\nberta:right\n" | chpasswd
        echo "berta ALL=(ALL) ALL" > /etc/sudoers.d/berta
        printf "Defaults:carl requiretty\ncarl ALL=(ALL) NOPASSWD: ALL\n" > /etc/sudoers.d/carl
        { echo "echo noise from the login shell"; cat /home/debian/.bashrc; } > /home/debian/.bashrc.new
        mv /home/debian/.bashrc.new /home/debian/.bashrc
        "#,
    );
    // What a start-up file prints does no harm; nor does a login as root, which needs no sudo.
    Plain::of(&sandbox, "debian").call(&["facts"]).exits(0).hides("noise");
    Plain::of(&sandbox, "root").call(&["facts"]).exits(0);

    let anna = Plain::of(&sandbox, "anna");
    anna.fails("sudo wants a password", "pass --ask-sudo-password, or log in as root");
    let allowed = at_a_terminal(&anna.words(&["facts", "--ask-sudo-password"]), "right");
    allowed.fails("the login user is not allowed to become root", "add the login user to the group sudo");
    Plain::of(&sandbox, "carl").fails("without a terminal (requiretty)", "/etc/sudoers.d");

    let berta = Plain::of(&sandbox, "berta");
    berta.fails("sudo wants a password", "pass --ask-sudo-password");
    let arguments = berta.words(&["facts", "--ask-sudo-password"]);
    at_a_terminal(&arguments, "wrong").fails("did not accept the password", "try again");
    let right = at_a_terminal(&arguments, "right");
    assert!(right.status == Some(0) && right.output.contains("debian 12"), "{right:?}");
    assert!(!right.output.contains("right"), "the password is shown: {right:?}");

    sandbox.sudo("mv /usr/bin/sudo /usr/bin/sudo.away");
    anna.fails("the host has no sudo", "log in as root, or install sudo");
    Plain::of(&sandbox, "root").call(&["facts"]).exits(0);
}

#[test]
fn errors_of_a_full_disk_name_it_and_go_when_there_is_room() {
    let Some(mut sandbox) = Sandbox::fresh("disk") else { return };
    toril(&["sandbox", "down", &sandbox.name]).exits(0);
    toril(&["sandbox", "up", &sandbox.name, "--disk", "400M"]).exits(0);
    sandbox.find_again();
    let (recipe, _files) = recipe("git");
    let apply = ["apply", &sandbox.host(), "--recipe", &recipe];

    // The agent itself.
    fill(&sandbox, 4 << 10);
    toril(&["facts", &sandbox.host()]).exits(1).shows("no space for the agent").shows("try: free some space");
    let left = sandbox.sudo("ls -A /var/lib/toril/agents");
    assert_eq!(left, "", "a part of the agent is left");
    sandbox.sudo("rm /ballast");
    toril(&["facts", &sandbox.host()]).exits(0);

    // Package lists, then packages, then the run's own journal.
    fill(&sandbox, 60 << 10);
    toril(&apply).exits(1).shows("`apt-get update` failed").shows("the disk is full; free some space");
    sandbox.sudo("rm /ballast; apt-get update -qq");
    fill(&sandbox, 30 << 10);
    toril(&apply).exits(1).shows("the disk is full; free some space").shows("failed a program");
    fill(&sandbox, 0);
    toril(&apply).exits(1).shows("cannot begin a run").shows("the disk is full; free some space");

    sandbox.sudo("rm /ballast");
    toril(&apply).exits(0);
    toril(&apply).exits(0).shows("nothing to change");
}

#[test]
fn errors_of_a_host_in_use_name_the_holder_and_waiting_works() {
    let Some(sandbox) = Sandbox::fresh("lock") else { return };
    let files = tempfile::tempdir().unwrap();
    let suite = files.path().join("slow.toml");
    let text = "description = \"waits\"\nrun-as = \"debian\"\ndeadline = \"10m\"\n[[test]]\nname = \"waits\"\n\
        command = [\"sh\", \"-c\", \"until [ -e /tmp/go ]; do sleep 0.05; done\"]\n";
    fs::write(&suite, text).unwrap();
    let test = ["test", &sandbox.host(), "--suite", suite.to_str().unwrap()];
    let mut first = Toril::new(&test).spawn();
    first.wait_for("as user debian");
    let second = toril(&test).exits(1);
    second.shows("the host is in use by ").shows(&format!("(test {}", suite.display())).shows("--wait");
    let (recipe, _files) = recipe("make");
    toril(&["apply", &sandbox.host(), "--recipe", &recipe]).exits(1).shows("the host is in use by ");
    // Looking needs no lock.
    toril(&["check", &sandbox.host(), "--recipe", &recipe]).exits(3);

    let mut waiting = Toril::new(&[&test[..], &["--wait", "10m"]].concat()).spawn();
    waiting.wait_for("waiting: the host is in use by ");
    let given_up = toril(&[&test[..], &["--spread", "--wait", "1s"]].concat()).exits(1);
    given_up
        .shows(": the run: the host is in use by ")
        .shows("part 1/1 of the suite did not come to its end");
    sandbox.ssh("touch /tmp/go");
    first.wait().exits(0).shows("passed waits");
    waiting.wait().exits(0).shows("passed waits");
    sandbox.is_clean();
}

#[test]
fn errors_of_a_recipe_that_is_for_other_hosts() {
    let Some(sandbox) = Sandbox::fresh("other") else { return };
    let (recipe, _files) = recipe("make");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace("debian 12", "debian 13")).unwrap();
    for command in ["check", "apply", "up"] {
        let refused = toril(&[command, &sandbox.host(), "--recipe", &recipe]).exits(1);
        refused.shows("this host runs debian 12").shows("supports debian 13").hides("passed");
    }
}

#[test]
fn errors_of_a_host_that_can_never_do_the_job_come_before_anything_is_installed() {
    let Some(sandbox) = Sandbox::fresh("unfit") else { return };
    let plain = Plain::of(&sandbox, "debian");
    let doctor = plain.call(&["doctor"]);
    if doctor.stdout.contains("✓ KVM") {
        return skip("guests run under KVM here, so this machine makes no host that cannot do the job");
    }
    doctor.exits(5).shows("✗ KVM: ").shows("✓ mirror").shows("✓ host key").shows(" disk: ");
    let packages = "sha256sum /var/lib/dpkg/status";
    let before = sandbox.sudo(packages);
    let reports = tempfile::tempdir().unwrap();
    let junit = reports.path().join("junit.xml");
    let wanted = format!("junit={}", junit.display());
    let refused = plain.call(&["up", "--yes", "--report", &wanted, "--report", "github"]).exits(5);
    refused
        .shows("✗ KVM: ")
        .shows("have guests emulated, by `--accel tcg`")
        .shows("the host cannot do the job; nothing was changed")
        .shows("::error title=")
        .hides("no test ran")
        .hides("changed ");
    assert_eq!(sandbox.sudo(packages), before);
    let junit = fs::read_to_string(junit).unwrap();
    assert!(junit.contains("the host cannot do the job: KVM: "), "{junit}");

    // What does not need KVM is told of it, and goes on.
    let (recipe, _files) = recipe("make");
    let apply = plain.call(&["apply", "--yes", "--recipe", &recipe]).exits(0);
    apply.shows("! KVM: ").shows("changed a program");
    toril(&["doctor", &sandbox.host()]).exits(0).shows("! KVM").shows("this machine: ✓ ssh: ");
}

#[test]
fn errors_of_a_mirror_that_does_not_answer_are_seen_beforehand() {
    let Some(sandbox) = Sandbox::fresh("mirror") else { return };
    sandbox.sudo(
        "rm -f /etc/apt/apt.conf.d/*proxy*; rm -f /etc/apt/sources.list.d/*; \
         echo 'deb http://127.0.0.1:9/debian bookworm main' > /etc/apt/sources.list",
    );
    toril(&["doctor", &sandbox.host()])
        .exits(0)
        .shows("! mirror: 127.0.0.1 port 9 does not answer: Connection refused")
        .shows("try: check the host's network");
    sandbox.sudo("echo 'deb http://no-such-name.invalid/debian bookworm main' > /etc/apt/sources.list");
    toril(&["doctor", &sandbox.host()]).exits(0).shows("! mirror: no-such-name.invalid has no address");
}

/// A recipe of one package, in a directory that must be kept.
pub(crate) fn recipe(package: &str) -> (String, TempDir) {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("recipe.toml");
    let resource =
        format!("[[resource]]\nname = \"a program\"\napt-packages = {{ install = [\"{package}\"] }}\n");
    fs::write(&path, format!("description = \"one package\"\nsupports = [\"debian 12\"]\n{resource}"))
        .unwrap();
    (path.to_str().unwrap().to_owned(), files)
}

/// What was seen on a terminal.
#[derive(Debug)]
struct Seen {
    status: Option<i32>,
    output: String,
}

impl Seen {
    #[track_caller]
    fn fails(&self, because: &str, try_this: &str) {
        assert_eq!(self.status, Some(1), "{self:?}");
        for text in [because, "try:", try_this] {
            assert!(self.output.contains(text), "{text:?} is not shown: {self:?}");
        }
    }
}

/// Calls toril on a terminal of its own, and types this when it asks for a password.
fn at_a_terminal(arguments: &[String], password: &str) -> Seen {
    let line = format!("{TORIL} {}", arguments.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keyboard, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let (sender, pieces) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = screen.read(&mut buffer) {
            let piece = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if sender.send(piece).is_err() {
                return;
            }
        }
    });
    let until = Instant::now() + Duration::from_secs(300);
    let mut seen = Seen { status: None, output: String::new() };
    let mut typed = false;
    while let Ok(piece) = pieces.recv_timeout(until.saturating_duration_since(Instant::now())) {
        seen.output.push_str(&piece);
        if !typed && seen.output.contains("password for sudo") {
            typed = true;
            // The terminal's echo goes off only after the question is there.
            while !is_echo_off(script.id()) {
                assert!(Instant::now() < until, "what is typed would be shown: {seen:?}");
                thread::sleep(Duration::from_millis(20));
            }
            keyboard.write_all(format!("{password}\n").as_bytes()).unwrap();
        }
    }
    if Instant::now() > until {
        drop(script.kill());
    }
    seen.status = script.wait().unwrap().code();
    assert!(typed, "it did not ask: {seen:?}");
    seen
}

/// Whether a terminal that `script` has made does not show what is typed.
fn is_echo_off(script: u32) -> bool {
    let inputs =
        descendants(script).into_iter().filter_map(|pid| fs::read_link(format!("/proc/{pid}/fd/0")).ok());
    let mut terminals = inputs.filter(|input| input.starts_with("/dev/pts"));
    terminals.any(|terminal| {
        let settings = Command::new("stty").arg("-a").arg("-F").arg(terminal).output().unwrap().stdout;
        String::from_utf8_lossy(&settings).split_whitespace().any(|setting| setting == "-echo")
    })
}

fn make_key(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.unwrap().success());
}

/// Leaves so many KiB of a sandbox's disk.
fn fill(sandbox: &Sandbox, left: u64) {
    let room = "$(df -k --output=avail / | tail -n 1)";
    let script = format!("rm -f /ballast /var/cache/apt/*.bin; fallocate -l $(({room} - {left}))K /ballast");
    sandbox.sudo(&script);
}

/// Whoever wants to hear little hears what went wrong all the same.
#[test]
fn the_quiet_hear_why() {
    let Some(sandbox) = Sandbox::provisioned("quiet") else { return };
    let host = sandbox.host();
    toril(&["check", "-q", &host]).exits(0).hides("resources");
    let failed = toril(&["test", "-q", &host, "--filter", "boot", "--set", "mode=fail"]).exits(4);
    failed.shows("1 failure").shows("case interrupt: failed").hides("suite ");
    let required = toril(&["verify", "-q", &host, "--require", "vsock"]);
    // Where the machine has vsock, there is nothing to tell.
    match required.status.code() {
        Some(0) => required.hides("vsock"),
        _ => required.exits(5).shows("✗ vsock").hides("✓"),
    };
    sandbox.sudo("chmod 0600 /etc/motd.d/toril");
    let drifted = toril(&["check", "-q", &host]).exits(3);
    drifted.shows("1 of ").shows("~ notice at login").shows("mode: 0600 → 0644");
    let applied = toril(&["apply", "-q", &host]).exits(0);
    applied.hides("notice at login");
}
