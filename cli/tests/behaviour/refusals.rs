//! What toril does not do, and what it says instead.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use insta::assert_snapshot;

use crate::program::{TORIL, Toril};
use crate::seen::{Place, Trap, shown};

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

#[test]
fn what_a_projects_files_would_have_run_as_root_is_refused_where_it_must_not() {
    let place = Place::empty();
    place.write("fine.toml", "[[test]]\nname = \"t\"\ncommand = [\"true\"]\n");
    place.write("root.toml", "run-as = \"root\"\n[[test]]\nname = \"t\"\ncommand = [\"true\"]\n");
    let companion = "[[test]]\nname = \"t\"\n[test.guest]\nkernel = \"builtin:toolkit\"\nappend = \"x\"\nends = \"reset\"\n\
        [test.companion]\ncommand = [\"true\"]\nas-root = true\n";
    place.write("companion.toml", companion);
    let test = |suite: &str| place.seen(&["test", "h@127.0.0.1:1", "--unprivileged", "--suite", suite]);
    let up = |more: &[&str]| {
        let up = ["up", "h@127.0.0.1:1", "--yes", "--unprivileged", "--suite", "fine.toml"];
        place.seen(&[&up[..], more].concat())
    };
    let mut shown = vec![test("root.toml"), test("companion.toml")];
    place.write("mine.toml", "description = \"mine\"\nsupports = [\"debian 12\"]\n[[resource]]\nname = \"d\"\ndirectory = { path = \"/d\" }\n");
    place.write("toril.toml", "recipe = \"mine.toml\"\n");
    shown.push(up(&[]));
    place.write("toril.toml", "[vars]\nqemu = \"/tmp/mine\"\n");
    shown.push(up(&["--recipe", "microvm-host"]));
    place.write("toril.toml", "");
    place.write(
        "inventory.toml",
        "[hosts.h]\naddress = \"127.0.0.1\"\nport = 1\nvars = { qemu = \"/tmp/mine\" }\n",
    );
    let by_inventory =
        ["up", "h", "--yes", "--unprivileged", "--suite", "fine.toml", "--recipe", "microvm-host"];
    shown.push(place.seen(&by_inventory));
    assert_snapshot!(shown.join("\n"));
    // What is refused nothing comes as far as the host, which is not there.
    let fine = Toril::new(&["test", "h", "--unprivileged", "--suite", "fine.toml"]);
    fine.dir(&place.path()).run().exits(1);
}

#[test]
fn ctrl_c_at_the_question_for_a_password_gives_the_terminal_back() {
    // The shell lives on, as that of a person does, and is asked what it finds then.
    let line = format!("{TORIL} facts nobody@127.0.0.1:1 --ask-sudo-password; echo status $?; stty -a");
    let mut script = Command::new("timeout")
        .args(["30", "script", "--quiet", "--flush", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keyboard, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let (mut seen, mut piece) = (String::new(), [0; 4096]);
    while !seen.contains("password for sudo") {
        let count = screen.read(&mut piece).unwrap();
        assert!(count > 0, "it did not ask: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    // As people do: the terminal is made ready only after the question is there.
    sleep(Duration::from_secs(1));
    keyboard.write_all(b"\x03").unwrap();
    screen.read_to_string(&mut seen).unwrap();
    script.wait().unwrap();
    assert!(seen.contains("status 130"), "{seen}");
    let words: Vec<&str> = seen.split_whitespace().collect();
    for on in ["isig", "icanon", "echo"] {
        assert!(words.contains(&on), "{on} is off: {seen}");
    }
}
