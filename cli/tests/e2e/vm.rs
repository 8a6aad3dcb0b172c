//! A real machine: what containers cannot show. Its modules, udev, sysctls, units and starts are its own, and KVM works
//! in it.

use std::thread::sleep;
use std::time::{Duration, Instant};

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
"#;

/// All of them, by hand: in the files and in the machine as it runs.
const BREAK: &str = r#"
rm /etc/modules-load.d/toril-vhost_vsock.conf
modprobe --remove vhost_vsock
sed -i s/0660/0666/ /etc/udev/rules.d/65-toril-vhost-vsock.rules
sysctl -q -w vm.swappiness=60
systemctl disable --now --quiet e2e.service
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
        .shows("4 of 4 resources have to change")
        .shows("  ~ the module\n")
        .shows("loaded: no → yes")
        .shows("  ~ the rule\n")
        .shows("  ~ the parameter\n")
        .shows("  ~ the unit\n");
    with_recipe("apply").exits(0).shows("observed once more: nothing left to change");
    assert_eq!(sandbox.sudo(LOOK), GOOD);

    start_again(&sandbox);
    with_recipe("check").exits(0).shows("nothing to change in 4 resources");
    assert_eq!(sandbox.sudo(LOOK), GOOD);

    // The processor that QEMU emulates has virtualisation of its own.
    let up = toril(&["up", &host]).exits(0);
    up.shows("guests run under KVM; using it").shows("3 passed  KVM").hides("TCG");
    sandbox.is_clean();
    assert_eq!(sandbox.sudo("pgrep --list-full 'qemu|virtiofsd|toril' || :"), "");
}

fn start_again(sandbox: &Sandbox) {
    let boot = |sandbox: &Sandbox| sandbox.try_ssh("cat /proc/sys/kernel/random/boot_id").stdout;
    let before = boot(sandbox);
    sandbox.try_ssh("sudo systemctl reboot");
    let until = Instant::now() + Duration::from_secs(180);
    while [String::new(), before.clone()].contains(&boot(sandbox)) {
        assert!(Instant::now() < until, "{} does not come back", sandbox.host());
        sleep(Duration::from_millis(500));
    }
}
