//! What toril does not do, and what it says instead.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;

use crate::program::{TORIL, Toril};
use crate::seen::{Trap, shown};

#[test]
fn a_host_is_not_changed_without_a_word_from_anybody() {
    let trap = Trap::set();
    assert_snapshot!([trap.seen(&["apply"]), trap.seen(&["up"]), trap.seen(&["up", "--json"])].join("\n"));
}

#[test]
fn this_machine_is_not_rebooted_under_toril() {
    let trap = Trap::set();
    assert_snapshot!(
        [
            trap.seen(&["apply", "local", "--yes", "--reboot"]),
            trap.seen(&["apply", "--reboot-timeout", "1m"])
        ]
        .join("\n")
    );
}

/// Calls toril as somebody who is not root, whoever runs the tests.
fn as_nobody(arguments: &[&str]) -> String {
    let is_root = fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t");
    if !is_root {
        return shown(&Toril::new(arguments).run(), arguments);
    }
    // Where the binary is may be closed to others.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("toril");
    // By another process: a file that this one has open for writing, on whatever thread, cannot be executed.
    let copied = Command::new("cp").arg(TORIL).arg(&program).status().unwrap();
    assert!(copied.success());
    let mut words = vec!["--reuid=65534", "--regid=65534", "--clear-groups", program.to_str().unwrap()];
    words.extend(arguments);
    shown(&Toril::of(Path::new("setpriv"), &words).run(), arguments)
}

#[test]
fn sandboxes_need_root() {
    let calls: [&[&str]; 5] = [
        &["sandbox", "up"],
        &["sandbox", "down", "--all"],
        &["sandbox", "list"],
        &["up", "sandbox"],
        &["check", "sandbox:mine"],
    ];
    insta::with_settings!({ filters => [(r"\d+\.\d s", "0.0 s")] }, {
        assert_snapshot!(calls.map(as_nobody).join("\n"));
    });
}
