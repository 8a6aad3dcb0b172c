//! What apt keeps is damaged, others come in between, an apply fails or is stopped: the next one converges.

use std::fs;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::mirror::Mirror;
use super::{HOLDER, REPOSITORY, recipe};
use crate::harness::{Sandbox, Toril, toril};

/// A source that nothing is taken from by itself, with a newer version.
const LATER: &str = r#"
root=/tmp/build/t-least-2; mkdir -p $root/DEBIAN /later/dists/later/main/binary-amd64
printf 'Package: t-least\nVersion: 2\nArchitecture: all\nMaintainer: t <t@example.org>\nDescription: t\n' > $root/DEBIAN/control
dpkg-deb --build $root /later > /dev/null; cd /later; deb=t-least_2_all.deb; list=main/binary-amd64/Packages
(dpkg-deb --field $deb; printf 'Filename: %s\nSize: %s\nSHA256: %s\n' $deb $(stat -c %s $deb) $(sha256sum < $deb | cut -c -64)) > dists/later/$list
cd dists/later; printf 'Suite: later\nCodename: later\nComponents: main\nArchitectures: amd64\nNotAutomatic: yes\nButAutomaticUpgrades: yes\n' > Release
printf 'Date: %s\nSHA256:\n %s %s %s\n' "$(date -Ru | sed s/+0000/UTC/)" $(sha256sum < $list | cut -c -64) $(stat -c %s $list) $list >> Release
echo 'deb [trusted=yes] file:/later later main' > /etc/apt/sources.list.d/later.list
"#;

/// Somebody takes dpkg's lock as soon as the lists have been fetched, once.
const IN_BETWEEN: &str = r#"
echo 'APT::Update::Post-Invoke { "test -e /tmp/held || setsid perl /tmp/hold.pl > /dev/null 2>&1 < /dev/null & until test -e /tmp/held; do sleep 0.05; done"; };' \
    > /etc/apt/apt.conf.d/e2e
"#;

fn holds_stay(sandbox: &Sandbox, files: &TempDir) {
    let host = sandbox.host();
    sandbox.sudo("apt-get install -qq t-own=1 t-tied=1 > /dev/null; apt-mark hold t-own t-tied > /dev/null");
    let own = recipe(files, "install = [\"t-own\"], minimum = { t-own = \"2\" }, hold = true");
    let failed = toril(&["apply", &host, "--recipe", &own]).exits(1);
    failed.shows("a package's own script fails; mend what it says");
    assert_eq!(sandbox.sudo("apt-mark showhold"), "t-own\nt-tied\n", "though the apply failed");
    sandbox.sudo("touch /tmp/own");
    toril(&["apply", &host, "--recipe", &own]).exits(0);
    assert_eq!(sandbox.sudo("apt-mark showhold"), "t-own\nt-tied\n");

    // Its own hold gives way to the recipe, and not what somebody else holds.
    sandbox.sudo("apt-mark hold t-conf > /dev/null");
    let tied = recipe(files, "install = [\"t-tied\"], minimum = { t-tied = \"2\" }, hold = true");
    let refused = toril(&["apply", &host, "--recipe", &tied]).exits(1);
    refused.shows("held by somebody, and would have to change: t-conf;");
    sandbox.sudo("apt-mark unhold t-conf > /dev/null");
    toril(&["apply", &host, "--recipe", &tied]).exits(0);
    assert_eq!(sandbox.sudo("apt-mark showhold; dpkg-query -Wf \\${Version} t-conf"), "t-own\nt-tied\n2");
}

fn what_apt_keeps_is_damaged(sandbox: &Sandbox, files: &TempDir) {
    let host = sandbox.host();
    let names = ["Packages", "Release", "t-more_1_all.deb", "t-early_1_all.deb", "t-lib_1_all.deb"];
    let mirror = Mirror::of(sandbox, &names, "none");
    sandbox.sudo(&format!(
        "rm -f /etc/apt/apt.conf.d/*proxy*; echo \"deb [trusted=yes] {} ./\" > /etc/apt/sources.list; apt-get update -qq",
        mirror.url()
    ));
    let zeros = "zeros() { s=$(stat -c %s $1); rm $1; head -c $s /dev/zero > $1; }; ";
    let more = recipe(files, "install = [\"t-more\"]");
    sandbox.sudo(&format!("{zeros} rm -f /var/cache/apt/*.bin; zeros /var/lib/apt/lists/*_Packages"));
    let apply = toril(&["apply", &host, "--recipe", &more, "--verbose"]).exits(0);
    apply.shows("one more step, remove ").shows(", which apt cannot use");

    sandbox.sudo(&format!("{zeros} apt-get check -qq; zeros /var/cache/apt/pkgcache.bin"));
    let early = recipe(files, "install = [\"t-early\"]");
    toril(&["apply", &host, "--recipe", &early]).exits(0);

    sandbox.sudo(&format!(
        "{zeros} apt-get install -qq --download-only t-lib > /dev/null; zeros /var/cache/apt/archives/t-lib_1_all.deb"
    ));
    let lib = recipe(files, "install = [\"t-lib\"]");
    let apply = toril(&["apply", &host, "--recipe", &lib, "--verbose"]).exits(0);
    apply.shows("one more step, remove t-lib_1_all.deb, which dpkg cannot read");

    // A run that is stopped while it waits for a mirror that says nothing.
    let silent = Mirror::of(sandbox, &["Release"], "Packages");
    sandbox.sudo(&format!(
        "echo \"deb [trusted=yes] {} ./\" > /etc/apt/sources.list; rm -r /var/lib/apt/lists/*",
        silent.url()
    ));
    let needs = recipe(files, "install = [\"t-needs\"]");
    let apply = Toril::new(&["apply", &host, "--recipe", &needs]).spawn();
    silent.is_asked_for("Packages");
    let asked = Instant::now();
    apply.signal(2);
    apply.wait().shows("stopped");
    // Each of three tries would take apt's own half a minute.
    assert!(asked.elapsed() < Duration::from_secs(60), "it took {:?}", asked.elapsed());
    sandbox.is_quiet();
    sandbox.sudo("echo \"deb [trusted=yes] file:/repo ./\" > /etc/apt/sources.list");
}

#[test]
fn what_fails_or_is_damaged_is_mended_by_the_next_apply() {
    let Some(sandbox) = Sandbox::fresh("apt-damage") else { return };
    let host = sandbox.host();
    let files = tempfile::tempdir().unwrap();
    sandbox.sudo(REPOSITORY);
    holds_stay(&sandbox, &files);
    what_apt_keeps_is_damaged(&sandbox, &files);

    // A minimum that apt would not reach by itself.
    sandbox.sudo(LATER);
    let least = recipe(&files, "install = [\"t-least\"], minimum = { t-least = \"2\" }");
    let refused = toril(&["apply", &host, "--recipe", &least]).exits(1);
    refused
        .shows("t-least at least 2 is only offered where")
        .shows("say `release = \"later\"` in the recipe");
    sandbox.sudo("if dpkg -s t-least 2> /dev/null; then exit 1; fi");
    let least = recipe(&files, "install = [\"t-least\"], minimum = { t-least = \"2\" }, release = \"later\"");
    toril(&["apply", &host, "--recipe", &least]).exits(0);

    // Others come between two steps; and a step that says nothing for long is told of.
    sandbox.sudo(&format!("{HOLDER}\n touch /tmp/free; wait; rm /tmp/held /tmp/free\n{IN_BETWEEN}"));
    let long = recipe(&files, "install = [\"t-long\"]");
    let mut apply = Toril::new(&["apply", &host, "--recipe", &long]).spawn();
    apply.wait_for("packages: waiting: perl, pid ");
    sandbox.sudo("touch /tmp/free");
    apply.wait_for(" s: Setting up t-long (1) ...");
    sandbox.sudo("touch /tmp/told");
    apply.wait().exits(0).shows("packages: waiting: `apt-get install`, ");
    fs::remove_file(files.path().join("recipe.toml")).unwrap();
    sandbox.is_clean();
}
