//! The command line.

use insta::assert_snapshot;

use crate::program::toril;
use crate::seen::seen;

#[test]
fn help() {
    assert_snapshot!(seen(&["--help"]));
}

#[test]
fn nothing_at_all_is_no_success() {
    let nothing = toril(&[]).exits(2).shows("Usage: toril <COMMAND>");
    assert_eq!(nothing.stdout, "");
}

#[test]
fn every_command_has_help() {
    for command in [
        "up",
        "apply",
        "check",
        "test",
        "run",
        "facts",
        "attach",
        "cancel",
        "clean",
        "uninstall",
        "acceptance",
        "sandbox",
    ] {
        let help = toril(&[command, "--help"]).exits(0).shows(&format!("Usage: toril {command} "));
        assert_eq!(help.stderr, "");
        for hidden in ["agent", "isolate", "stage"] {
            assert!(!help.stdout.contains(&format!("{hidden}  ")), "{help}");
        }
    }
}

#[test]
fn version() {
    let version = toril(&["--version"]).exits(0);
    assert_eq!(version.stdout, format!("toril {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage() {
    let calls: [&[&str]; 9] = [
        &["chekc"],
        &["check", "--recpie", "x", "local"],
        &["test", "--wait", "soon", "local"],
        &["test", "--accel", "xen", "local"],
        &["test", "--set", "mode", "local"],
        &["run", "kernel.elf", "--memory", "64 elephants"],
        &["run", "kernel.elf", "--cpus", "0"],
        &["check", "host:port"],
        &["check", ""],
    ];
    assert_snapshot!(calls.map(seen).join("\n"));
}
