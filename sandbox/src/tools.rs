use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::Error;

/// Every program that is called, here or by what is called here.
const TOOLS: [&str; 8] =
    ["apt-config", "chroot", "crun", "mmdebstrap", "setpriv", "setsid", "ssh-keygen", "unshare"];

/// Programs that sandboxes are made with and that are not on this machine; on Debian each of those that can be
/// missing (crun, mmdebstrap, ssh-keygen of openssh-client) is an apt package.
pub fn missing_tools() -> Vec<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A user's PATH often lacks the administrator's directories; `search_path` adds them too.
    let dirs: Vec<_> = env::split_paths(&path).chain(ADMIN_DIRS.map(Into::into)).collect();
    TOOLS.into_iter().filter(|tool| !dirs.iter().any(|dir| is_program(&dir.join(tool)))).collect()
}

const ADMIN_DIRS: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];

/// The `PATH` that the tools are called with.
pub(crate) fn search_path() -> String {
    format!("{}:{}", env::var("PATH").unwrap_or_default(), ADMIN_DIRS.join(":"))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// What must hold before anything is changed.
pub(crate) fn check(doing: &'static str) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NeedsRoot { doing });
    }
    let missing = missing_tools();
    if missing.is_empty() { Ok(()) } else { Err(Error::MissingTools(missing)) }
}
