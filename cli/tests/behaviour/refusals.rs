//! What toril does not do, and what it says instead.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use insta::assert_snapshot;

use crate::program::{Finished, TORIL, Toril};
use crate::seen::{Place, Trap, shown};

#[test]
fn a_host_is_not_changed_without_a_word_from_anybody() {
    let trap = Trap::set();
    let calls: [&[&str]; 5] =
        [&["apply"], &["up"], &["up", "--json"], &["uninstall"], &["uninstall", "--json"]];
    assert_snapshot!(calls.map(|call| trap.seen(call)).join("\n"));
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

/// A tree as a push may leave it: its name, its files, what is given on the command line beside the suite `fine.toml`, and
/// what the refusal names.
type Hostile<'t> = (&'t str, &'t [(&'t str, &'t str)], &'t [&'t str], &'t str);

const MINE: &str = "description = \"mine\"\nsupports = [\"debian 12\"]\n[[resource]]\nname = \"d\"\ndirectory = { path = \"/d\" }\n";
const LOCK: &str = "recipe = \"microvm-host\"\n[[host]]\nrelease = \"debian 12\"\nkernel = \"6.1\"\n\
    packages = { qemu-system-x86 = \"1:7.2+dfsg-7\" }\n";
const INCLUDES: &str =
    "description = \"ours\"\nsupports = [\"debian 12\"]\nincludes = [\"tree/mine.toml\"]\n";
const FINE: &str = "[[test]]\nname = \"t\"\ncommand = [\"true\"]\n";
const AS_ROOT: &str = "run-as = \"root\"\n[[test]]\nname = \"t\"\ncommand = [\"true\"]\n";
const COMPANION: &str = "[[test]]\nname = \"t\"\n[test.guest]\nkernel = \"builtin:toolkit\"\nappend = \"x\"\nends = \"reset\"\n\
    [test.companion]\ncommand = [\"true\"]\nas-root = true\n";

#[test]
fn no_file_of_a_pushed_tree_has_anything_done_as_root() {
    let inventory = "[hosts.h]\naddress = \"127.0.0.1\"\nuser = \"nobody\"\nport = PORT\n";
    let variables = format!("{inventory}vars = {{ qemu = \"/tmp/mine\" }}\n");
    let built_in: &[&str] = &["--recipe", "microvm-host"];
    let hostile: &[Hostile<'_>] = &[
        (
            "run-as",
            &[("suite.toml", AS_ROOT)],
            &["--recipe", "microvm-host", "--suite", "suite.toml"],
            "`run-as`",
        ),
        (
            "as-root",
            &[("suite.toml", COMPANION)],
            &["--recipe", "microvm-host", "--suite", "suite.toml"],
            "`as-root`",
        ),
        (
            "a lock of a built-in recipe",
            &[("microvm-host.lock", LOCK)],
            built_in,
            "microvm-host.lock is of the tree",
        ),
        (
            "named by toril.toml",
            &[("toril.toml", "recipe = \"mine.toml\"\n"), ("mine.toml", MINE)],
            &[],
            "toril.toml:1",
        ),
        ("of the tree", &[("mine.toml", MINE)], &["--recipe", "mine.toml"], "mine.toml is of the tree"),
        (
            "of the suite's tree",
            &[("../other/toril.toml", ""), ("../other/mine.toml", MINE), ("../other/sub/suite.toml", FINE)],
            &["--recipe", "../other/mine.toml", "--suite", "../other/sub/suite.toml"],
            "mine.toml is of the tree",
        ),
        (
            "included",
            &[("mine.toml", MINE), ("../ours.toml", INCLUDES)],
            &["--recipe", "../ours.toml"],
            "mine.toml is of the tree",
        ),
        (
            "variables of toril.toml",
            &[("toril.toml", "[vars]\nqemu = \"/tmp/mine\"\n")],
            built_in,
            "`qemu` from toril.toml",
        ),
        (
            "variables of the inventory",
            &[("inventory.toml", &variables)],
            built_in,
            "`qemu` from inventory.toml:5",
        ),
    ];
    let mut shown = Vec::new();
    for (name, files, arguments, named) in hostile {
        let tree = Tree::of(files, inventory);
        let (finished, arguments) = tree.up(arguments);
        assert!(!tree.trap.was_met(), "{name}: the host was contacted{finished}");
        shown.push(tree.place.told(&finished.exits(2).shows(named), &arguments));
    }
    assert_snapshot!(shown.join("\n"));
    // The host is contacted where there is nothing to refuse: a built-in recipe, a lock that is left aside and not even
    // read, and a file that no push changes.
    let fine: [Hostile<'_>; 3] = [
        ("built-in", &[], built_in, ""),
        ("unlocked", &[("microvm-host.lock", "no lock")], &["--recipe", "microvm-host", "--unlocked"], ""),
        ("outside", &[("../ours.toml", MINE)], &["--recipe", "../ours.toml"], ""),
    ];
    for (name, files, arguments, _) in &fine {
        let tree = Tree::of(files, inventory);
        let finished = tree.up(arguments).0.exits(1);
        assert!(tree.trap.was_met(), "{name}: the host was not contacted{finished}");
    }
}

/// A tree that was pushed, beside what was not, and a place where the host of its inventory could be.
struct Tree {
    place: Place,
    trap: Trap,
}

impl Tree {
    fn of(files: &[(&str, &str)], inventory: &str) -> Tree {
        let (place, trap) = (Place::empty(), Trap::set());
        for (name, text) in [("fine.toml", FINE), ("inventory.toml", inventory)].iter().chain(files) {
            place.write(&format!("tree/{name}"), &text.replace("PORT", &trap.port().to_string()));
        }
        Tree { place, trap }
    }

    /// `toril up` in the tree, and its arguments.
    fn up<'a>(&self, more: &[&'a str]) -> (Finished, Vec<&'a str>) {
        let suite: &[&str] = if more.contains(&"--suite") { &[] } else { &["--suite", "fine.toml"] };
        let arguments = [&["up", "h", "--yes", "--unprivileged"], suite, more].concat();
        let call = [&arguments[..], &["--connect-timeout", "1s"]].concat();
        (Toril::new(&call).dir(&self.place.path().join("tree")).run(), arguments)
    }
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
