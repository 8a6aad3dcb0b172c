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
    toril(&["check", &host]).exits(0).shows("nothing to change in 16 resources");

    sandbox.sudo(SPOIL);
    let spoilt = ["notice at login", "socat", "test user", "udev rule for /dev/kvm"];
    let spoilt: BTreeSet<String> = spoilt.map(str::to_owned).into();
    let check = toril(&["check", "--json", &host]).exits(3);
    assert_eq!(in_state(&check, "drift"), spoilt, "{check}");
    assert_eq!(
        in_state(&check, "undecidable"),
        ["socat offers VSOCK", "the test user may use KVM"].map(str::to_owned).into(),
        "{check}"
    );
    let seen = toril(&["check", &host]).exits(3).shows("4 of 16 resources have to change");
    seen.shows("  ~ socat\n      package socat: not installed → installed\n")
        .shows("  ~ test user\n      member of kvm: no → yes\n")
        .shows("  ~ notice at login\n      mode: 0600 → 0644\n")
        .shows("-KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0666\"")
        .shows("+KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0660\"")
        .shows("exit status 3");
    toril(&["apply", "--dry-run", &host])
        .exits(3)
        .shows("4 of 16 resources have to change")
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
