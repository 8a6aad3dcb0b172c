//! Real sandboxes: real sshd, real apt, real attacks. Prints why where they cannot be made.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests too")]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use support::{Scene, assert_gone, children, namespaces, parent, ssh, sudo, try_sudo};
use toril_sandbox::{Error, Options, State};

#[test]
fn a_debian_host_reached_by_ssh() {
    let Some(scene) = Scene::new() else { return };
    let a = scene.up("host-a");
    let login = ssh(&a, "id -un; hostname; cat /run/systemd/container; grep VERSION_ID /etc/os-release");
    let expected = "debian\nhost-a\ntoril-sandbox\nVERSION_ID=\"12\"\n";
    assert_eq!(String::from_utf8_lossy(&login.stdout), expected, "{login:?}");
    assert_eq!(String::from_utf8_lossy(&login.stderr), "");
    assert_eq!(sudo(&a, "id -u"), "0\n");
    assert_eq!(sudo(&a, "ls /var/lib/apt/lists | grep -c Packages; true"), "0\n");
    sudo(
        &a,
        "apt-get -q update && apt-get -q install -y --no-install-recommends socat && socat -V >/dev/null",
    );
    assert_eq!(sudo(&a, "dpkg --audit; dpkg --verify"), "");
    // Processes whose parent ended are buried by the sandbox's first one.
    sudo(&a, "for i in 1 2 3 4 5; do (setsid sleep 0.1 &) ; done; sleep 1");
    assert_eq!(sudo(&a, "grep -l \"^State:.Z\" /proc/[0-9]*/status | wc -l"), "0\n");
    // A package's upgrade may make sshd read its configuration again.
    sudo(&a, "kill -HUP 1; sleep 1");
    assert!(ssh(&a, "true").status.success());
}

#[test]
fn kvm_is_a_fresh_node() {
    let Some(scene) = Scene::new() else { return };
    if !std::path::Path::new("/dev/kvm").exists() {
        eprintln!("skipped: no /dev/kvm here");
        return;
    }
    let before = fs::metadata("/dev/kvm").unwrap();
    let a = scene.up("kvm");
    assert_eq!(sudo(&a, "stat -c %U:%G:%a:%t:%T /dev/kvm"), "root:root:600:a:e8\n");
    sudo(&a, "chown root:kvm /dev/kvm && chmod 660 /dev/kvm && exec 3<>/dev/kvm");
    assert_eq!(sudo(&a, "stat -c %U:%G:%a /dev/kvm"), "root:kvm:660\n");
    let after = fs::metadata("/dev/kvm").unwrap();
    assert_eq!(format!("{:?}", before.permissions()), format!("{:?}", after.permissions()));
}

/// Root inside tries; the machine must not notice.
#[test]
fn cannot_hurt_the_machine() {
    let Some(scene) = Scene::new() else { return };
    let machine = || {
        let read = |path: &str| fs::read_to_string(path).unwrap();
        let own = |path: &str| format!("{:?}", fs::metadata(path).unwrap().permissions());
        let mut modules: Vec<_> = fs::read_to_string("/proc/modules")
            .unwrap_or_default()
            .lines()
            .map(|l| l[..l.find(' ').unwrap()].to_owned())
            .collect();
        modules.sort();
        let hostname = read("/proc/sys/kernel/hostname");
        let sysctls = read("/proc/sys/vm/swappiness")
            + &read("/proc/sys/kernel/panic")
            + &read("/proc/sys/kernel/core_pattern");
        (modules, hostname, sysctls, own("/dev/null"), read("/proc/self/mountinfo"))
    };
    let before = machine();
    let clock = Instant::now();
    let wall = std::time::SystemTime::now();
    let a = scene.up("attack");
    let b = scene.up("victim");
    let refused = [
        "echo 1 > /proc/sys/kernel/panic",
        "mount -o remount,rw /proc/sys && echo 1 > /proc/sys/kernel/panic",
        "umount /proc/sys; echo 1 > /proc/sys/kernel/panic",
        "mkdir -p /tmp/p && mount -t proc proc /tmp/p && echo 1 > /tmp/p/sys/kernel/panic",
        "sysctl -w vm.swappiness=1",
        "echo x > /proc/sys/kernel/core_pattern",
        "umount /proc/sysrq-trigger; echo h > /proc/sysrq-trigger",
        "mount -o remount,rw /sys",
        "mount -o remount,bind,rw /sys",
        "umount /sys",
        "echo 1 > /sys/kernel/mm/ksm/run",
        "mkdir -p /tmp/s && mount -t sysfs sysfs /tmp/s",
        "mkdir -p /tmp/d && mount -t devtmpfs dev /tmp/d",
        "mkdir -p /tmp/g && mount -t debugfs none /tmp/g",
        "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
        "mknod /dev/mem c 1 1 && head -c 1 /dev/mem",
        "date -s @0",
        "date -s \"+1 day\"",
        "touch /tmp/m.ko; insmod /tmp/m.ko",
        "modprobe dummy",
        "ip link set lo down",
        "ip addr add 10.1.2.3/24 dev lo",
        "ip link add t0 type dummy",
        "swapon /tmp/m.ko",
        "fsfreeze -f /",
        "dmesg",
        "unshare --user --map-root-user mount -t sysfs sysfs /mnt",
        "ulimit -Hn 99999999",
        "echo -1000 > /proc/self/oom_score_adj",
    ];
    for attack in refused {
        let output = try_sudo(&a, attack);
        assert!(!output.status.success(), "{attack} was let through: {output:?}");
        assert_ne!(output.status.code(), Some(127), "{attack} was not even tried: {output:?}");
    }
    // Reboot by name and by system call: 0xfee1dead, 672274793, 0x1234567 (restart).
    let reboot = "perl -e \"exit(syscall(169, 0xfee1dead, 672274793, 0x1234567, 0) == 0)\"";
    assert!(try_sudo(&a, reboot).status.success(), "reboot was let through");
    // Its own host name is its own; the null device too.
    sudo(&a, "hostname other && chmod 600 /dev/null");
    assert_eq!(sudo(&b, "hostname"), "victim\n");
    // No process of the machine, nor of another sandbox, is in sight.
    let seen = sudo(&a, "ls -d /proc/[0-9]* | wc -l");
    assert!(seen.trim().parse::<u32>().unwrap() < 30, "{seen}");
    assert_eq!(sudo(&a, "ls /tmp/crun /var/lib/toril-sandbox 2>/dev/null | wc -l"), "0\n");
    assert_eq!(machine(), before);
    let drift = wall.elapsed().unwrap().abs_diff(clock.elapsed());
    assert!(drift < Duration::from_secs(5), "the clock was moved by {drift:?}");
}

/// What virtiofsd and the runner of tests do to confine what they start.
#[test]
fn root_may_make_namespaces_of_its_own() {
    let Some(scene) = Scene::new() else { return };
    let a = scene.up("nested");
    assert_eq!(sudo(&a, "unshare --pid --fork --kill-child sh -c \"echo \\$\\$\""), "1\n");
    sudo(
        &a,
        "unshare --mount --pid --fork --net --mount-proc sh -c \"mount -t tmpfs none /mnt && touch /mnt/x\"",
    );
    assert_eq!(sudo(&a, "ls /mnt"), "");
}

#[test]
fn nothing_is_left_after_down() {
    let Some(scene) = Scene::new() else { return };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let scene = Arc::new(scene);
    let both: Vec<_> = ["down-a", "down-b"]
        .map(|name| {
            let scene = Arc::clone(&scene);
            thread::spawn(move || scene.up(name))
        })
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_ne!(both[0].port(), both[1].port());
    for sandbox in &both {
        ssh(
            sandbox,
            "setsid sleep 600 >/dev/null 2>&1 </dev/null & sudo setsid sleep 600 >/dev/null 2>&1 </dev/null &",
        );
    }
    let spaces: Vec<_> = both.iter().map(namespaces).collect();
    let listed = scene.sandboxes.list().unwrap();
    assert_eq!(listed, both);
    assert!(scene.sandboxes.down("down-a").unwrap());
    assert!(!scene.sandboxes.down("down-a").unwrap());
    assert_gone(&spaces[0]);
    assert!(ssh(&both[1], "true").status.success(), "the other one must not be touched");
    assert_eq!(scene.sandboxes.down_all().unwrap(), ["down-b"]);
    assert_gone(&spaces[1]);
    assert_eq!(fs::read_dir(scene.state.path().join("hosts")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
}

#[test]
fn nothing_is_left_after_a_kill() {
    let Some(scene) = Scene::new() else { return };
    for victim in ["supervisor", "init", "sshd"] {
        let sandbox = scene.up("killed");
        sudo(&sandbox, "touch /root/old");
        ssh(&sandbox, "setsid sleep 600 >/dev/null 2>&1 </dev/null &");
        let spaces = namespaces(&sandbox);
        let init = sandbox.init_pid().unwrap();
        let pid = match victim {
            "supervisor" => parent(init).unwrap(),
            "init" => init,
            _ => children(init)[0],
        };
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        assert_gone(&spaces);
        assert_eq!(scene.sandboxes.get("killed").unwrap().unwrap().state(), State::Dead, "{victim}");
        // Begins afresh.
        let again = scene.up("killed");
        assert_eq!(again.state(), State::Running);
        assert_eq!(sudo(&again, "ls /root"), "", "{victim}");
    }
}

#[test]
fn up_twice_is_up_once() {
    let Some(scene) = Scene::new() else { return };
    let first = scene.up("same");
    let begin = Instant::now();
    assert_eq!(scene.up("same"), first);
    assert!(begin.elapsed() < Duration::from_secs(1));
    let scene = Arc::new(scene);
    let together: Vec<_> = (0..3)
        .map(|_| {
            let scene = Arc::clone(&scene);
            thread::spawn(move || scene.up("together"))
        })
        .collect();
    let together: Vec<_> = together.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(together.iter().all(|sandbox| *sandbox == together[0]));
}

#[test]
fn from_a_cached_base_in_about_a_second() {
    let Some(scene) = Scene::new() else { return };
    scene.up("warm");
    let begin = Instant::now();
    scene.up("second");
    eprintln!("up in {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_snapshot_is_where_others_begin() {
    let Some(scene) = Scene::new() else { return };
    let origin = scene.up("origin");
    sudo(
        &origin,
        "useradd later; echo one > /etc/one; rm /etc/motd; touch /tmp/rubbish; ln -sfn /etc/passwd /etc/hosts",
    );
    let snapshot = scene.sandboxes.snapshot("origin", "prepared").unwrap();
    assert_eq!(snapshot.name, "prepared");
    assert!(scene.sandboxes.get("origin").unwrap().is_none());
    let from = |name: &str| Options { from: Some(name.to_owned()), ..Options::default() };
    let a = scene.up_with("next-a", &from("prepared"));
    let b = scene.up_with("next-b", &from("prepared"));
    for (sandbox, name) in [(&a, "next-a"), (&b, "next-b")] {
        assert_eq!(
            sudo(sandbox, "hostname; cat /etc/one; id -un later; ls /tmp; test -e /etc/motd || echo gone"),
            format!("{name}\none\nlater\ngone\n")
        );
        assert!(sudo(sandbox, "cat /etc/hosts").contains(name));
    }
    sudo(&a, "echo two > /etc/one");
    assert_eq!(sudo(&b, "cat /etc/one"), "one\n");
    scene.sandboxes.snapshot("next-a", "further").unwrap();
    let c = scene.up_with("next-c", &from("further"));
    assert_eq!(sudo(&c, "cat /etc/one; id -un later"), "two\nlater\n");

    assert!(matches!(scene.sandboxes.snapshot("next-c", "further"), Err(Error::SnapshotExists(_))));
    assert!(matches!(scene.sandboxes.remove_snapshot("further"), Err(Error::SnapshotInUse { .. })));
    scene.sandboxes.down("next-c").unwrap();
    scene.sandboxes.down("next-b").unwrap();
    assert!(matches!(scene.sandboxes.remove_snapshot("prepared"), Err(Error::SnapshotInUse { .. })));
    assert!(scene.sandboxes.remove_snapshot("further").unwrap());
    assert!(scene.sandboxes.remove_snapshot("prepared").unwrap());
    assert!(!scene.sandboxes.remove_snapshot("prepared").unwrap());
    assert_eq!(scene.sandboxes.snapshots().unwrap(), []);
    let gone = scene.sandboxes.up("x", &from("prepared"), &mut |_| {});
    assert!(matches!(gone, Err(Error::NoSuchSnapshot(_))));
}

#[test]
fn a_disk_that_is_full() {
    let Some(scene) = Scene::new() else { return };
    let options = Options { disk_limit: Some(16 << 20), ..Options::default() };
    let a = scene.up_with("small", &options);
    let full = try_sudo(&a, "head -c 32M /dev/zero > /var/tmp/big");
    assert!(String::from_utf8_lossy(&full.stderr).contains("No space left on device"), "{full:?}");
    assert!(!full.status.success());
    sudo(&a, "rm /var/tmp/big; head -c 1M /dev/zero > /var/tmp/big");
    assert!(matches!(scene.sandboxes.snapshot("small", "none"), Err(Error::InMemory(_))));
}

#[test]
fn a_stage_that_fails_is_reported_with_its_log() {
    let Some(scene) = Scene::new() else { return };
    let dirs = toril_sandbox::Dirs {
        base: toril_sandbox::Dirs::system().base,
        state: scene.state.path().to_owned(),
    };
    let broken =
        toril_sandbox::Sandboxes::at(dirs, vec!["sh".into(), "-c".into(), "echo no luck >&2; exit 1".into()]);
    let error = broken.up("broken", &Options::default(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("sandbox broken did not come up") && error.contains("no luck"), "{error}");
    assert!(broken.down("broken").unwrap());
    // By hand, on the machine itself: nothing is mounted.
    scene.up("x");
    let by_hand = Command::new(env!("CARGO_BIN_EXE_toril-sandbox-stage"))
        .arg(scene.state.path().join("hosts/x"))
        .output();
    let by_hand = by_hand.unwrap();
    assert!(!by_hand.status.success());
    assert!(String::from_utf8_lossy(&by_hand.stderr).contains("nothing to call by hand"), "{by_hand:?}");
}
