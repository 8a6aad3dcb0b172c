//! From a plan to a sandbox that answers.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::host_dir::HostDir;
use crate::plan::{Plan, Running};
use crate::{Error, Kind, files, tools};

/// A container answers in a fraction of a second, an emulated machine in a quarter of a minute; where something else
/// is being built, both may need longer.
fn start_limit(kind: Kind) -> Duration {
    Duration::from_secs(match kind {
        Kind::Container => 60,
        Kind::VirtualMachine => 300,
    })
}

/// What sshd and QEMU say when somebody has the port.
const PORT_TAKEN: [&str; 2] = ["Address already in use", "Could not set up host forwarding rule"];

/// How a start ended.
pub(crate) enum Launched {
    Up,
    PortTaken,
}

/// Makes the keys: the client's, the sandbox's own, and the known_hosts file that ties the second to the address.
pub(crate) fn make_keys(host_dir: &Path, plan: &Plan) -> Result<(), Error> {
    for (file, comment) in [("id_ed25519", "toril"), ("ssh_host_ed25519_key", plan.name.as_str())] {
        let path = host_dir.join(file);
        let mut args: Vec<OsString> =
            ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"].map(Into::into).into();
        args.push(path.clone().into());
        toril_machine::Command::new("ssh-keygen", args).output()?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(Error::io("change the mode of", &path))?;
    }
    write_known_hosts(host_dir, plan)
}

/// Separately, because a second try has another port.
pub(crate) fn write_known_hosts(host_dir: &Path, plan: &Plan) -> Result<(), Error> {
    let path = host_dir.join("ssh_host_ed25519_key.pub");
    let key = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let path = host_dir.join("known_hosts");
    fs::write(&path, format!("[{}]:{} {}\n", plan.address, plan.port, key.trim()))
        .map_err(Error::io("write", &path))?;
    fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(Error::io("change the mode of", &path))
}

/// Starts the sandbox and waits until its sshd answers.
pub(crate) fn launch(host_dir: &HostDir, plan: &Plan, stage_exe: &[OsString]) -> Result<Launched, Error> {
    let log_path = host_dir.path.join("log");
    let failed = |problem: String| start_error(host_dir, problem);
    let log = files::open_private(&log_path)?;
    let log_too = log.try_clone().map_err(Error::io("duplicate", &log_path))?;
    let Some(life) = host_dir.take_life_lock()? else {
        return Err(failed("another start of it is under way".to_owned()));
    };
    let mut command = Command::new("setsid");
    command
        .args([
            "--fork",
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child=KILL",
        ])
        .arg("--")
        .args(stage_exe)
        .arg(&host_dir.path)
        .env_clear()
        .env("PATH", tools::search_path())
        .current_dir("/")
        .stdin(life)
        .stdout(log)
        .stderr(Stdio::from(log_too));
    let status = command.status().map_err(|error| failed(format!("setsid could not be started: {error}")))?;
    // This one's copy of the lock's file goes with the command.
    drop(command);
    if !status.success() {
        return Err(failed(format!("setsid ended with {status}")));
    }
    wait(host_dir, plan)
}

/// Waits until sshd answers on a sandbox that was started.
pub(crate) fn wait(host_dir: &HostDir, plan: &Plan) -> Result<Launched, Error> {
    let address = SocketAddr::from((plan.address, plan.port));
    let limit = start_limit(plan.kind());
    let until = Instant::now() + limit;
    loop {
        if answers(address)
            && Running::read(&host_dir.path)?.is_some_and(|running| running.is_alive().unwrap_or(false))
        {
            return Ok(Launched::Up);
        }
        if host_dir.take_life_lock()?.is_some() {
            let log = files::tail(&host_dir.path.join("log"));
            if PORT_TAKEN.iter().any(|words| log.contains(words)) {
                return Ok(Launched::PortTaken);
            }
            return Err(start_error(host_dir, "it ended at once".to_owned()));
        }
        if Instant::now() > until {
            let problem = format!("its sshd does not answer on {address} after {} seconds", limit.as_secs());
            let error = start_error(host_dir, problem);
            host_dir.kill()?;
            return Err(error);
        }
        sleep(Duration::from_millis(10));
    }
}

/// A connection alone says nothing (QEMU takes it before anything runs inside): sshd is there when its greeting is.
fn answers(address: SocketAddr) -> bool {
    let greeting = || -> std::io::Result<[u8; 4]> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting)?;
        Ok(greeting)
    };
    greeting().is_ok_and(|greeting| &greeting == b"SSH-")
}

fn start_error(host_dir: &HostDir, problem: String) -> Error {
    let log = host_dir.path.join("log");
    Error::Start { name: host_dir.name.clone(), problem, tail: files::tail(&log), log }
}
