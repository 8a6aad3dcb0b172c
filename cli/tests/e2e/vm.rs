//! A real machine: what containers cannot show. Its modules, udev, sysctls, units and starts are its own, and KVM works
//! in it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::examples::{examples, write};
use crate::harness::{Sandbox, document, toril};

/// One of each kind that only a real machine has.
const RECIPE: &str = r#"
description = "What only a real machine has"
supports = ["debian 12"]

[[resource]]
name = "the module"
kernel-module = { name = "vhost_vsock" }

[[resource]]
name = "the rule"
udev-rule = { device = "vhost-vsock", group = "kvm", mode = "0660" }
needs = ["the module"]

[[resource]]
name = "the parameter"
sysctl = { name = "vm.swappiness", value = 7 }

[[resource]]
name = "the unit"
[resource.systemd-unit]
name = "e2e.service"
enabled = true
active = true
content = """
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""

[[resource]]
name = "what another boot wants"
file = { path = "/srv/wanted", content = "x" }
on-change = ["after the reboot"]

[[handler]]
name = "after the reboot"
command = ["sh", "-c", "test ! -e /run/reboot-required && cp /proc/sys/kernel/random/boot_id /srv/done"]
"#;

/// All of them, by hand: in the files and in the machine as it runs.
const BREAK: &str = r#"
rm /etc/modules-load.d/toril-vhost_vsock.conf
modprobe --remove vhost_vsock
sed -i s/0660/0666/ /etc/udev/rules.d/65-toril-vhost-vsock.rules
sysctl -q -w vm.swappiness=60
systemctl disable --now --quiet e2e.service
rm -f /srv/wanted /srv/done
"#;

/// What the machine itself says: module, device, parameter, unit.
const LOOK: &str = "
test -d /sys/module/vhost_vsock && echo loaded
stat -c '%U:%G %a' /dev/vhost-vsock
cat /proc/sys/vm/swappiness
systemctl is-enabled e2e.service
systemctl is-active e2e.service
";
const GOOD: &str = "loaded\nroot:kvm 660\n7\nenabled\nactive\n";

/// A socket of the host keeps its module for some seconds after its end, and a device that was there before its module
/// has the module loaded when it is opened.
const REMOVE: &str = "
modprobe --remove kvm_amd
for again in $(seq 60); do
    modprobe --remove vhost_vsock 2>/dev/null && break
    sleep 0.5
done
rm -f /dev/vhost-vsock
! test -e /sys/module/vhost_vsock
";

#[test]
fn what_only_a_real_machine_has_is_brought_about_and_kept() {
    let Some(sandbox) = Sandbox::machine("vm") else { return };
    let host = sandbox.host();
    let recipe = document(RECIPE);
    let with_recipe = |command: &str| toril(&[command, "--recipe", &recipe.path(), &host]);
    toril(&["sandbox", "list"]).exits(0).shows("virtual machine, TCG");

    with_recipe("apply").exits(0).shows("changed the unit").shows("changed the parameter");
    assert_eq!(sandbox.sudo(LOOK), GOOD);
    sandbox.sudo(BREAK);
    with_recipe("check")
        .exits(3)
        .shows("5 of 5 resources have to change; no reboot")
        .shows("  ~ the module\n")
        .shows("loaded: no → yes")
        .shows("  ~ the rule\n")
        .shows("  ~ the parameter\n")
        .shows("  ~ the unit\n");
    with_recipe("apply").exits(0).shows("observed once more: nothing left to change");
    assert_eq!(sandbox.sudo(LOOK), GOOD);

    // Not due: not made.
    let rebooting = |command: &str| toril(&[command, "--recipe", &recipe.path(), &host, "--reboot"]);
    rebooting("apply").exits(0).hides("reboot");

    // Refused by the host itself.
    sandbox.sudo("touch /run/reboot-required; systemctl mask --quiet --runtime reboot.target");
    with_recipe("check").exits(0).shows(&format!("`toril apply {host} --reboot` makes it"));
    rebooting("apply").exits(1).shows("the host is not rebooted: `systemctl --no-block reboot`");
    sandbox.sudo("systemctl unmask --quiet --runtime reboot.target");

    sandbox.sudo(BREAK);
    let boot = sandbox.ssh("cat /proc/sys/kernel/random/boot_id");
    // The processor that QEMU emulates has virtualisation of its own.
    let up = rebooting("up").exits(0);
    up.shows("5 of 5 resources have to change; a reboot is due (/run/reboot-required is there)")
        .shows("changed the unit")
        .shows("failed after the reboot: ")
        .shows("rebooting: /run/reboot-required is there\n")
        .shows("rebooted, and back after ")
        .shows("changed after the reboot ")
        .shows("6 changed")
        .shows("guests run under KVM; using it")
        .shows("3 passed  KVM")
        .hides("TCG");
    let now = sandbox.ssh("cat /proc/sys/kernel/random/boot_id");
    assert_ne!(now, boot);
    assert_eq!(sandbox.sudo("cat /srv/done"), now, "the handler that failed is done in the new boot");
    with_recipe("check").exits(0).shows("nothing to change in 5 resources").hides("a reboot is due");
    assert_eq!(sandbox.sudo(LOOK), GOOD);
    toril(&["check", &host]).exits(0);
    sandbox.is_clean();
    assert_eq!(sandbox.sudo("pgrep --list-full 'qemu|virtiofsd|toril' || :"), "");

    // KVM works here, and the kernel has a vsock: all is shown by guests, and what is taken away is named.
    toril(&["verify", &host])
        .exits(0)
        .shows("✓ acceleration: guests run under KVM with -cpu host")
        .shows("✓ boot: a microvm guest boots under KVM")
        .shows("✓ host-kernel: /boot/vmlinuz-")
        .shows("✓ virtio-fs: ")
        .shows("✓ vsock: the guest and the host exchanged random messages")
        .shows(", a line and its answer in ")
        .shows("✓ forwarding: a TCP client reached the guest through socat");
    sandbox.sudo(REMOVE);
    toril(&["verify", &host])
        .exits(5)
        .shows("! acceleration: does not work: no /dev/kvm, though the processor shows svm: the module kvm_amd is not loaded")
        .shows("try: `modprobe kvm_amd`");
    sandbox.sudo("modprobe kvm_amd; modprobe vhost_vsock; udevadm settle");

    // The examples of the book that a container cannot do.
    let dir = tempfile::tempdir().unwrap();
    for kind in ["line", "systemd-unit"] {
        let recipe = write(dir.path(), examples()[kind]);
        toril(&["apply", "--recipe", &recipe, &host]).exits(0).shows("changed ").hides("failed");
        answers_again(&sandbox);
        toril(&["check", "--recipe", &recipe, &host]).exits(0);
    }

    // It takes longer than this, as far as anybody here can tell.
    sandbox.sudo("touch /run/reboot-required");
    toril(&["apply", "--recipe", &recipe.path(), &host, "--reboot", "--reboot-timeout", "2s"])
        .exits(1)
        .shows("within 2 s after its reboot")
        .shows("--reboot-timeout");
}

/// One of them has sshd read its configuration anew, which takes a slow machine a moment.
fn answers_again(sandbox: &Sandbox) {
    let until = Instant::now() + Duration::from_secs(60);
    // Twice, so that the one before it is not what answers.
    for _ in 0..2 {
        sleep(Duration::from_secs(1));
        while !sandbox.try_ssh("true").status.success() {
            assert!(Instant::now() < until, "{} does not answer again", sandbox.host());
            sleep(Duration::from_millis(500));
        }
    }
}
