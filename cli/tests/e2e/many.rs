//! Many hosts at once, good and bad ones, that an inventory names.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Finished, Sandbox, TORIL, Toril};

const RECIPE: &str = r#"description = "One directory, and for some a look that takes long"
supports = ["debian 12"]
[vars]
look = "true"
[[resource]]
name = "directory"
directory = { path = "/srv/many" }
[[resource]]
name = "look"
command = { command = ["true"], unless = ["sh", "-c", "{{ vars.look }}"], unless-is-read-only = true }
"#;

const SUITE: &str = r#"run-as = "debian"
[[test]]
name = "one"
command = ["true"]
[[test]]
name = "two"
command = ["true"]
[[test]]
name = "three"
command = ["false"]
"#;

/// It stands in a file, and nowhere else.
const CANARY: &str = "canary-0af3b7";

/// A host of an inventory that leads to a sandbox.
pub(crate) fn host(name: &str, sandbox: &Sandbox, more: &str) -> String {
    let (address, port) = (sandbox.address(), sandbox.port());
    let (identity, known_hosts) = (sandbox.identity().display(), sandbox.known_hosts().display());
    format!(
        "[hosts.{name}]\naddress = \"{address}\"\nport = {port}\nidentity = \"{identity}\"\n\
         known-hosts = \"{known_hosts}\"\n{more}\n"
    )
}

/// What the last event says of a host.
#[track_caller]
fn assert_outcome(finished: &Finished, name: &str, result: &str, reason: &str) {
    let events = finished.events();
    let hosts = events.last().unwrap()["hosts"].as_array().unwrap();
    let outcome = hosts.iter().find(|outcome| outcome["host"] == name).unwrap();
    assert_eq!(outcome["result"], result, "{name}{finished}");
    let problem = outcome["problem"].as_str().unwrap_or_default();
    assert!(problem.contains(reason), "{name}: {problem}{finished}");
}

#[test]
fn bad_hosts_delay_nobody_and_each_has_its_reason() {
    let Some(first) = Sandbox::fresh("many-1") else { return };
    let Some(second) = Sandbox::fresh("many-2") else { return };
    let Some(dying) = Sandbox::fresh("many-3") else { return };
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    // It takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hung = listener.local_addr().unwrap().port();
    second.sudo(&format!(
        "useradd -m anna; echo anna:{CANARY} | chpasswd; echo 'anna ALL=(ALL) ALL' > /etc/sudoers.d/anna
         cp -r ~debian/.ssh /home/anna/; chown -R anna: /home/anna/.ssh"
    ));
    write("secret", &format!("{CANARY}\n"));
    write(
        "known",
        &format!(
            "[{}]:{} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
            first.address(),
            first.port()
        ),
    );
    let mut inventory =
        String::from("[groups.good]\nhosts = [\"g-1\", \"g-2\"]\n[groups.all]\nuser = \"debian\"\n");
    inventory += &host("g-1", &first, "");
    inventory += &host("g-2", &second, "user = \"anna\"\nsudo-password = { file = \"secret\" }");
    inventory += &host("no-root", &second, "user = \"anna\"");
    inventory += &host("dies", &dying, "vars = { look = \"touch /tmp/looking; sleep 50\" }");
    inventory += &host("wrong-key", &first, "").replace(&first.known_hosts().display().to_string(), "known");
    inventory += &format!("[hosts.a-hung]\naddress = \"127.0.0.1\"\nport = {hung}\n");
    inventory += "[hosts.refused]\naddress = \"127.0.0.1\"\nport = 1\n";
    write("inventory.toml", &inventory);
    write("r.toml", RECIPE);
    write("s.toml", SUITE);
    let call = |arguments: &[&str]| Toril::new(arguments).dir(directory.path());

    let apply = call(&["apply", "good", "--yes", "--recipe", "r.toml"]).run();
    apply.exits(0).shows("2 hosts: 2 changed");

    // The hung host comes first and takes the only turn there is.
    let arguments =
        ["check", "all", "--recipe", "r.toml", "--json", "--parallel", "1", "--connect-timeout", "280s"];
    let mut check = call(&arguments).spawn();
    while !dying.try_ssh("test -e /tmp/looking").status.success() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Toril::new(&["sandbox", "down", &dying.name]).run().exits(0);
    check.wait_for("\"event\":\"problem\",\"doing\":\"plan\"");
    for good in ["g-1", "g-2"] {
        check.wait_for(&format!("{{\"host\":\"{good}\",\"event\":\"plan\""));
    }
    assert!(
        !check.stdout_so_far().contains("\"host\":\"a-hung\",\"event\":\"problem\""),
        "it was waited for"
    );
    drop(listener);
    let check = check.wait().exits(1);
    let events = check.events();
    for (name, result, reason) in [
        ("g-1", "unchanged", ""),
        ("g-2", "unchanged", ""),
        // It is tried once more when it has closed the connection.
        ("a-hung", "unreachable", "refused the connection"),
        ("refused", "unreachable", "refused the connection"),
        ("wrong-key", "unreachable", "THE HOST'S KEY HAS CHANGED"),
        ("dies", "failed", "plan: "),
        // It was reached.
        ("no-root", "failed", "root is needed: sudo wants a password"),
    ] {
        assert_outcome(&check, name, result, reason);
    }
    // Whatever is told of a host says of which.
    let nameless = ["choices", "finished"];
    let of_hosts = events.iter().filter(|event| !nameless.contains(&event["event"].as_str().unwrap()));
    of_hosts.for_each(|event| assert!(event["host"].is_string(), "{event}"));

    for command in ["doctor", "clean"] {
        let looked = call(&[command, "refused", "no-root", "--json"]).run().exits(1);
        assert_outcome(&looked, "refused", "unreachable", "refused the connection");
        assert_outcome(&looked, "no-root", "failed", "root is needed: sudo wants a password");
    }

    let arguments = ["test", "good", "--spread", "--suite", "s.toml", "--report", "json=all.json", "--quiet"];
    let spread = call(&arguments).run().exits(4);
    let lines = fs::read_to_string(directory.path().join("all.json")).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let tests = |index: usize| {
        let results = last["hosts"][index]["tests"]["results"].as_array().unwrap().iter();
        results.map(|result| result["test"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((tests(0), tests(1)), (vec!["one".into(), "three".into()], vec!["two".to_owned()]), "{lines}");
    for text in [&spread.stdout, &spread.stderr, &lines, &check.stdout] {
        assert!(!text.contains(CANARY), "{text}");
    }
    let kept = second.sudo(&format!("grep -rl {CANARY} /var/lib/toril /run/toril || true"));
    assert_eq!(kept, "", "the host keeps the password");
}

#[test]
fn nobody_else_waits_for_a_sandbox_that_is_being_made() {
    if Sandbox::cannot_be_made() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("r.toml"), RECIPE).unwrap();
    // Who holds this is building what sandboxes stand on.
    fs::create_dir(directory.path().join("base")).unwrap();
    let building = File::create(directory.path().join("base/lock")).unwrap();
    building.lock().unwrap();
    // Nothing listens there.
    let arguments = ["up", "sandbox:never", "nobody@127.0.0.1:1", "--yes", "--recipe", "r.toml", "--json"];
    let sandboxes = directory.path().to_str().unwrap();
    let call = Toril::new(&arguments).dir(directory.path()).env("TORIL_SANDBOX_DIR", sandboxes);
    let mut up = call.spawn();
    up.wait_for("waiting for another toril that builds the sandboxes' base");
    up.wait_for("{\"host\":\"nobody@127.0.0.1:1\",\"event\":\"problem\"");
    up.signal(9);
    up.wait();
}

#[test]
fn one_sshd_under_forty_names_is_reached_under_each() {
    let Some(sandbox) = Sandbox::fresh("many-4") else { return };
    let directory = tempfile::tempdir().unwrap();
    let names: Vec<String> = (1..=40).map(|number| format!("name-{number}")).collect();
    let hosts: String = names.iter().map(|name| host(name, &sandbox, "user = \"debian\"")).collect();
    fs::write(directory.path().join("inventory.toml"), hosts).unwrap();
    fs::write(directory.path().join("r.toml"), RECIPE).unwrap();
    // It also puts the agent there.
    let apply = ["apply", "name-1", "--yes", "--recipe", "r.toml"];
    Toril::new(&apply).dir(directory.path()).run().exits(0);
    for transport in ["openssh", "russh"] {
        let arguments =
            ["check", "all", "--recipe", "r.toml", "--json", "--parallel", "40", "--transport", transport];
        let check = Toril::new(&arguments).dir(directory.path()).run().exits(0);
        let events = check.events();
        let outcomes = events.last().unwrap()["hosts"].as_array().unwrap().clone();
        let reached = outcomes.iter().filter(|outcome| outcome["result"] == "unchanged").count();
        assert_eq!(reached, names.len(), "{transport}{check}");
        let told = events.iter().filter(|event| event["closed_before"].as_u64() > Some(0)).count();
        println!("{transport}: {told} of {} were turned away first", names.len());
    }
}

#[test]
fn all_plans_are_seen_before_the_first_question_which_is_asked_on_the_terminal() {
    let Some(sandbox) = Sandbox::fresh("many-5") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let names = ["a", "b", "c"];
    let hosts: String = names.iter().map(|name| host(name, &sandbox, "user = \"debian\"")).collect();
    fs::write(path("inventory.toml"), hosts).unwrap();
    let recipe = RECIPE.replace("look = \"true\"", "look = \"until test -e /tmp/go; do sleep 0.05; done\"");
    fs::write(path("r.toml"), recipe).unwrap();
    // Fewer at once than there are hosts, and a terminal to be asked on, which the outputs are not.
    let line = format!("{TORIL} apply all --recipe r.toml --parallel 1 >shown 2>aside");
    let line = format!("mkfifo keys; script --quiet --return --command '{line}' /dev/null <keys");
    let mut asked = Toril::of(Path::new("sh"), &["-c", &line]).dir(directory.path()).spawn();
    while !path("keys").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut keys = File::options().write(true).open(path("keys")).unwrap();
    // Typed before the question, it is no answer to it.
    keys.write_all(b"y\n").unwrap();
    asked.wait_for("y\r\n");
    sandbox.ssh("touch /tmp/go");
    for name in names {
        asked.wait_for(&format!("{name}: change it as shown? [y/N] "));
        keys.write_all(b"n\n").unwrap();
    }
    let asked = asked.wait().exits(1);
    let shown = fs::read_to_string(path("shown")).unwrap();
    assert_eq!(asked.stdout.matches("change it as shown?").count(), 3, "{asked}");
    assert_eq!(shown.matches("not confirmed; the host is as it was").count(), 2 * 3, "{shown}{asked}");
    assert!(!shown.contains("change it as shown?"), "{shown}");
    // Each had to wait for the file.
    assert!(!shown.contains(" 0.0 s "), "{shown}");
    sandbox.ssh("test ! -e /srv/many");
}
