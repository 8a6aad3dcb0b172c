//! A real sshd in namespaces of its own: what it does to /var/lib, /run and /etc/passwd ends with it.

use std::cell::Cell;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use toril_inventory::{Host, Reach, Ssh, Transport};
use toril_transport::{AgentImage, Incoming, Options};

/// A login without any right, made for the test.
pub const USER: &str = "toril-test";

pub struct Server {
    pub directory: TempDir,
    pub ssh: Ssh,
    process: Child,
}

/// What differs from a usual host.
#[derive(Default)]
pub struct Setup<'a> {
    /// Mount options of /var/lib.
    pub mount: Option<&'a str>,
    /// Lines of /etc/sudoers.
    pub sudoers: Option<&'a str>,
    /// Further lines of sshd's configuration.
    pub sshd: &'a str,
    /// Contents of the test user's .bashrc.
    pub bashrc: &'a str,
}

/// Why no server can be started here, printed; `None` when one can.
pub fn unable() -> Option<()> {
    let reason = if !Path::new("/usr/sbin/sshd").exists() {
        "there is no /usr/sbin/sshd"
    } else if !Command::new("unshare").args(["-mpf", "true"]).status().is_ok_and(|status| status.success()) {
        "namespaces need root"
    } else {
        return None;
    };
    println!("SKIPPED: {reason}");
    Some(())
}

pub fn has_sudo() -> bool {
    Path::new("/usr/bin/sudo").exists()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The file at `path`, with `line` added, as a file that can be mounted over it.
fn with_line(directory: &Path, path: &str, line: &str) {
    let name = Path::new(path).file_name().unwrap();
    let text = fs::read_to_string(path).unwrap();
    fs::write(directory.join(name), format!("{text}{line}\n")).unwrap();
}

impl Server {
    pub fn start(setup: &Setup) -> Self {
        // sshd checks the directories above the keys' only with StrictModes, the test user must reach them.
        let directory = TempDir::new().unwrap();
        let at = directory.path().to_path_buf();
        run(Command::new("chmod").arg("755").arg(&at));
        for key in ["host", "id", "other"] {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at.join(key)));
        }
        let port = TcpListener::bind("127.0.7.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.7.1\nHostKey {0}/host\nAuthorizedKeysFile {0}/id.pub\nUsePAM no\n\
             StrictModes no\nPidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n{1}",
            at.display(),
            setup.sshd
        );
        fs::write(at.join("sshd.conf"), config).unwrap();
        let host_key = fs::read_to_string(at.join("host.pub")).unwrap();
        fs::write(at.join("known_hosts"), format!("[127.0.7.1]:{port} {host_key}")).unwrap();
        fs::create_dir(at.join("home")).unwrap();
        fs::write(at.join("home/.bashrc"), setup.bashrc).unwrap();
        with_line(&at, "/etc/passwd", &format!("{USER}:x:4242:4242::{}/home:/bin/bash", at.display()));
        // The password is `right`.
        with_line(&at, "/etc/shadow", &format!("{USER}:{PASSWORD}:19000:0:99999:7:::"));
        let sudoers = setup.sudoers.map(|lines| {
            fs::write(at.join("sudoers"), format!("{lines}\n")).unwrap();
            format!("mount --bind {0}/sudoers /etc/sudoers; chmod 440 /etc/sudoers;", at.display())
        });
        let script = format!(
            "set -e; mount -t tmpfs -o {options} tmpfs /var/lib; mount -t tmpfs tmpfs /run; mkdir -p /run/sshd;\
             mount --bind {0}/passwd /etc/passwd; mount --bind {0}/shadow /etc/shadow; {sudoers}\
             exec /usr/sbin/sshd -D -e -f {0}/sshd.conf",
            at.display(),
            options = setup.mount.unwrap_or("mode=755"),
            sudoers = sudoers.unwrap_or_default(),
        );
        let process = Command::new("unshare")
            .args(["-mpf", "--kill-child", "--mount-proc", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stderr(fs::File::create(at.join("sshd.log")).unwrap())
            .spawn()
            .unwrap();
        let ssh = Ssh {
            host: "127.0.7.1".into(),
            user: Some("root".into()),
            port: Some(port),
            identity: Some(at.join("id")),
            known_hosts: Some(at.join("known_hosts")),
            ..Ssh::default()
        };
        let server = Self { directory, ssh, process };
        wait("sshd listens", || server.log().contains("Server listening"));
        server
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("sshd.log")).unwrap_or_default()
    }

    pub fn host(&self) -> Host {
        host(self.ssh.clone())
    }

    pub fn host_as(&self, user: &str) -> Host {
        host(Ssh { user: Some(user.into()), ..self.ssh.clone() })
    }

    /// A path as the server sees it.
    pub fn path(&self, inside: &str) -> PathBuf {
        let unshare = self.process.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
        PathBuf::from(format!("/proc/{}/root{inside}", children.trim()))
    }

    /// File names in the agents' directory.
    pub fn agents(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("/var/lib/toril/agents"));
        entries.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Ends sshd and every session of it at once, as a power cut does.
    pub fn cut(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            self.cut();
        }
    }
}

/// SHA-512 crypt of `right`.
const PASSWORD: &str =
    "$6$toriltest$Gy5sPRYYYAnKJ460hz.c1OkVW70aBx4kmDzDy8R1RQQzm3ybebK2BCn11K31NdvxYkH8KO459qHpN1z1jWFn91";

pub fn host(ssh: Ssh) -> Host {
    Host { name: "test".into(), reach: Reach::Ssh(ssh), sandbox: false }
}

thread_local! {
    /// By what this thread's test connects.
    static BY: Cell<Transport> = const { Cell::new(Transport::Openssh) };
}

pub fn transport() -> Transport {
    BY.get()
}

pub fn connect_by(transport: Transport) {
    BY.set(transport);
}

/// Makes a test of each function for each transport.
macro_rules! by_both {
    ($($name:ident),* $(,)?) => {
        by_both!(@ openssh Openssh $($name)*);
        by_both!(@ russh Russh $($name)*);
    };
    (@ $module:ident $transport:ident $($name:ident)*) => {
        mod $module {
            $(#[tokio::test(flavor = "current_thread")]
            async fn $name() {
                $crate::support::connect_by(toril_inventory::Transport::$transport);
                super::$name().await;
            })*
        }
    };
}
pub(crate) use by_both;

pub fn options() -> Options {
    Options { connect_timeout: Duration::from_secs(30), transport: Some(transport()), ..Options::default() }
}

/// Longer than anything takes that is waited for, on the slowest of machines.
const LONG: Duration = Duration::from_secs(90);

pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < deadline, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// As [`wait`], while connections go on.
pub async fn wait_on(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < deadline, "not within {LONG:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An example program, built here because `cargo test --test ssh` alone does not.
pub fn example(name: &str) -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    run(Command::new(cargo)
        .args(["build", "--quiet", "--example", name])
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples").join(name)
}

pub fn echo_agent() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| example("echo_agent")).clone()
}

pub fn echo_image() -> AgentImage {
    static IMAGE: OnceLock<AgentImage> = OnceLock::new();
    IMAGE.get_or_init(|| AgentImage::from_file(&echo_agent()).unwrap()).clone()
}

pub fn text(incoming: Option<Incoming<String>>) -> String {
    match incoming {
        Some(Incoming::Message(text)) => text,
        other => panic!("no message: {other:?}"),
    }
}
