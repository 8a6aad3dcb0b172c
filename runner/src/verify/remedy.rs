//! What to do about what does not work.

use std::fs;
use std::path::Path;

use toril_machine::{Probe, STANDARD_PATH};

/// Where what the recipe brings is missing.
pub(super) const RECIPE: &str = "`toril apply HOST` with the recipe microvm-host installs it";

/// Where what the recipe brings is there and does not do its job.
pub(super) const REINSTALL: &str = "`toril check --strict HOST` names programs that are not as their packages have them; `toril apply HOST` with \
    the recipe microvm-host installs those that are missing";

/// Where the kernel's side of vsock is missing.
pub(super) const VSOCK: &str = "load the module by `modprobe vhost_vsock`; `toril apply HOST` with the recipe microvm-host has it loaded at every boot";

/// The same in a container.
pub(super) const CONTAINER_VSOCK: &str = "load the module vhost_vsock on the machine that the container runs on, and give the container the device";

/// Whether there is a QEMU to be tried. An error is why not.
pub(super) fn find_qemu(qemu: &str) -> Result<(), String> {
    let is_there = |path: &Path| match Probe::of_io(fs::metadata(path), "QEMU") {
        Probe::Known(metadata) => metadata.is_file(),
        // Starting it will tell why.
        Probe::Unreadable(_) => true,
        Probe::Absent => false,
    };
    let found = if qemu.contains('/') {
        is_there(Path::new(qemu))
    } else {
        STANDARD_PATH.split(':').any(|folder| is_there(&Path::new(folder).join(qemu)))
    };
    if found { Ok(()) } else { Err(format!("QEMU is missing (there is no {qemu})")) }
}

/// For a guest that does not boot.
pub(super) fn boot(why: &str) -> &'static str {
    if why.contains("machine type") {
        return "have Debian's QEMU first on the path, which knows microvm: `toril check --strict HOST` tells of another one";
    }
    REINSTALL
}

/// For a user who may not open KVM.
pub(super) fn permission(user: &str) -> String {
    format!(
        "`usermod -aG kvm {user}`, and see that /dev/kvm has group kvm and mode 0660; `toril apply HOST` with the recipe \
         microvm-host does it"
    )
}
