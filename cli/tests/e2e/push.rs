//! What a pushed suite may try to become root, or to read what is not its user's: each is carried out here, and fails.

use serde_json::Value;

use crate::harness::{Finished, Sandbox, document, toril};

/// The daemon that runs as root.
const DAEMON: &str = "/usr/lib/qemu/virtiofsd";

fn run(sandbox: &Sandbox, suite: &str, status: i32) -> (Finished, Value) {
    let suite = document(suite);
    let run = toril(&["test", "--json", "--unprivileged", "--suite", &suite.path(), &sandbox.host()]);
    let run = run.exits(status);
    let result = run.results().into_iter().next().unwrap_or_else(|| panic!("no result{run}"));
    (run, result)
}

/// A companion shows what came of a file that its user cannot come to.
const READS: &str = r#"
[[test]]
name = "t"
deadline = "5m"
cases = "toril"
[test.guest]
kernel = "/root/.netrc"
exit-status = 33
[test.companion]
command = ["sh", "-c", "cat kernel; exit 1"]
"#;

fn reads_nothing_of_others(sandbox: &Sandbox) {
    sandbox.sudo("chmod 700 /root; echo password of root > /root/.netrc; chmod 644 /root/.netrc");
    let (run, result) = run(sandbox, READS, 5);
    let refused = "user toril may not read the kernel /root/.netrc, or not pass through a directory above it";
    assert!(result["outcome"] == "error" && result["reason"] == refused, "{run}");
    assert!(!run.stdout.contains("password of root"), "{run}");
}

/// A build lays a link, to a program that says it is the daemon that must be root. Asked for that, it has the link lead to
/// root's own daemon, for it to be judged by; and leaves a process, which turns the link back while the share is copied.
const EVIL: &str = r#"
[[build]]
name = "evil"
dir = "/var/lib/toril/home"
outputs = ["evil"]
command = ["sh", "-euc", '''
cat > evil <<"END"
#!/bin/sh
cd /var/lib/toril/home
if [ "$1" = --help ]; then
    ln -s DAEMON new && mv -T new v
    setsid sh -c "sleep 0.3; ln -s evil new; mv -T new v; sleep 4321" </dev/null >/dev/null 2>&1 &
    echo source=PATH --fd=FDNUM
    exit
fi
id -un > /srv/target/became
END
chmod 755 evil
ln -s evil v
''']

[[test]]
name = "t"
deadline = "5m"
cases = "toril"
[test.guest]
kernel = "builtin:toolkit"
append = "fs=data"
share = { dir = "/srv/many", tag = "data", virtiofsd = "/var/lib/toril/home/v" }
"#;

fn becomes_root_by_no_program_that_it_names(sandbox: &Sandbox) {
    // Copying takes a while.
    sandbox.sudo("mkdir -p /srv/many /srv/target; cd /srv/many; seq 30000 | xargs touch");
    let (run, result) = run(sandbox, &EVIL.replace("DAEMON", DAEMON), 5);
    assert_eq!(sandbox.sudo("ls /srv/target"), "", "{run}");
    let reason = result["reason"].as_str().unwrap();
    let refused = "/var/lib/toril/home/evil must be run as root, and others than root can change ";
    assert!(result["outcome"] == "error" && reason.starts_with(refused), "{reason}{run}");
    // Nor is anything left of it that could go on with that.
    sandbox.is_clean();
}

/// A companion puts a link into the place of what the guest shares, once the daemon has looked at that, and has the guest
/// begin only then; the daemon goes there when the guest's QEMU comes.
const SWAPS: &str = r#"
[[test]]
name = "t"
deadline = "5m"
cases = "toril"
expect = ["virtio-fs-mount", "virtio-fs-write"]
[test.guest]
kernel = "builtin:toolkit"
append = "cases=0 fs=data write=output token=of-the-push"
share = { dir = "/srv/share", tag = "data" }
[test.companion]
ready = "^ready"
wait = "0ms"
command = ["sh", "-c", '''
sleep 1
mv "$0" "$0-away" || mv "$(dirname "$0")" "$HOME/away" || rm -r "$0"
ln -s /srv/target "$0"
test ! -L "$0" || echo swapped
touch "$0/of-the-companion"
echo ready
exec sleep 5
''', "{{ guest.share }}"]
"#;

fn becomes_root_by_no_link(sandbox: &Sandbox) {
    sandbox.sudo("mkdir -p /srv/share");
    let (run, result) = run(sandbox, SWAPS, 0);
    assert_eq!(sandbox.sudo("ls /srv/target"), "", "{run}");
    assert_eq!(result["outcome"], "passed", "{run}");
    let said = sandbox.sudo("cat $(ls -d /var/lib/toril/journals/*/artifacts | tail -n 1)/tests/*/beside-*");
    assert!(said.matches("Permission denied").count() >= 3 && !said.contains("swapped"), "{said}");
    // The guest had root's daemon, and the companion what it needs.
    let qemu = result["qemu"].to_string();
    let socket = qemu.split("path=").find(|path| path.contains("/virtiofsd.sock")).unwrap();
    assert!(socket.starts_with("/var/lib/toril/runs/run-") && socket.contains("/root-"), "{socket}");
    sandbox.is_clean();
    // Nor what a person is told to type.
    let by_hand = result["reproduce"].as_str().unwrap();
    sandbox.try_ssh(&format!("exec </dev/null\n{by_hand}")).shows("case virtio-fs-write: PASSED");
    assert_eq!(sandbox.sudo("ls /srv/target"), "", "{by_hand}");
}

#[test]
fn a_push_neither_becomes_root_nor_reads_what_is_others() {
    let Some(sandbox) = Sandbox::provisioned("push") else { return };
    reads_nothing_of_others(&sandbox);
    becomes_root_by_no_program_that_it_names(&sandbox);
    becomes_root_by_no_link(&sandbox);
}
