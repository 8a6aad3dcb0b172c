use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde::{Deserialize, Serialize};
use toril_machine::{Machine, Probe};

/// The modules that guests under KVM, vsock and their rivals need.
pub(super) const MODULES: [&str; 7] =
    ["kvm", "kvm_amd", "kvm_intel", "vhost", "vhost_vsock", "vsock", "vmw_vsock_vmci_transport"];

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// `file`, `directory`, `link`, `device` or `other`.
    pub kind: String,
    /// Permission bits, such as `0644`.
    pub mode: String,
    /// The owner's name.
    pub owner: String,
    /// The group's name.
    pub group: String,
    /// Where a link points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// How a module stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Whether it is in the kernel now.
    pub loaded: bool,
    /// Its file below the kernel's directory of modules, or nothing where there is none.
    pub file: Option<String>,
    /// Whether it is a part of the kernel itself.
    pub built_in: bool,
}

/// Devices, and what tells of systemd and udev.
const MARKERS: [&str; 9] = [
    "/dev/kvm",
    "/dev/vhost-vsock",
    "/dev/vsock",
    "/run/systemd/system",
    "/run/udev/control",
    "/run/reboot-required",
    "/usr/lib/qemu/virtiofsd",
    "/usr/libexec/virtiofsd",
    "/usr/local/bin/socat",
];

pub(super) fn places(machine: &Machine, paths: &[String]) -> BTreeMap<String, Probe<Place>> {
    let all = MARKERS.into_iter().chain(paths.iter().map(String::as_str));
    all.map(|path| (path.to_owned(), place(machine, path))).collect()
}

fn place(machine: &Machine, path: &str) -> Probe<Place> {
    let metadata = Probe::of_io(fs::symlink_metadata(machine.path(path)), path);
    let target =
        || fs::read_link(machine.path(path)).ok().map(|target| target.to_string_lossy().into_owned());
    metadata.map(|metadata| Place {
        kind: kind(&metadata).to_owned(),
        mode: format!("{:04o}", metadata.mode() & 0o7777),
        owner: machine.user_name(metadata.uid()),
        group: machine.group_name(metadata.gid()),
        target: target(),
    })
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => "file",
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "link",
        () if kind.is_char_device() || kind.is_block_device() => "device",
        () => "other",
    }
}

pub(super) fn modules(machine: &Machine) -> BTreeMap<String, Probe<Module>> {
    MODULES.into_iter().map(|name| (name.to_owned(), module(machine, name))).collect()
}

fn module(machine: &Machine, name: &str) -> Probe<Module> {
    let look = || -> Result<Option<Module>, String> {
        let loaded = machine.exists(&format!("/sys/module/{name}")).known()?.is_some();
        let kernel = machine.read("/proc/sys/kernel/osrelease").known()?.unwrap_or_default();
        let listed = |list: &str| -> Result<Option<String>, String> {
            let text = machine.read(&format!("/lib/modules/{}/{list}", kernel.trim())).known()?;
            let text = text.unwrap_or_default();
            let paths = text.lines().map(|line| line.split(':').next().unwrap_or_default());
            let mut paths = paths.filter(|path| is_of(path, name)).map(str::to_owned);
            Ok(paths.next())
        };
        let (file, built_in) = (listed("modules.dep")?, listed("modules.builtin")?.is_some());
        let is_there = loaded || built_in || file.is_some();
        Ok(is_there.then_some(Module { loaded, file, built_in }))
    };
    match look() {
        Ok(Some(module)) => Probe::Known(module),
        Ok(None) => Probe::Absent,
        Err(reason) => Probe::Unreadable(reason),
    }
}

/// Whether a line of modules.dep, such as `kernel/arch/x86/kvm/kvm-amd.ko.xz`, is of this module. The kernel's own
/// spelling has underscores.
pub(super) fn is_of(path: &str, name: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split_once(".ko").is_some_and(|(stem, _)| stem.replace('-', "_") == name)
}
