//! The ssh process that holds the connection to a host (a ControlMaster), and commands over it.

use std::ffi::OsString;
use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use openssh::Session;
use tempfile::TempDir;
use tokio::process::Command;
use toril_inventory::Ssh;

use crate::image::AgentImage;
use crate::process::{Exit, Process};
use crate::start::{Script, StartError, Stored, Sudo, remote_command};

use super::classify::classify;
use super::error::ConnectError;
use super::log::{ConnectionInfo, end, ended, info};
use super::meaning;
use super::standing::Standing;
use super::terminal::turn;
use super::{LOGIN, Options};

const PREFIX: &str = "toril-ssh-";
/// Locked by the program that uses the directory.
const OWNER: &str = "owner";
/// Longest directory: ssh binds its socket under a longer temporary name, and a socket's path has 108 bytes.
const LONGEST: usize = 60;
/// How long a login may take in which ssh asks somebody: longer than a host waits for it (`LoginGraceTime`, two minutes).
const ANSWERS: Duration = Duration::from_secs(600);
/// How long the master stays when the program that started it was killed, in seconds.
const PERSIST: u32 = 10;

/// A connected master. It ends when this is dropped and no command runs over it any more.
#[derive(Debug)]
pub(super) struct Master {
    session: Arc<Session>,
    /// An open client keeps the master although no command runs; when this program is killed, it closes.
    keep: UnixStream,
    log: PathBuf,
    info: ConnectionInfo,
    /// Locked as long as this program needs the directory of the control socket; nothing where the master stays.
    owner: Option<fs::File>,
    /// Whether it was there already.
    reused: bool,
}

impl Master {
    pub(super) async fn start(ssh: &Ssh, options: &Options) -> Result<Self, ConnectError> {
        let program = which::which("ssh").map_err(|_| ConnectError::NoSsh)?;
        if let Some(file) = ssh.identity.as_ref().filter(|file| !file.starts_with("~")) {
            // Without this, ssh would only say that permission was denied.
            fs::File::open(file).map_err(|source| ConnectError::Identity { file: file.clone(), source })?;
        }
        let place = match options.standing {
            Some(_) => {
                let meaning = meaning::of(&program, ssh, options).await?;
                Place::Standing(Standing::of(ssh, options, meaning).await?)
            }
            None => control_directory().map(|(directory, owner)| Place::Own(directory, owner))?,
        };
        if let Place::Standing(standing) = &place
            && let Some(keep) = standing.keep()
        {
            return Ok(Self::of(place, keep, true));
        }
        let begin = async |interactive| begin(&program, ssh, options, place.files(), interactive).await;
        let keep = match begin(false).await {
            // A person may help. Several hosts are connected to at once, but only one ssh may ask at a time.
            Err(ConnectError::UnknownHostKey { .. } | ConnectError::PermissionDenied { .. })
                if options.interactive && std::io::stdin().is_terminal() =>
            {
                let _turn = turn().await;
                begin(true).await?
            }
            begun => begun?,
        };
        Ok(Self::of(place, keep, false))
    }

    fn of(place: Place, keep: UnixStream, reused: bool) -> Self {
        let [socket, log, _] = place.files();
        let info = info(&read(&log));
        let (session, owner) = match place {
            Place::Own(directory, owner) => (Session::new_native_mux(directory), Some(owner)),
            // Such a session does not end its master.
            Place::Standing(_) => (Session::resume_mux(socket.into_boxed_path(), None), None),
        };
        Self { session: Arc::new(session), keep, log, info, owner, reused }
    }

    /// Whether the connection was there already, and may have been lost while nobody used it.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    pub(super) fn facts(&self) -> ConnectionInfo {
        self.info.clone()
    }

    pub(super) fn control_socket(&self) -> &Path {
        self.session.control_socket()
    }

    /// Starts the bootstrap on the host.
    pub(super) async fn start_command(
        &self,
        image: &AgentImage,
        sudo: &Sudo,
        stored: Stored,
    ) -> Result<Process, StartError> {
        let command = remote_command(&Script::deliver(image, sudo, stored));
        let spawned = Arc::clone(&self.session)
            .arc_raw_command(command)
            .stdin(openssh::Stdio::piped())
            .stdout(openssh::Stdio::piped())
            .stderr(openssh::Stdio::piped())
            .spawn()
            .await;
        let mut child = match spawned {
            Ok(child) => child,
            // One that answers still holds its connection, on which the host takes no further session.
            Err(error) if self.session.check().await.is_ok() => {
                return Err(StartError::Spawn { doing: "opening a session over ssh", source: error.into() });
            }
            Err(_) => return Err(StartError::ConnectionLost { reason: end(&read(&self.log)) }),
        };
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin().take(), child.stdout().take(), child.stderr().take())
        else {
            return Err(StartError::Spawn {
                doing: "opening a session over ssh",
                source: "no streams".into(),
            });
        };
        let session = Arc::clone(&self.session);
        let log = self.log.clone();
        let ending = async move {
            match child.wait().await {
                Ok(status) => status.code().map_or(Exit::Unknown, Exit::Status),
                // The crate makes this of the status 127.
                Err(openssh::Error::Remote(_)) => Exit::Status(127),
                Err(_) if session.check().await.is_ok() => Exit::Killed,
                Err(_) => Exit::ConnectionLost { reason: reason(&log).await },
            }
        };
        Ok(Process {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            ending: Box::pin(ending),
        })
    }

    /// Ends the master, unless commands still run over it, or it is to stay.
    pub(super) async fn close(self) {
        drop(self.keep);
        if self.owner.is_none() {
            return;
        }
        if let Ok(session) = Arc::try_unwrap(self.session) {
            // A master that is gone needs no end.
            let _ = session.close().await;
        }
    }
}

/// Starts a master, and holds it.
async fn begin(
    program: &Path,
    ssh: &Ssh,
    options: &Options,
    [socket, log, beside]: [PathBuf; 3],
    interactive: bool,
) -> Result<UnixStream, ConnectError> {
    // ssh adds to what is there.
    let _ = fs::remove_file(&log);
    // Not a pipe: a jump host's ssh keeps it open as long as it runs.
    let stderr = fs::File::create(&beside).map_err(ConnectError::Run)?;
    let mut command = Command::new(program);
    command
        .args(arguments(ssh, options, [&socket, &log], interactive))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .kill_on_drop(true);
    for name in &options.hidden {
        command.env_remove(name);
    }
    if !interactive {
        // BatchMode is not passed on to jump hosts; this keeps them from asking on the terminal.
        command.env("SSH_ASKPASS", "/bin/false").env("SSH_ASKPASS_REQUIRE", "force");
    }
    let status = run(command, ssh, options, interactive).await?;
    let failed = || classify(&read(&log), &read(&beside), &by_hand(ssh, options));
    if !status.success() {
        return Err(failed());
    }
    UnixStream::connect(&socket).map_err(|_| failed())
}

/// Where a master has its files.
enum Place {
    /// In a directory that goes with it, and the lock that says that it is in use.
    Own(TempDir, fs::File),
    Standing(Standing),
}

impl Place {
    /// The control socket, the log, and what ssh and its jump hosts print beside that.
    fn files(&self) -> [PathBuf; 3] {
        match self {
            // The socket of the master is called so by the openssh crate.
            Place::Own(directory, _) => ["master", "log", "stderr"].map(|name| directory.path().join(name)),
            Place::Standing(standing) => standing.files(),
        }
    }
}

/// Why the connection has ended. ssh closes its sockets first and writes its last words then.
async fn reason(log: &Path) -> String {
    for _ in 0..20 {
        let text = read(log);
        if ended(&text) {
            return end(&text);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    end(&read(log))
}

async fn run(
    mut command: Command,
    ssh: &Ssh,
    options: &Options,
    interactive: bool,
) -> Result<ExitStatus, ConnectError> {
    let mut child = command.spawn().map_err(ConnectError::Run)?;
    let limit = if interactive { ANSWERS } else { options.connect_timeout + LOGIN };
    match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) => status.map_err(ConnectError::Run),
        Err(_) => Err(ConnectError::TimedOut {
            place: ssh.host.clone(),
            during: ": it took the connection, but the login did not finish",
        }),
    }
}

/// The first value that ssh is given for an option wins: what must not be changed comes first, then the
/// user's options, then defaults.
fn arguments(ssh: &Ssh, options: &Options, files: [&Path; 2], interactive: bool) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["-v", "-M", "-N", "-f", "-E"].map(OsString::from).into();
    let [socket, log] = files;
    arguments.push(log.into());
    arguments.push("-S".into());
    arguments.push(socket.into());
    arguments.extend(settings(ssh, options, interactive));
    arguments
}

/// What of it says which host is meant and how it is to be reached.
pub(super) fn settings(ssh: &Ssh, options: &Options, interactive: bool) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(file) = &ssh.config {
        arguments.extend(["-F".into(), file.into()]);
    }
    let mut option = |text: String| arguments.extend(["-o".into(), text.into()]);
    let persist = options.standing.map_or(u64::from(PERSIST), |time| time.as_secs().max(1));
    option(format!("ControlPersist={persist}"));
    option("ClearAllForwardings=yes".into());
    option("RemoteCommand=none".into());
    option("PermitLocalCommand=no".into());
    if !interactive {
        option("BatchMode=yes".into());
    }
    if let Some(file) = &ssh.known_hosts {
        option(format!("UserKnownHostsFile={}", quoted(file)));
        option("GlobalKnownHostsFile=/dev/null".into());
        option("StrictHostKeyChecking=yes".into());
    }
    if let Some(file) = &ssh.identity {
        option(format!("IdentityFile={}", quoted(file)));
        option("IdentitiesOnly=yes".into());
    }
    options.ssh_options.iter().cloned().for_each(&mut option);
    option(format!("ConnectTimeout={}", options.connect_timeout.as_secs().max(1)));
    // One that stays shall know soon that it was lost, since the next program relies on it.
    let (interval, count) = if options.standing.is_some() { (5, 3) } else { (15, 4) };
    option(format!("ServerAliveInterval={interval}"));
    option(format!("ServerAliveCountMax={count}"));
    if let Some(user) = &ssh.user {
        arguments.extend(["-l".into(), user.into()]);
    }
    if let Some(port) = ssh.port {
        arguments.extend(["-p".into(), port.to_string().into()]);
    }
    arguments.extend(["--".into(), (&ssh.host).into()]);
    arguments
}

/// A path as a value in ssh's configuration.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

/// The command with which a person connects to the same host.
fn by_hand(ssh: &Ssh, options: &Options) -> String {
    let mut command = "ssh".to_owned();
    if let Some(file) = &ssh.config {
        command += &format!(" -F {}", file.display());
    }
    if let Some(file) = &ssh.known_hosts {
        command += &format!(" -o UserKnownHostsFile={}", quoted(file));
    }
    if let Some(file) = &ssh.identity {
        command += &format!(" -i {}", file.display());
    }
    for option in &options.ssh_options {
        let plain = option.chars().all(|c| c.is_ascii_alphanumeric() || "=_-./:@,+%".contains(c));
        let option = if plain { option.clone() } else { format!("'{}'", option.replace('\'', r"'\''")) };
        command += &format!(" -o {option}");
    }
    if let Some(port) = ssh.port {
        command += &format!(" -p {port}");
    }
    let user = ssh.user.as_ref().map_or_else(String::new, |user| format!("{user}@"));
    format!("{command} {user}{}", ssh.host)
}

/// A private directory with a short path, and the lock that says that it is in use.
fn control_directory() -> Result<(TempDir, fs::File), ConnectError> {
    let places = [std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from), Some(std::env::temp_dir())];
    let place = places
        .into_iter()
        .flatten()
        .find(|place| place.is_dir() && place.as_os_str().len() <= LONGEST)
        .unwrap_or_else(|| PathBuf::from("/tmp"));
    sweep(&place);
    loop {
        let made = lock_new_directory(&place);
        let failed =
            |source| ConnectError::ControlDirectory { directory: place.display().to_string(), source };
        if let Some(made) = made.map_err(failed)? {
            return Ok(made);
        }
    }
}

/// `None`: another program swept it away before it was locked.
fn lock_new_directory(place: &Path) -> std::io::Result<Option<(TempDir, fs::File)>> {
    // Made with mode 0700.
    let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
    let owner = fs::File::create(directory.path().join(OWNER))?;
    owner.lock()?;
    Ok(directory.path().join(OWNER).exists().then_some((directory, owner)))
}

/// Removes what programs that were killed have left, once the masters of theirs have ended by themselves.
fn sweep(place: &Path) {
    let me = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.metadata().is_ok_and(|data| data.is_dir() && data.uid() == me);
        // One without the file is being made this moment.
        let Some(Ok(owner)) = ours.then(|| fs::File::open(entry.path().join(OWNER))) else { continue };
        // Not by connecting: that keeps a master that nobody uses.
        let socket = entry.path().join("master");
        let old = || {
            let age =
                entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
            age.is_some_and(|age| age > Duration::from_secs(3600)) && UnixStream::connect(&socket).is_err()
        };
        // Held until it is removed.
        if owner.try_lock().is_ok() && (!socket.exists() || old()) {
            // Another toril may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn read(file: &Path) -> String {
    fs::read(file).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}
