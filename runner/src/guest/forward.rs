use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use super::devices::VsockDevice;
use crate::account::Account;
use crate::suite::Forward;

/// How long socat may take to say what it can do.
const PATIENCE: Duration = Duration::from_secs(10);

/// What socat, asked to say so, prints when it takes connections.
pub(crate) const LISTENING: &str = "listening on ";

/// Finds out whether socat can forward to the kernel's vsock. An error is why not, and what to do.
pub(crate) fn find_socat(account: &Account) -> Result<(), String> {
    let asked = account.command("socat", &["-V"]).deadline(PATIENCE).run();
    let said = asked.map_err(|error| format!("cannot ask socat what it can do: {error}"))?;
    // `setpriv` is what was found; its own words tell that socat was not.
    if said.status.code() == Some(127)
        || String::from_utf8_lossy(&said.stderr).contains("failed to execute socat")
    {
        return Err("ports are forwarded by socat, which is not on the host: apply the recipe to it".into());
    }
    if !String::from_utf8_lossy(&said.stdout).contains("define WITH_VSOCK 1") {
        return Err("the socat of the host knows no VSOCK addresses: it is older than 1.7.4".into());
    }
    Ok(())
}

/// Whether the user can have a port of the host. An error is why not.
pub(crate) fn port_is_free(forward: Forward, account: &Account) -> Result<(), String> {
    let port = forward.from;
    account.act(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)).map_err(|error| {
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("the port {port} of 127.0.0.1, which is to be forwarded, is in use already")
            }
            _ => {
                format!("the port {port} of 127.0.0.1 cannot be forwarded by user {}: {error}", account.name)
            }
        }
    })
}

/// The program that forwards a port, and its arguments; `daemon` is where a vsock that is not the kernel's takes
/// connections.
pub(crate) fn argv(forward: Forward, cid: u32, vsock: &VsockDevice, daemon: &Path) -> Vec<String> {
    let listen = format!("TCP-LISTEN:{},bind=127.0.0.1,fork,reuseaddr", forward.from);
    let connect = match vsock {
        VsockDevice::Vhost { .. } => format!("VSOCK-CONNECT:{cid}:{}", forward.to),
        // The daemon is told the port in a line, and answers in one; what comes with that line is lost. A side that has
        // nothing more to say ends the whole connection for it: so the guest has a second for its answer.
        VsockDevice::User { .. } => {
            let (port, daemon) = (forward.to, daemon.display());
            let answered = format!("{daemon}.$$");
            format!(
                "SYSTEM:mkfifo {answered}; {{ echo CONNECT {port}; read -r _ < {answered}; cat; sleep 1; }} \
                 | socat -t 60 STDIO UNIX-CONNECT\\:{daemon} \
                 | {{ read -r _; echo > {answered}; rm {answered}; exec cat; }}"
            )
        }
    };
    // A client that has said everything may still wait for an answer.
    ["socat", "-d", "-d", "-t", "60", &listen, &connect].map(str::to_owned).to_vec()
}
