//! What drifted is named, each with its difference, and mended: that and nothing else.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Finished, Sandbox, document, toril};

/// The names of the resources in the plan that are in this state.
fn in_state(run: &Finished, state: &str) -> BTreeSet<String> {
    let events = run.events();
    let plan = events.iter().find(|event| event["event"] == "plan").unwrap_or_else(|| panic!("no plan{run}"));
    let items = plan["plan"]["items"].as_array().unwrap().iter();
    let items = items.filter(|item| item["state"]["state"] == state);
    items.map(|item| item["resource"].as_str().unwrap().to_owned()).collect()
}

/// The names of the resources that were changed.
fn changed(run: &Finished) -> Vec<String> {
    let event = |event: Value| {
        let event = event.pointer("/run/event").cloned()?;
        (event["event"] == "changed").then(|| event["resource"].as_str().unwrap().to_owned())
    };
    run.events().into_iter().filter_map(event).collect()
}

const SPOIL: &str = "
dpkg --purge socat >/dev/null
sed -i s/0660/0666/ /etc/udev/rules.d/65-toril-kvm.rules
gpasswd --delete toril kvm >/dev/null
chmod 0600 /etc/motd.d/toril
";

#[test]
fn exactly_what_drifted_is_named_and_mended() {
    let Some(sandbox) = Sandbox::provisioned("drift") else { return };
    let host = sandbox.host();
    toril(&["check", &host]).exits(0).shows("nothing to change in 19 resources");

    sandbox.sudo(SPOIL);
    let spoilt = ["notice at login", "socat", "test user", "udev rule for /dev/kvm"];
    let spoilt: BTreeSet<String> = spoilt.map(str::to_owned).into();
    let check = toril(&["check", "--json", &host]).exits(3);
    assert_eq!(in_state(&check, "drift"), spoilt, "{check}");
    assert_eq!(
        in_state(&check, "undecidable"),
        ["QEMU offers microvm", "socat offers VSOCK", "the test user may use KVM"].map(str::to_owned).into(),
        "{check}"
    );
    let seen = toril(&["check", &host]).exits(3).shows("4 of 19 resources have to change");
    seen.shows("  ~ socat\n      package socat: not installed → installed\n")
        .shows("  ~ test user\n      member of kvm: no → yes\n")
        .shows("  ~ notice at login\n      mode: 0600 → 0644\n")
        .shows("-KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0666\"")
        .shows("+KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0660\"")
        .shows("exit status 3");
    toril(&["apply", "--dry-run", &host])
        .exits(3)
        .shows("4 of 19 resources have to change")
        .hides("changed socat");

    let apply = toril(&["apply", "--yes", "--json", &host]).exits(0);
    assert_eq!(changed(&apply).into_iter().collect::<BTreeSet<_>>(), spoilt, "{apply}");
    assert_eq!(changed(&apply).len(), spoilt.len(), "each once{apply}");
    toril(&["check", &host]).exits(0);
    toril(&["test", &host]).exits(0).shows("3 passed");
    sandbox.is_clean();
}

/// The tests of one run need what an earlier part of the same run gave: the user's groups as they are now.
#[test]
fn a_login_that_is_older_than_the_group_sees_the_group() {
    let Some(sandbox) = Sandbox::provisioned("groups") else { return };
    let host = sandbox.host();
    sandbox.sudo("gpasswd --delete toril kvm >/dev/null");
    let suite = document("[[test]]\nname = \"t\"\ncommand = [\"sh\", \"-c\", \"id -nG | grep -w kvm\"]\n");
    let up = toril(&["up", "--suite", &suite.path(), &host]).exits(0);
    up.shows("changed test user").shows("1 passed").hides("changed socat");
}

/// What a recipe cannot say, and its undoing. One bit of QEMU is another, its size and times are as before.
const DAMAGE: &str = "
cp --archive /usr/bin/qemu-system-x86_64 /root/qemu
byte=$(od --address-radix n --format u1 --skip-bytes 9000000 --read-bytes 1 /root/qemu)
printf \"\\\\$(printf %o $((byte ^ 1)))\" |
    dd of=/usr/bin/qemu-system-x86_64 bs=1 seek=9000000 conv=notrunc status=none
touch --reference /root/qemu /usr/bin/qemu-system-x86_64
test $(cmp --verbose /root/qemu /usr/bin/qemu-system-x86_64 | wc --lines) = 1
chmod u+s /usr/bin/git
apt-mark hold socat >/dev/null
printf '#!/bin/sh\n' > /usr/local/bin/qemu-system-i386
chmod 0755 /usr/local/bin/qemu-system-i386
";
const DELETE: &str = "
rm /usr/bin/qemu-system-x86_64
mv /usr/bin/socat /root/socat
";
const UNDO: &str = "
mv /root/qemu /usr/bin/qemu-system-x86_64
mv /root/socat /usr/bin/socat
chmod u-s /usr/bin/git
apt-mark unhold socat >/dev/null
rm /usr/local/bin/qemu-system-i386
";

/// All that a host is made of, with the times of its last changes. toril's own folder has its agent and the runs.
const LISTING: &str = "
find /boot /etc /home /opt /root /srv /usr /var -xdev -path /var/lib/toril -prune -o \
    -printf '%p %m %u %g %s %T@ %C@\n' | sort
";

#[test]
fn what_no_recipe_says_is_found_and_is_drift_where_that_is_wanted() {
    let Some(sandbox) = Sandbox::provisioned("findings") else { return };
    let host = sandbox.host();
    toril(&["check", "--strict", &host]).exits(0).hides("beyond the recipe");

    sandbox.sudo(DAMAGE);
    let before = sandbox.sudo(LISTING);
    let check = toril(&["check", &host]).exits(0).shows("4 findings beyond the recipe (no drift without");
    check
        .shows("nothing to change in 19 resources")
        .shows("qemu-system-x86: /usr/bin/qemu-system-x86_64 is not the package's: its MD5 sum is another")
        .shows("git: /usr/bin/git has become setuid (mode 4755)")
        .shows("socat: it is held at 1.7.4")
        .shows("/usr/local/bin/qemu-system-i386 stands on the path before its /usr/bin/qemu-system-i386");
    toril(&["check", "--strict", &host])
        .exits(3)
        .shows("drift by --strict")
        .shows("unchanged, 1 not possible");
    let strict = toril(&["check", "--strict", "--json", &host]).exits(3);
    let finished = strict.events().pop().unwrap();
    assert_eq!(finished["hosts"][0]["findings"], 4, "{strict}");
    assert_eq!(sandbox.sudo(LISTING), before, "a check changes nothing");

    sandbox.sudo(DELETE);
    toril(&["check", "--strict", &host])
        .exits(3)
        .shows("qemu-system-x86: /usr/bin/qemu-system-x86_64 is missing, though the package is installed")
        .shows("try: apt-get install --reinstall qemu-system-x86")
        .shows("socat: /usr/bin/socat is missing, though the package is installed")
        .shows("git: /usr/bin/git has become setuid (mode 4755)");

    sandbox.sudo(UNDO);
    toril(&["check", "--strict", &host]).exits(0).hides("beyond the recipe");
}
