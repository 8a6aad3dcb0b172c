//! What ssh makes of a host's name, by its configuration as it is now.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use toril_inventory::Ssh;

use super::classify::classify;
use super::error::ConnectError;
use super::master::settings;
use super::{LOGIN, Options};

/// Jump hosts may have jump hosts of their own, but not without end.
const MOST_HOPS: usize = 8;

/// All that ssh's configuration says of a host (`ssh -G`), and of the jump hosts before it. Nothing is connected to.
pub(super) async fn of(program: &Path, ssh: &Ssh, options: &Options) -> Result<String, ConnectError> {
    // How long it stays and how long it may take makes no other connection of it.
    let lasting = Options { ssh_options: options.ssh_options.clone(), ..Options::default() };
    let mut all = ask(program, settings(ssh, &lasting, false), options).await?;
    let mut jumps = jumps(&all);
    let mut asked = 0;
    while let Some(jump) = jumps.pop() {
        asked += 1;
        if asked > MOST_HOPS {
            break;
        }
        // As ssh passes it on.
        let config = ssh.config.iter().flat_map(|file| [OsString::from("-F"), file.into()]);
        let host = ["--", &format!("ssh://{jump}")].map(OsString::from);
        let said = ask(program, config.chain(host).collect(), options).await?;
        jumps.extend(self::jumps(&said));
        all += &said;
    }
    Ok(all)
}

async fn ask(program: &Path, arguments: Vec<OsString>, options: &Options) -> Result<String, ConnectError> {
    let mut command = Command::new(program);
    for name in &options.hidden {
        command.env_remove(name);
    }
    command.arg("-G").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    // The configuration may have programs run (`Match exec`).
    let limit = options.connect_timeout + LOGIN;
    let late = || ConnectError::Run(std::io::Error::other("`ssh -G` did not end in time"));
    let output = tokio::time::timeout(limit, command.output()).await.map_err(|_| late())?;
    let output = output.map_err(ConnectError::Run)?;
    if !output.status.success() {
        return Err(classify("", &String::from_utf8_lossy(&output.stderr), "ssh"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The jump hosts that are named there, each as in `ssh://`.
fn jumps(said: &str) -> Vec<String> {
    let named = said.lines().find_map(|line| line.strip_prefix("proxyjump "));
    let named = named.filter(|named| !named.eq_ignore_ascii_case("none")).unwrap_or_default();
    let hosts = named.split(',').map(|jump| jump.trim().trim_start_matches("ssh://"));
    hosts.filter(|jump| !jump.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_hosts_are_found() {
        for (said, expected) in [
            ("user a\nproxyjump gate,b@inner:23\nport 22\n", &["gate", "b@inner:23"][..]),
            ("proxyjump ssh://gate:24\n", &["gate:24"]),
            ("proxyjump none\n", &[]),
            ("port 22\n", &[]),
        ] {
            assert_eq!(jumps(said), expected, "{said}");
        }
    }
}
