//! This machine: what hosts are reached with, and what sandboxes are made with.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toril_machine::Command;
use toril_provisioner::{Check, CheckState};
use toril_sandbox::Kind;

/// How long a program of this machine may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// `by_ssh`: whether any host is reached by ssh.
pub(super) fn checks(by_ssh: bool) -> Vec<Check> {
    let mut checks = Vec::new();
    if by_ssh {
        checks.push(client());
        checks.push(agent());
        if let Some(home) = env::var_os("HOME").map(PathBuf::from) {
            checks.push(keys(&home.join(".ssh")));
        }
    }
    checks.push(sandboxes());
    checks
}

fn client() -> Check {
    const NAME: &str = "ssh";
    let Ok(path) = which::which("ssh") else {
        return Check::fine(
            NAME,
            "there is no ssh on the path: the client that is built in (russh) takes its place",
        );
    };
    // It says so on standard error.
    let said = Command::new(&path, ["-V"]).deadline(PATIENCE).run();
    let version = said.map(|finished| String::from_utf8_lossy(&finished.stderr).trim().to_owned());
    match version {
        Ok(version) => Check::fine(NAME, format!("{} is {version}", path.display())),
        Err(error) => {
            Check::trouble(NAME, CheckState::Bad, error.to_string(), "apt install --reinstall openssh-client")
        }
    }
}

fn agent() -> Check {
    const NAME: &str = "ssh agent";
    const NEEDED_FOR: &str = "needed only for keys with a passphrase: `eval $(ssh-agent)`, then `ssh-add`";
    let Some(socket) = env::var_os("SSH_AUTH_SOCK") else {
        return Check::fine(NAME, format!("none; {NEEDED_FOR}"));
    };
    // ssh-add(1): 1 where there is no key, 2 where the agent does not answer.
    let command = Command::new("ssh-add", ["-l"]).env("SSH_AUTH_SOCK", &socket).deadline(PATIENCE);
    match command.run().map(|finished| (finished.status.code(), finished.stdout)) {
        Ok((Some(0), keys)) => {
            let count = keys.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
            Check::fine(NAME, format!("it holds {count} of your keys"))
        }
        Ok((Some(1), _)) => Check::fine(NAME, "it holds no key"),
        _ => Check::trouble(
            NAME,
            CheckState::Doubtful,
            format!("SSH_AUTH_SOCK names {}, and no agent answers there", Path::new(&socket).display()),
            NEEDED_FOR,
        ),
    }
}

/// Files that ssh offers by itself, and refuses where others may read them.
fn keys(directory: &Path) -> Check {
    const NAME: &str = "ssh keys";
    let names = ["id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk"];
    let found: Vec<PathBuf> =
        names.iter().map(|name| directory.join(name)).filter(|path| path.exists()).collect();
    let is_open = |path: &&PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0);
    if let Some(open) = found.iter().find(is_open) {
        let open = open.display();
        return Check::trouble(
            NAME,
            CheckState::Doubtful,
            format!("{open} can be read by others, so ssh does not use it"),
            format!("chmod 600 {open}"),
        );
    }
    let names: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
    match names.is_empty() {
        true => Check::fine(NAME, "none in the usual places; name one by `IdentityFile` or in the inventory"),
        false => Check::fine(NAME, names.join(", ")),
    }
}

fn sandboxes() -> Check {
    const NAME: &str = "sandboxes";
    if !rustix::process::geteuid().is_root() {
        return Check::fine(NAME, "they need root: `sudo toril up sandbox`");
    }
    let missing = toril_sandbox::missing_tools(Kind::Container);
    match missing.is_empty() {
        true => Check::fine(NAME, "can be made here"),
        false => {
            Check::fine(NAME, format!("missing: {}; `toril sandbox up` installs them", missing.join(", ")))
        }
    }
}
