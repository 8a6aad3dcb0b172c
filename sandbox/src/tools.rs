use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::{Error, Kind};

/// Every program that is called, here or by what is called here.
const TOOLS: [&str; 8] =
    ["apt-config", "chroot", "crun", "mmdebstrap", "setpriv", "setsid", "ssh-keygen", "unshare"];

/// And for virtual machines, which need no crun.
const MACHINE_TOOLS: [&str; 3] = ["mke2fs", "qemu-img", "qemu-system-x86_64"];

/// Programs that sandboxes of a kind are made with and that are not on this machine; on Debian each of those that can be
/// missing (crun, mmdebstrap, ssh-keygen of openssh-client) is an apt package, and so are those for virtual
/// machines (e2fsprogs, qemu-utils, qemu-system-x86).
pub fn missing_tools(kind: Kind) -> Vec<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A user's PATH often lacks the administrator's directories; `search_path` adds them too.
    let dirs: Vec<_> = env::split_paths(&path).chain(ADMIN_DIRS.map(Into::into)).collect();
    let of_kind = |tool: &&str| kind == Kind::VirtualMachine || !MACHINE_TOOLS.contains(tool);
    TOOLS
        .into_iter()
        .chain(MACHINE_TOOLS)
        .filter(of_kind)
        .filter(|tool| !dirs.iter().any(|dir| is_program(&dir.join(tool))))
        .collect()
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
pub(crate) fn check(doing: &'static str, kind: Kind) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NeedsRoot { doing });
    }
    let missing = missing_tools(kind);
    if missing.is_empty() { Ok(()) } else { Err(Error::MissingTools(missing)) }
}
