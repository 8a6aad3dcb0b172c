//! A host that an earlier script has made: its QEMU is named, linked or replaced, as a variable says.

use crate::harness::{Sandbox, toril};

const OLD: &str = "/home/debian/qemuforvmm/build/qemu-system-x86_64";

/// A QEMU below a home that calls itself another version, and the link to it that QEMU's own build makes. It looks for
/// its modules and firmware relative to its own place.
const BUILD: &str = "
build=/home/debian/qemuforvmm/build
mkdir -p $build/x86_64-softmmu
sed 's/emulator version 7[.]2[.]../emulator version 5.2.50/' /usr/bin/qemu-system-x86_64 > $build/qemu-system-x86_64
chmod 0755 /home/debian $build/qemu-system-x86_64
ln -s ../qemu-system-x86_64 $build/x86_64-softmmu/qemu-system-x86_64
ln -s /usr/lib /usr/share /home/debian/qemuforvmm/
chown -R debian: $build
";

#[test]
fn the_qemu_of_an_earlier_script_is_kept_linked_or_replaced() {
    let Some(sandbox) = Sandbox::provisioned("earlier") else { return };
    let host = sandbox.host();
    let with = |command: &str, then: &str| toril(&[command, &host, "--var", &format!("old_qemu={then}")]);
    let asks = |program: &str| {
        sandbox.sudo(&format!("setpriv --reuid=toril --regid=toril --init-groups {program} --version"))
    };
    sandbox.sudo(BUILD);

    // Named, and nothing else.
    let named = format!("! QEMU of earlier scripts: {OLD} (5.2.50 (Debian ");
    toril(&["check", &host]).exits(0).shows(&named).shows("is kept as it is").shows("nothing to change");
    toril(&["apply", &host]).exits(0).hides("changed QEMU");

    // Linked: the path finds it, and so do the tests.
    with("check", "link")
        .exits(3)
        .shows("1 of 19 resources has to change")
        .shows(&format!("/usr/local/bin/qemu-system-x86_64: not there → a link to {OLD}"));
    with("apply", "link").exits(0).shows("changed QEMU of earlier scripts");
    with("check", "link").exits(0);
    assert!(asks("qemu-system-x86_64").contains("5.2.50"));
    toril(&["test", "--filter", "boot", &host]).exits(0).shows("1 passed");
    let moved = format!("mv {OLD} {OLD}.away");
    sandbox.sudo(&format!("{moved}; printf '#!/bin/sh\\necho old; exit 7\\n' > {OLD}; chmod 0755 {OLD}"));
    toril(&["test", "--filter", "boot", &host]).exits(5).shows("status 7 before the guest ran");
    sandbox.sudo(&format!("mv -f {OLD}.away {OLD}"));
    // Who cannot get at it would get the host's own without a word.
    sandbox.sudo("chmod 0700 /home/debian");
    with("check", "link").exits(1).shows("not possible here").shows("/home/debian is closed to others");
    sandbox.sudo("chmod 0755 /home/debian; rm /usr/local/bin/qemu-system-x86_64");
    with("check", "link").exits(3).shows("  ~ QEMU of earlier scripts");

    // Replaced: what calls the old path gets the host's own, and nothing is lost.
    with("check", "replace")
        .exits(3)
        .shows("  ~ QEMU of earlier scripts\n")
        .shows(&format!("      {OLD}: 5.2.50 (Debian "));
    with("apply", "replace").exits(0).shows("changed QEMU of earlier scripts");
    with("check", "replace").exits(0).shows(&format!("what was there is kept as {OLD}.toril-kept"));
    assert!(!asks(OLD).contains("5.2.50"));
    assert!(!asks("/home/debian/qemuforvmm/build/x86_64-softmmu/qemu-system-x86_64").contains("5.2.50"));
    assert!(asks(&format!("{OLD}.toril-kept")).contains("5.2.50"));
    sandbox.sudo(&format!("mv -f {OLD}.toril-kept {OLD}"));
    with("check", "replace").exits(3).shows("  ~ QEMU of earlier scripts\n");
    with("apply", "replace").exits(0);
    assert!(!asks(OLD).contains("5.2.50"));
    toril(&["check", &host, "--var", "old_qemu=burn"]).exits(2).shows("R042").shows("keep");
}
