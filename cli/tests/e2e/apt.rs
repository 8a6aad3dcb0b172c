//! apt and dpkg as real hosts leave them, on packages of the test's own: each state is seen by `check`, and an `apply`
//! ends converged, or in an error after whose cause the next one does.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use tempfile::TempDir;

use crate::apt::mirror::Mirror;
use crate::harness::{Sandbox, Toril, toril};

mod damage;
mod mirror;

/// Builds packages and a repository of them; then takes every other source out of use.
const REPOSITORY: &str = r#"
mkdir -p /repo /tmp/build
package() {
    root=/tmp/build/$1-$2; mkdir -p $root/DEBIAN
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: t <t@example.org>\nDescription: t\n' $1 $2 > $root/DEBIAN/control
}
script() { printf '#!/bin/sh\nset -e\n%s\n' "$2" > $root/DEBIAN/$1; chmod 755 $root/DEBIAN/$1; }
pack() { dpkg-deb --build $root /repo > /dev/null; }
package t-slow 1; script postinst "touch /tmp/in-postinst; until [ -e /tmp/go ]; do sleep 0.05; done"; pack
package t-damaged 1; script preinst "touch /tmp/in-preinst; until [ -e /tmp/go-on ]; do sleep 0.05; done"; pack
package t-fail 1; script postinst "[ -e /tmp/mended ] || { echo something is missing; exit 3; }"; pack
package t-more 1; pack
package t-early 1; pack
package t-held 1; pack
package t-lib 1; pack
package t-needs 1; echo 'Depends: t-lib (>= 1)' >> $root/DEBIAN/control; pack
package t-small 1; pack
package t-big 1; head -c 4000000 /dev/urandom > $root/big; pack
package t-long 1; script postinst "until [ -e /tmp/told ]; do sleep 0.05; done"; pack
package t-least 1; pack
package t-ask 1
printf 'Template: t-ask/q\nType: string\nDescription: what?\n' > $root/DEBIAN/templates
script config ". /usr/share/debconf/confmodule; db_input critical t-ask/q || true; db_go || true"
script postinst ". /usr/share/debconf/confmodule; db_get t-ask/q"; pack
for version in 1 2; do
    package t-conf $version; mkdir -p $root/etc; echo $version > $root/etc/t-conf; echo /etc/t-conf > $root/DEBIAN/conffiles; pack
done
for version in 1 2; do
    package t-own $version; [ $version = 1 ] || script postinst "echo Could not connect to the database; test -e /tmp/own"; pack
    package t-tied $version; [ $version = 1 ] || echo 'Depends: t-conf (>= 2)' >> $root/DEBIAN/control; pack
done
cd /repo
for deb in *.deb; do
    dpkg-deb --field $deb | sed /^Description/d
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\nDescription: t\n\n' $deb $(stat -c %s $deb) $(sha256sum < $deb | cut -c -64)
done > Packages
printf 'Date: %s\nSHA256:\n %s %s Packages\n' "$(date -Ru | sed s/+0000/UTC/)" $(sha256sum < Packages | cut -c -64) $(stat -c %s Packages) > Release
rm -rf /etc/apt/sources.list.d/* /var/lib/apt/lists/*
echo 'deb [trusted=yes] file:/repo ./' > /etc/apt/sources.list
apt-get update -qq; apt-get install -qq t-conf=1 > /dev/null; echo mine > /etc/t-conf
"#;

/// Has the real needrestart restart services by itself after every transaction, and leave a sign where it runs: its
/// configuration is a program.
const NEEDRESTART: &str = r#"
apt-get update -qq; apt-get install -qq --no-install-recommends needrestart > /dev/null
echo '$nrconf{restart} = "a"; open my $sign, ">>", "/tmp/needrestart-ran"; print $sign "ran
"; 1;' > /etc/needrestart/conf.d/e2e.conf
"#;

/// Kills dpkg while a package's script runs.
fn kill_dpkg(sandbox: &Sandbox, package: &str, sign: &str, go: &str) {
    sandbox.sudo(&format!(
        "(apt-get install -y {package} > /tmp/{package}.log 2>&1 || :) & \
         until [ -e {sign} ]; do sleep 0.05; done; kill -9 $(pidof dpkg); touch {go}; wait"
    ));
}

/// Holds dpkg's lock, as dpkg does, until it is let go.
const HOLDER: &str = r#"
echo 'open F, "+<", "/var/lib/dpkg/lock-frontend" or die; $l = pack("s s x4 q q i x4", 1, 0, 0, 0, 0); fcntl(F, 6, $l) or die;
open D, ">", "/tmp/held"; sleep 1 until -e "/tmp/free";' > /tmp/hold.pl
setsid perl /tmp/hold.pl > /dev/null 2>&1 < /dev/null &
until [ -e /tmp/held ]; do sleep 0.05; done
"#;

/// What a recipe leaves open is settled by its lock, and what moves then is drift.
fn a_lock_holds_a_host(sandbox: &Sandbox, files: &TempDir) {
    let host = sandbox.host();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let (source, locked) = (path("source"), path("locked.toml"));
    let write = |head: &str, keys: &str| {
        let packages =
            format!("[[resource]]\nname = \"packages\"\napt-packages = {{ install = [\"t-conf\"]{keys} }}\n");
        let file = format!(
            "[[resource]]\nname = \"file\"\ndownload = {{ url = \"file://{source}\", path = \"/srv/file\" }}\n"
        );
        fs::write(
            &locked,
            format!("description = \"d\"\nsupports = [\"debian 12\"]\n{head}{packages}{file}"),
        )
        .unwrap();
    };
    fs::write(&source, "text\n").unwrap();
    let qemu = "/usr/local/bin/qemu-system-x86_64";
    sandbox.sudo(&format!(
        "echo \"Dpkg::Options {{ \\\"--force-confold\\\"; }};\" > /etc/apt/apt.conf.d/keep; \
         mkdir -p {}; echo text > {source}; chmod -R a+rX {}; printf \"#!/bin/sh\\n\" > {qemu}; chmod 755 {qemu}",
        files.path().display(),
        files.path().display()
    ));
    write("", "");
    toril(&["apply", &host, "--recipe", &locked])
        .exits(2)
        .shows("`sha256` of `file` is missing, and no lock has it");
    // As it is mostly done: beside the recipe.
    let lock = Toril::new(&["recipe", "lock", "--recipe", "locked.toml"]).dir(files.path()).run();
    lock.exits(0).shows("locked.lock is written");
    toril(&["apply", &host, "--recipe", &locked]).exits(0);
    toril(&["recipe", "lock", &host, "--recipe", &locked]).exits(0).shows(": debian 12, 1 package, kernel ");
    toril(&["check", &host, "--recipe", &locked]).exits(0).shows(", locked by ");

    // Upgraded by somebody, another program in QEMU's place, another file at the source.
    sandbox.sudo(&format!(
        "apt-get install -qq t-conf > /dev/null; echo >> {qemu}; echo >> {source}; rm /srv/file"
    ));
    let check = toril(&["check", &host, "--recipe", &locked]).exits(3);
    check.shows("package t-conf: 2 → 1, as locked, which is older");
    toril(&["apply", &host, "--recipe", &locked])
        .exits(1)
        .shows("packages are only downgraded where the recipe");
    write("locked-packages = \"hold\"\n", ", downgrade = true");
    let failed = toril(&["apply", &host, "--recipe", &locked]).exits(1);
    failed
        .shows("changed packages")
        .shows("source has the sha256 ")
        .shows(&format!("program qemu is {qemu}, sha256 "));
    sandbox.sudo("apt-get upgrade -qq > /dev/null; test $(dpkg-query -Wf \\${Version} t-conf) = 1");

    // Put right, and another one's lock.
    sandbox.sudo(&format!("printf \"#!/bin/sh\\n\" > {qemu}; echo text > {source}"));
    toril(&["apply", &host, "--recipe", &locked]).exits(0);
    sandbox.sudo(&format!("rm {qemu}; apt-mark unhold t-conf; apt-get install -qq t-conf > /dev/null"));
    fs::copy(path("locked.lock"), path("recipe.lock")).unwrap();
    let recipe = recipe(files, "install = [\"t-conf\"]");
    toril(&["check", &host, "--recipe", &recipe])
        .exits(2)
        .shows("this is the lock of `locked.toml`, and the recipe is");
    fs::remove_file(path("recipe.lock")).unwrap();
}

/// Holds, kept files, a list that is cut off, dependencies that are broken, a disk that is too small.
fn what_apt_is_told_by_others(sandbox: &Sandbox, files: &TempDir) {
    let host = sandbox.host();
    let newer = recipe(files, "install = [\"t-conf\"], minimum = { t-conf = \"2\" }");
    sandbox.sudo("apt-get install -qq --allow-downgrades t-conf=1 > /dev/null; apt-mark hold t-conf");
    toril(&["check", &host, "--recipe", &newer]).exits(3).shows("! packages: t-conf is held by somebody");
    toril(&["apply", &host, "--recipe", &newer])
        .exits(1)
        .shows("held by somebody, and would have to change: t-conf;");
    sandbox.sudo(
        "apt-mark unhold t-conf; cd /var/lib/apt/lists; l=$(ls *_Packages); head -c 100 $l > cut; mv cut $l",
    );
    toril(&["check", &host, "--recipe", &newer]).exits(3).shows("fetch the package lists: 1 list cut off");
    toril(&["apply", &host, "--recipe", &newer]).exits(0).shows("changed packages");
    let kept = "/etc/t-conf of t-conf was changed here, and is kept; what the package brings is /etc/t-conf.dpkg-dist";
    toril(&["check", &host, "--recipe", &newer]).exits(0).shows(kept);

    sandbox.sudo(
        "apt-get install -qq t-needs > /dev/null; dpkg --remove --force-depends t-lib > /dev/null 2>&1",
    );
    let check = toril(&["check", &host, "--recipe", &newer]).exits(3);
    check
        .shows("dependencies: t-needs needs t-lib (>= 1) → met")
        .shows("mend broken dependencies of 1 package");
    toril(&["apply", &host, "--recipe", &newer]).exits(0);
    sandbox.sudo("apt-get check -qq; dpkg -s t-lib > /dev/null");

    // More than is kept in reserve, and not enough for a large package besides.
    let small = recipe(files, "install = [\"t-small\"]");
    sandbox.outside(&["mount", "-t", "tmpfs", "-o", "size=18m", "tmpfs", "/var/cache/apt/archives"]);
    toril(&["apply", &host, "--recipe", &small]).exits(0);
    let big = recipe(files, "install = [\"t-big\"]");
    let refused = toril(&["apply", &host, "--recipe", &big]).exits(1);
    refused
        .shows("no room for this: 4 MiB to download, ")
        .shows("free at /var/cache/apt/archives; nothing was begun");
    sandbox.outside(&["umount", "/var/cache/apt/archives"]);
    toril(&["apply", &host, "--recipe", &big]).exits(0);
}

/// What comes later is fetched while what comes before is applied; and where that is killed, nothing of it is left.
fn packages_are_fetched_beforehand(sandbox: &Sandbox, files: &TempDir) {
    let host = sandbox.host();
    let path = files.path().join("early.toml").display().to_string();
    let write = |package: &str, until: &str| {
        let made = format!("/tmp/before-{package}");
        let slow = format!("for i in $(seq 3000); do {until} && exec touch {made}; sleep 0.1; done; exit 1");
        let text = format!(
            "description = \"d\"\nsupports = [\"debian 12\"]\n\
             [[resource]]\nname = \"slow\"\ncommand = {{ shell = \"{slow}\", creates = \"{made}\" }}\n\
             [[resource]]\nname = \"packages\"\napt-packages = {{ install = [\"{package}\"] }}\nneeds = [\"slow\"]\n"
        );
        fs::write(&path, text).unwrap();
    };
    // It cannot end before the package is here, which only its own turn would fetch otherwise.
    write("t-early", "test -e /var/cache/apt/archives/t-early_1_all.deb");
    let mirror =
        Mirror::of(sandbox, &["Packages", "Release", "t-early_1_all.deb", "t-held_1_all.deb"], "none");
    let sources = |mirror: &Mirror| {
        sandbox.sudo(&format!(
            "rm -f /etc/apt/apt.conf.d/*proxy*; echo \"deb [trusted=yes] {} ./\" > /etc/apt/sources.list",
            mirror.url()
        ));
    };
    sources(&mirror);
    toril(&["check", &host, "--recipe", &path]).exits(3).shows(
        "      download beforehand, while what comes before them is applied\n      fetch the package lists",
    );
    let apply = toril(&["apply", &host, "--recipe", &path, "--yes", "--json"]).exits(0);
    let events = apply.events().into_iter().filter_map(|event| {
        let event = event.pointer("/run/event").cloned()?;
        Some(format!("{} {}", event["event"].as_str()?, event["resource"].as_str()?))
    });
    let events: Vec<String> = events.filter(|event| !event.starts_with("progress")).collect();
    // The packages are there before that is told, by a thread of its own.
    let (fetched, others): (Vec<String>, Vec<String>) =
        events.into_iter().partition(|event| event == "fetched packages");
    assert_eq!(fetched.len(), 1, "{apply}");
    let expected = ["fetching packages", "started slow", "changed slow", "started packages"];
    assert_eq!(others[..expected.len()], expected, "{apply}");
    assert_eq!((mirror.times("t-early_1_all.deb"), mirror.times("Packages")), (1, 1), "fetched once");

    // Killed in the middle of it: what fetches ends with it, and the next apply goes on.
    let silent = Mirror::of(sandbox, &["Packages", "Release"], "t-held");
    sources(&silent);
    write("t-held", "test -e /tmp/enough");
    // The only worker there is then the one that is to be killed.
    sandbox.is_quiet();
    let apply = Toril::new(&["apply", &host, "--recipe", &path, "--yes"]).spawn();
    silent.is_asked_for("t-held_1_all.deb");
    let worker = sandbox.process_ids().into_iter().find(|(_, line)| line.contains(" agent-worker "));
    Toril::of(Path::new("kill"), &["-KILL", &worker.unwrap().0.to_string()]).run().exits(0);
    sandbox.sudo("touch /tmp/enough");
    apply.wait().exits(1).shows("the agent's worker died before the run ended: it was killed");
    sandbox.is_quiet();
    sources(&mirror);
    toril(&["apply", &host, "--recipe", &path, "--yes"]).exits(0).shows("changed packages");
    assert_eq!(sandbox.sudo("ls -A /var/cache/apt | grep toril || :"), "");
    sandbox.sudo("echo \"deb [trusted=yes] file:/repo ./\" > /etc/apt/sources.list");
}

fn recipe(files: &TempDir, keys: &str) -> String {
    let path = files.path().join("recipe.toml");
    let resource = format!("[[resource]]\nname = \"packages\"\napt-packages = {{ {keys} }}\n");
    fs::write(&path, format!("description = \"d\"\nsupports = [\"debian 12\"]\n{resource}")).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn apt_and_dpkg_in_every_bad_state_are_brought_to_a_good_one() {
    let Some(sandbox) = Sandbox::fresh("apt") else { return };
    let host = sandbox.host();
    let files = tempfile::tempdir().unwrap();
    sandbox.sudo(NEEDRESTART);
    sandbox.sudo(REPOSITORY);
    sandbox.sudo("test -s /tmp/needrestart-ran");
    kill_dpkg(&sandbox, "t-slow", "/tmp/in-postinst", "/tmp/go");
    sandbox.sudo("touch /var/lib/apt/lists/partial/half_Packages");
    sandbox.sudo(HOLDER);

    // dpkg killed in a postinst, a list half-downloaded, a lock, a question, a changed configuration file: at once.
    let all = recipe(&files, "install = [\"t-slow\", \"t-ask\", \"t-conf\"], minimum = { t-conf = \"2\" }");
    let before = sandbox.sudo("sha256sum /var/lib/dpkg/status; ls -A /var/lib/apt/lists/partial");
    let check = toril(&["check", &host, "--recipe", &all]).exits(3);
    check
        .shows("packages, in one go:")
        .shows("perl /tmp/hold.pl`, pid ")
        .shows(", which holds /var/lib/dpkg/lock-frontend, running for ")
        .shows("dpkg was interrupted: finish configuring 1 package (t-slow)")
        .shows("fetch the package lists: 1 list half-downloaded");
    assert_eq!(sandbox.sudo("sha256sum /var/lib/dpkg/status; ls -A /var/lib/apt/lists/partial"), before);
    let mut apply = Toril::new(&["apply", &host, "--recipe", &all, "--verbose"]).spawn();
    apply.wait_for("packages: waiting: perl, pid ");
    apply.wait_for(" s of 10m: `perl /tmp/hold.pl` holds /var/lib/dpkg/lock-frontend");
    sandbox.sudo("touch /tmp/free; rm /tmp/needrestart-ran");
    apply.wait().exits(0).shows("step 1 of ").shows("changed packages");
    assert_eq!(sandbox.ssh("cat /etc/t-conf"), "mine\n", "the changed file is kept");
    sandbox
        .sudo("test ! -e /tmp/needrestart-ran; grep -q \"needrestart is suspended\" /var/log/toril-apt.log");
    toril(&["apply", &host, "--recipe", &all]).exits(0).shows("nothing to change");

    // dpkg killed while it unpacked, whatever the recipe is about.
    kill_dpkg(&sandbox, "t-damaged", "/tmp/in-preinst", "/tmp/go-on");
    let check = toril(&["check", &host, "--recipe", &all]).exits(3);
    check
        .shows("dpkg: interrupted or at work in t-damaged")
        .shows("unpack anew 1 damaged package (t-damaged)");
    toril(&["apply", &host, "--recipe", &all]).exits(0);
    sandbox.sudo("test -z \"$(dpkg --audit)\"");

    // A package whose script fails, until what it lacks is there.
    let fail = recipe(&files, "install = [\"t-fail\"]");
    let failed = toril(&["apply", &host, "--recipe", &fail]).exits(1);
    failed.shows("a package's own script fails; mend what it says");
    toril(&["check", &host, "--recipe", &fail]).exits(3).shows("finish configuring 1 package (t-fail)");
    sandbox.sudo("touch /tmp/mended");
    toril(&["apply", &host, "--recipe", &fail]).exits(0);

    // One version and no other: refused where it is older, done where the recipe says so, and named where it is nowhere.
    let older = recipe(&files, "install = [\"t-conf\"], version = { t-conf = \"0:1\" }");
    toril(&["check", &host, "--recipe", &older])
        .exits(3)
        .shows("package t-conf: 2 → exactly 0:1, which is older");
    toril(&["apply", &host, "--recipe", &older])
        .exits(1)
        .shows("packages are only downgraded where the recipe");
    let older = recipe(&files, "install = [\"t-conf\"], version = { t-conf = \"0:1\" }, downgrade = true");
    toril(&["apply", &host, "--recipe", &older]).exits(0);
    let nowhere = recipe(&files, "install = [\"t-conf\"], version = { t-conf = \"9\" }");
    let failed = toril(&["apply", &host, "--recipe", &nowhere]).exits(1);
    failed.shows(
        "no source offers t-conf exactly 9; offered are 2 (file:/repo ./), 1 (file:/repo ./): name one",
    );

    a_lock_holds_a_host(&sandbox, &files);
    what_apt_is_told_by_others(&sandbox, &files);
    packages_are_fetched_beforehand(&sandbox, &files);

    // A mirror that resets its connections, until it does not.
    let mirror = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mirror.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in mirror.incoming().flatten() {
            // What was sent and is not read makes the end a reset.
            drop(connection.peek(&mut [0]));
        }
    });
    sandbox.sudo(&format!(
        "rm -f /etc/apt/apt.conf.d/*proxy*; sed -i.good s,file:/repo,http://127.0.0.1:{port}, /etc/apt/sources.list"
    ));
    let more = recipe(&files, "install = [\"t-more\"]");
    let failed = toril(&["apply", &host, "--recipe", &more]).exits(1);
    failed.shows("the mirror, or the way to it, failed each of 3 times: `apt-get update` failed");
    sandbox.sudo("mv /etc/apt/sources.list.good /etc/apt/sources.list");
    toril(&["apply", &host, "--recipe", &more]).exits(0).shows("changed packages");
    toril(&["check", &host, "--recipe", &more]).exits(0);
    sandbox.is_clean();
}
