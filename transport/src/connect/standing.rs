//! Connections that stay when their program has ended, for the next one to use.

use std::fs::{self, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio::time::{Instant, sleep};
use toril_inventory::Ssh;

use super::error::ConnectError;
use super::{LOGIN, Options};

/// Longest path of a control socket: a socket's path has 108 bytes with the zero at its end, and ssh binds it under a name
/// that is 17 bytes longer first. One with three bytes less still is a path for every program that looks at it.
const LONGEST: usize = 104 - SUFFIX;
const SUFFIX: usize = 17;
/// Digits of the name of a connection.
const DIGITS: usize = 12;
/// How long until a lock is asked for again.
const AGAIN: Duration = Duration::from_millis(20);
/// How long ssh may take to end a connection.
const END: Duration = Duration::from_secs(5);

/// Where a standing connection has its files. While this lives, no other program makes the same connection.
#[derive(Debug)]
pub(super) struct Standing {
    files: [PathBuf; 3],
    _lock: fs::File,
}

impl Standing {
    /// The place of the connection to this host by these options, where `meaning` is what ssh makes of them. Waits while
    /// another program makes it, as long as that may take where nobody is asked anything.
    pub(super) async fn of(ssh: &Ssh, options: &Options, meaning: String) -> Result<Standing, ConnectError> {
        let directory = directory()?;
        let name = name(ssh, options, &meaning);
        let file = |end: &str| directory.join(format!("{name}{end}"));
        let failed =
            |source| ConnectError::ControlDirectory { directory: directory.display().to_string(), source };
        let limit = options.connect_timeout + LOGIN;
        let lock = lock(&file(".lock"), limit).await.map_err(|error| match error {
            NotLocked::Held(holder) => ConnectError::InTheMaking { host: ssh.host.clone(), holder },
            NotLocked::Failed(source) => failed(source),
        })?;
        let target = serde_json::to_vec(&target(ssh)).map_err(|error| failed(error.into()))?;
        fs::write(file(".host"), target).map_err(failed)?;
        Ok(Standing { files: ["", ".log", ".err"].map(file), _lock: lock })
    }

    /// The control socket, what ssh has logged, and what it has printed beside that.
    pub(super) fn files(&self) -> [PathBuf; 3] {
        self.files.clone()
    }

    /// Holds the connection, if it is there; what is left of one that is not, is removed.
    pub(super) fn keep(&self) -> Option<UnixStream> {
        let socket = self.files.first().and_then(|socket| UnixStream::connect(socket).ok());
        if socket.is_none() {
            // There may be nothing.
            self.files.iter().for_each(|file| drop(fs::remove_file(file)));
        }
        socket
    }
}

/// Why a file is not locked.
#[derive(Debug)]
enum NotLocked {
    /// Another program has it all the time: the process of this number, where it says so.
    Held(Option<u32>),
    Failed(io::Error),
}

impl From<io::Error> for NotLocked {
    fn from(error: io::Error) -> NotLocked {
        NotLocked::Failed(error)
    }
}

/// Locks a file, and writes into it who has it. It is asked for again and again: a kernel that is to wait cannot be told to stop.
async fn lock(path: &Path, limit: Duration) -> Result<fs::File, NotLocked> {
    let mut file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let end = Instant::now() + limit;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(error.into()),
            Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(AGAIN).await,
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
                return Err(NotLocked::Held(holder));
            }
        }
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// Ends standing connections of this user's: those to one host, whatever options they were made by, or all. Returns how
/// many there were.
///
/// # Errors
/// ssh is not there or cannot be run, or their directory cannot be read.
pub async fn disconnect(host: Option<&Ssh>) -> Result<usize, ConnectError> {
    let directory = directory()?;
    let failed =
        |source| ConnectError::ControlDirectory { directory: directory.display().to_string(), source };
    let mut ended = 0;
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|end| end != "host") {
            continue;
        }
        let is_meant = |host: &Ssh| {
            let known = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Ssh>(&bytes).ok());
            known.is_some_and(|known| known == target(host))
        };
        if !host.is_none_or(is_meant) {
            continue;
        }
        let socket = path.with_extension("");
        if UnixStream::connect(&socket).is_ok() {
            end(&socket).await?;
            ended += 1;
        }
        for end in ["", "log", "err", "host"] {
            // Some may not be there.
            let _ = fs::remove_file(path.with_extension(end));
        }
    }
    Ok(ended)
}

async fn end(socket: &Path) -> Result<(), ConnectError> {
    let program = which::which("ssh").map_err(|_| ConnectError::NoSsh)?;
    let mut command = Command::new(program);
    // The host's name is not looked at, but wanted.
    command.args(["-F", "none", "-O", "exit", "-S"]).arg(socket).arg("standing");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(END, command.status()).await {
        Ok(status) => status.map(drop).map_err(ConnectError::Run),
        Err(_) => Err(ConnectError::Run(io::ErrorKind::TimedOut.into())),
    }
}

/// What of a host is the same whatever the options are.
fn target(ssh: &Ssh) -> Ssh {
    Ssh { host: ssh.host.clone(), user: ssh.user.clone(), port: ssh.port, ..Ssh::default() }
}

/// The name of the connection to a host by these options: others have another one, and so has the host where ssh's
/// configuration has come to lead elsewhere.
fn name(ssh: &Ssh, options: &Options, meaning: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("{ssh:?} {:?}\n{meaning}", options.ssh_options));
    hex::encode(hasher.finalize()).chars().take(DIGITS).collect()
}

/// The user's own directory for sockets, at the first place that is there and short enough.
fn directory() -> Result<PathBuf, ConnectError> {
    let user = rustix::process::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let places = [runtime, Some(std::env::temp_dir()), Some(PathBuf::from("/tmp"))];
    let directories = places
        .into_iter()
        .flatten()
        .filter(|place| place.is_dir())
        .map(|place| place.join(format!("toril-{user}")));
    let fits = |directory: &PathBuf| directory.as_os_str().len() + 1 + DIGITS <= LONGEST;
    let directory = directories.into_iter().find(fits).unwrap_or_else(|| format!("/tmp/toril-{user}").into());
    let failed =
        |source| ConnectError::ControlDirectory { directory: directory.display().to_string(), source };
    match fs::DirBuilder::new().mode(0o700).create(&directory) {
        Ok(()) => Ok(directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Somebody else may have made it, to be asked instead of the host.
            let data = fs::symlink_metadata(&directory).map_err(failed)?;
            match data.is_dir() && data.uid() == user && data.mode() & 0o077 == 0 {
                true => Ok(directory),
                false => Err(failed(io::Error::other("it is not yours alone (mode 0700)"))),
            }
        }
        Err(source) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn another_program_that_makes_the_connection_is_waited_for_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = lock(&path, Duration::ZERO).await.unwrap();
        let error = lock(&path, Duration::from_secs(75)).await.unwrap_err();
        assert!(matches!(error, NotLocked::Held(Some(id)) if id == std::process::id()), "{error:?}");
        let soon = async {
            sleep(Duration::from_secs(60)).await;
            drop(held);
        };
        let (next, ()) = tokio::join!(lock(&path, Duration::from_secs(75)), soon);
        next.unwrap();
    }

    #[test]
    fn a_connection_is_the_same_only_by_the_same_options() {
        let ssh = |host: &str| Ssh { host: host.into(), ..Ssh::default() };
        let options = |text: &str| Options { ssh_options: vec![text.into()], ..Options::default() };
        let one = name(&ssh("a"), &options("x=1"), "hostname c");
        assert_eq!(one, name(&ssh("a"), &options("x=1"), "hostname c"));
        assert_eq!(one.len(), DIGITS);
        let others = [("b", "x=1", "hostname c"), ("a", "x=2", "hostname c"), ("a", "x=1", "hostname d")];
        assert!(
            others.iter().all(|(host, option, meaning)| one != name(&ssh(host), &options(option), meaning))
        );
    }
}
