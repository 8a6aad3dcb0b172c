//! Real virtual machines: their own kernel, systemd and udev. Prints why where they cannot be made.
//!
//! One test after the other in one, because each start costs a quarter of a minute and all the processors.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests too")]

#[expect(dead_code, reason = "the tests of containers use more of it")]
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{Scene, assert_gone, children, namespaces_of_all, parent, ssh, sudo};
use toril_sandbox::{Accelerator, Error, Kind, Machine, Options, Sandbox, State};

/// Emulated everywhere, so that it is the same everywhere.
fn machine() -> Options {
    Options { machine: Some(Machine::new(Accelerator::Tcg)), ..Options::default() }
}

#[test]
fn a_machine_of_its_own() {
    let Some(scene) = Scene::of(Kind::VirtualMachine) else { return };
    let begin = Instant::now();
    let told = |what: &str| eprintln!("{what} after {:.0} s", begin.elapsed().as_secs_f32());
    let vm = scene.up_with("vm-first", &machine());
    told("up");
    assert_eq!((vm.kind(), vm.state()), (Kind::VirtualMachine, State::Running));
    assert_eq!(scene.up_with("vm-first", &Options::default()), vm);
    is_a_real_debian(&vm);
    assert_eq!(sudo(&vm, REAL), "7\n12 1\nrunning\n642\n");
    told("looked at");
    reaches_the_mirror(&vm);
    told("apt-get update");
    starts_again(&vm);
    told("started again");

    let from = scene.sandboxes.snapshot("vm-first", "vm-kept").unwrap();
    assert_eq!(from.kind(), Kind::VirtualMachine);
    told("kept");
    let container = Options { from: Some("vm-kept".into()), ..Options::default() };
    let refused = scene.sandboxes.up("vm-other", &container, &mut |_| {});
    assert!(matches!(refused, Err(Error::OtherKind { .. })), "{refused:?}");
    let next = scene.up_with("vm-next", &Options { from: Some("vm-kept".into()), ..machine() });
    assert_eq!(sudo(&next, "hostname; cat /etc/hostname /etc/kept"), "vm-next\nvm-next\nkept\n");
    told("up again");

    let qemu = next.init_pid().unwrap();
    let supervisor = parent(qemu).unwrap();
    let spaces = namespaces_of_all([qemu].into_iter());
    assert_eq!(spaces.len(), 2, "{spaces:?}");
    assert!(Command::new("kill").args(["-9", &supervisor.to_string()]).status().unwrap().success());
    assert_gone(&spaces);
    assert_eq!(scene.sandboxes.get("vm-next").unwrap().unwrap().state(), State::Dead);
    assert!(scene.sandboxes.down("vm-next").unwrap());
    assert!(scene.sandboxes.remove_snapshot("vm-kept").unwrap());
    assert_eq!(fs::read_dir(scene.state.path().join("hosts")).unwrap().count(), 0);
}

fn is_a_real_debian(vm: &Sandbox) {
    let login = ssh(vm, "id -un; hostname; cat /proc/1/comm; grep VERSION_ID /etc/os-release; uname -r");
    let login = String::from_utf8(login.stdout).unwrap();
    assert!(login.starts_with("debian\nvm-first\nsystemd\nVERSION_ID=\"12\"\n"), "{login}");
    assert!(login.ends_with("-cloud-amd64\n"), "{login}");
    let host = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(!login.ends_with(&format!("\n{host}")), "this machine's own kernel: {login}");
    let qemu = children(vm.init_pid().unwrap());
    let status = fs::read_to_string(format!("/proc/{}/status", qemu[0])).unwrap();
    assert!(status.contains("Name:\tqemu-system") && !status.contains("\nUid:\t0\t"), "{status}");
}

/// Everything that a container cannot have. The second part must still hold after a start.
const REAL: &str = r#"set -e
modprobe vhost_vsock
test -d /sys/module/vhost_vsock
sysctl -q -w vm.swappiness=7
cat /proc/sys/vm/swappiness
# KVM_GET_API_VERSION, and KVM_CREATE_VM.
perl -e "open(F, q(+<), q(/dev/kvm)) or die; print ioctl(F, 0xae00, 0), q( ), ioctl(F, 0xae01, 0) ? 1 : 0, qq(\n)"
systemctl is-system-running --wait || systemctl --failed

echo vhost_vsock > /etc/modules-load.d/test.conf
echo vm.swappiness=9 > /etc/sysctl.d/test.conf
echo "KERNEL==\"vhost-vsock\", MODE=\"0642\"" > /etc/udev/rules.d/99-test.rules
udevadm control --reload
udevadm trigger --settle --sysname-match=vhost-vsock
stat -c %a /dev/vhost-vsock
echo kept > /etc/kept
"#;

/// The smallest part of the mirror: names, way and keys are the same.
const UPDATE: &str = "sed \"s/^Suites:.*/Suites: bookworm-updates/\" /etc/apt/sources.list.d/debian.sources > /tmp/s.sources \
    && apt-get -q update -o Dir::Etc::SourceList=/tmp/s.sources -o Dir::Etc::SourceParts=- 2>&1; \
    ls /var/lib/apt/lists | grep -c Packages";

fn reaches_the_mirror(vm: &Sandbox) {
    let said = sudo(vm, UPDATE);
    assert_ne!(said.lines().last(), Some("0"), "{said}");
}

fn starts_again(vm: &Sandbox) {
    let boot = || String::from_utf8(ssh(vm, "cat /proc/sys/kernel/random/boot_id").stdout).unwrap();
    let before = boot();
    assert_eq!(before.len(), 37, "{before:?}");
    ssh(vm, "sudo systemctl reboot");
    let until = Instant::now() + Duration::from_secs(120);
    let again = loop {
        assert!(Instant::now() < until, "it does not come back: {}", fs::read_to_string(vm.log()).unwrap());
        sleep(Duration::from_millis(500));
        let now = boot();
        if !now.is_empty() && now != before {
            break now;
        }
    };
    assert_eq!(again.len(), 37, "{again:?}");
    let left = "test -d /sys/module/vhost_vsock; cat /proc/sys/vm/swappiness; stat -c %a /dev/vhost-vsock";
    assert_eq!(sudo(vm, left), "9\n642\n");
}

#[test]
fn what_cannot_be_a_machine_is_refused_at_once() {
    let refused = |options: Options| options.check().unwrap_err().to_string();
    assert!(
        refused(Options { disk_limit: Some(1 << 30), ..machine() }).contains("leave --disk out"),
        "a disk limit"
    );
    let release = Some(toril_sandbox::Release::parse("11").unwrap());
    assert!(refused(Options { release, ..machine() }).contains("debian 12 and newer"), "an old release");
}
