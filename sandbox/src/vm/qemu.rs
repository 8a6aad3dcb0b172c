//! QEMU's command line.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;
use std::process::Command;

use super::image::boot_files;
use super::seed::CREDENTIAL;
use super::{Accelerator, DISK, Machine};
use crate::plan::Plan;
use crate::{Error, shift};

const QEMU: &str = "qemu-system-x86_64";
/// Where QEMU listens for the monitor, in a sandbox's directory.
pub(super) const MONITOR: &str = "qmp";
/// Once started it needs no file and no right of root's: a guest that breaks out of it is nobody.
const NOBODY: u32 = shift::ROOT + 65_534;

/// Runs a sandbox's QEMU to its end. Not by becoming it: what has it killed with its parent is lost when it gives up its
/// rights, while a child of the first process of a PID namespace ends with that one, whoever it is. The log is the
/// machine's serial console.
pub(crate) fn run(host_dir: &Path, plan: &Plan, machine: &Machine) -> Result<Infallible, Error> {
    let base = plan.lowers.last().ok_or(Error::NotStaged("its plan has no disk"))?;
    let null = File::open("/dev/null").map_err(Error::io("open", Path::new("/dev/null")))?;
    let mut command = Command::new(QEMU);
    // Paths of its own are relative: a socket's path may not be long.
    command.args(arguments(plan, machine, base)).current_dir(host_dir).stdin(null);
    let status = command.status().map_err(|source| Error::Io { doing: format!("start {QEMU}"), source })?;
    // Of a machine that was powered off too: the sandbox is over.
    Err(Error::Ended { program: QEMU, status })
}

fn arguments(plan: &Plan, machine: &Machine, base: &Path) -> Vec<OsString> {
    let Plan { name, address, port, .. } = plan;
    let (kernel, initrd) = boot_files(base);
    let (accelerator, cpu) = match machine.accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        // One thread: with one for each of two processors (QEMU 7.2), about one in a hundred ends of a guest under KVM
        // hung the machine, one processor trapped again and again by a breakpoint of Linux's patching of its own code,
        // the other waiting for it. The room for translated code is by default a part of this machine's memory that
        // several virtual machines do not have.
        Accelerator::Tcg => ("tcg,thread=single,tb-size=256", "max"),
    };
    let mut all: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: &dyn AsRef<OsStr>| all.extend([option.into(), value.as_ref().into()]);
    add("-name", name);
    add("-machine", &"q35,vmport=off");
    add("-accel", &accelerator);
    add("-cpu", &cpu);
    add("-smp", &machine.cpus.to_string());
    add("-m", &machine.memory.to_string());
    add("-kernel", &kernel);
    add("-initrd", &initrd);
    add("-append", &format!("root=/dev/vda rw console=ttyS0 net.ifnames=0 systemd.hostname={name}"));
    // A sandbox does not outlive a crash of the machine, so nothing has to reach its disk.
    add("-drive", &format!("if=none,id=disk,file={DISK},format=qcow2,cache=unsafe,discard=unmap"));
    add("-device", &"virtio-blk-pci,drive=disk");
    add("-netdev", &format!("user,id=net,hostname={name},hostfwd=tcp:{address}:{port}-:22"));
    add("-device", &"virtio-net-pci,netdev=net,romfile=");
    add("-device", &"virtio-rng-pci");
    add("-fw_cfg", &format!("name=opt/io.systemd.credentials/tmpfiles.extra,file={CREDENTIAL}"));
    add("-chardev", &"file,id=log,path=log,append=on");
    add("-serial", &"chardev:log");
    add("-qmp", &format!("unix:{MONITOR},server=on,wait=off"));
    add("-display", &"none");
    add("-runas", &format!("{NOBODY}:{NOBODY}"));
    // Not `elevateprivileges=deny` too, or it could not give its own rights up; without exec they do not come back.
    add("-sandbox", &"on,obsolete=deny,spawn=deny,resourcecontrol=deny");
    all.extend(["-nodefaults", "-no-user-config"].map(Into::into));
    all
}
