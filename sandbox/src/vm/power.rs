//! The power button.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::qemu::MONITOR;
use crate::host_dir::HostDir;
use crate::{Error, files};

/// How long a machine may take to shut down: an emulated one on a busy machine takes half a minute.
const SHUTDOWN: Duration = Duration::from_secs(180);

/// Has the machine shut itself down, as its power button would, and waits until it has. What it wrote is then on its
/// disk.
pub(crate) fn off(host_dir: &HostDir) -> Result<(), Error> {
    let failed = |problem: String| {
        let log = host_dir.path.join("log");
        Error::Shutdown { name: host_dir.name.clone(), problem, tail: files::tail(&log), log }
    };
    if host_dir.running()?.is_none() {
        return Err(failed("it does not run".to_owned()));
    }
    press(host_dir).map_err(|error| failed(format!("QEMU's monitor: {error}")))?;
    let until = Instant::now() + SHUTDOWN;
    while host_dir.running()?.is_some() {
        if Instant::now() > until {
            return Err(failed(format!("it still runs after {} seconds", SHUTDOWN.as_secs())));
        }
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn press(host_dir: &HostDir) -> std::io::Result<()> {
    let dir = File::open(&host_dir.path)?;
    // Through the descriptor, because a socket's path may not be long.
    let stream = UnixStream::connect(format!("/proc/self/fd/{}/{MONITOR}", dir.as_raw_fd()))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut replies = BufReader::new(stream.try_clone()?).lines();
    let mut reply = |wanted: &str| -> std::io::Result<()> {
        for line in replies.by_ref() {
            let line: Value = serde_json::from_str(&line?)?;
            if let Some(error) = line.get("error") {
                return Err(std::io::Error::other(error.to_string()));
            }
            if line.get(wanted).is_some() {
                return Ok(());
            }
        }
        Err(std::io::ErrorKind::UnexpectedEof.into())
    };
    reply("QMP")?;
    for command in ["qmp_capabilities", "system_powerdown"] {
        (&stream).write_all(format!("{{\"execute\": \"{command}\"}}\n").as_bytes())?;
        reply("return")?;
    }
    Ok(())
}
