//! Inventories: groups, variables, sources and secrets, and what is said of them without contacting a host.

use std::time::{Duration, Instant};

use insta::assert_snapshot;
use serde_json::Value;

use crate::program::Toril;
use crate::seen::Place;

const INVENTORY: &str = r#"[hosts.ovh-1]
address = "203.0.113.7"
user = "debian"
vars = { user = "builder" }

[groups.all]
sudo-password = { env = "LAB_SUDO" }

[groups.lab]
hosts = ["ovh-1", "sandbox:spare"]
groups = ["told"]
vars = { user = "lab", team = "b" }
set = { mode = "fail" }

[[source]]
command = ["./told.sh", "--list"]
group = "told"

[[source]]
ssh-config = "ssh_config"
"#;

const TOLD: &str = r#"#!/bin/sh
echo "warning: a canary" >&2
cat <<END
{"_meta": {"hostvars": {"web-1": {"ansible_host": "::1", "ansible_port": 2200, "db_password": "canary",
 "ansible_become_password": "canary", "user": "told"}, "box": {"ansible_connection": "docker"}}},
 "web": {"hosts": ["web-1", "box"]}, "all": {"children": ["web"]}}
END
"#;

fn place() -> Place {
    let place = Place::empty();
    place.write("inventory.toml", INVENTORY);
    place.write("ssh_config", "Host gate *.example\n  User root\n");
    place.write("toril.toml", "[vars]\nteam = \"a\"\nother = \"x\"\n");
    place.script("told.sh", TOLD);
    place
}

#[test]
fn what_there_is_and_where_it_comes_from() {
    let place = place();
    let calls: [&[&str]; 6] = [
        &["inventory", "list"],
        &["inventory", "list", "web"],
        &["inventory", "list", "wbe"],
        &["inventory", "show", "ovh-1"],
        &["inventory", "show", "web-1"],
        &["inventory", "show", "box"],
    ];
    let text = calls.map(|call| place.seen(call)).join("\n");
    assert!(!text.contains("canary"), "{text}");
    // How wide the columns are depends on the folder's name.
    let squeezed = |line: &str| {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" | ")
    };
    assert_snapshot!(text.lines().map(squeezed).collect::<Vec<_>>().join("\n"));
    let json = Toril::new(&["inventory", "show", "web-1", "--json"]).dir(&place.path()).run();
    let json: Value = serde_json::from_str(&json.exits(0).stdout).unwrap();
    assert_eq!(json["values"]["vars.user"]["value"], "told");
    assert_eq!(json["groups"], serde_json::json!(["lab", "web", "told"]));
}

/// From elsewhere, the script is still started where the inventory is.
#[test]
fn a_source_is_started_beside_its_inventory() {
    let place = place();
    place.write("else/where", "");
    let call = Toril::new(&["inventory", "list", "told", "--inventory", "../inventory.toml"]);
    let finished = call.dir(&place.path().join("else")).run();
    assert!(finished.exits(0).stdout.contains("web-1"));
}

/// What is ended by KILL can do nothing about it any more.
#[test]
fn a_source_ends_with_toril_and_leaves_nobody() {
    for signal in [9, 15] {
        let place = place();
        place.script("told.sh", "#!/bin/sh\nsleep 300 &\necho $$ $! > new\nmv new pids\nwait\n");
        let call = Toril::new(&["inventory", "list"]).dir(&place.path()).spawn();
        let until = Instant::now() + Duration::from_secs(60);
        let wait = |what: &str, is_so: &dyn Fn() -> bool| {
            while !is_so() {
                assert!(Instant::now() < until, "signal {signal}: {what}");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        let file = place.path().join("pids");
        wait("the source was not started", &|| file.exists());
        call.signal(signal);
        for pid in std::fs::read_to_string(&file).unwrap().split_whitespace() {
            wait("the source goes on", &|| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            });
        }
    }
}

#[test]
fn what_is_wrong_is_told_before_a_host_is_contacted() {
    let place = place();
    place.write("toril.toml", "");
    // Nobody has set LAB_SUDO.
    let secret = place.seen(&["check", "web-1"]);
    let group = place.seen(&["attach", "lab"]);
    let left_out = place.seen(&["check", "web"]);
    let unusable = place.seen(&["check", "box"]);
    place.script("told.sh", "#!/bin/sh\necho canary\n");
    let no_json = place.seen(&["check", "web-1"]);
    place.script("told.sh", "#!/bin/sh\nprintf '{\"web\":\\n [\"w\\377\"]}'\n");
    let no_text = place.seen(&["check", "web-1"]);
    place.script("told.sh", "#!/bin/sh\necho no route >&2\nexit 4\n");
    let failed = place.seen(&["check", "web-1"]);
    place.write(
        "inventory.toml",
        "[groups.a]\ngroups = [\"b\"]\nhosts = [\"h\"]\n[groups.b]\ngroups = [\"a\"]\n[hosts.host]\n",
    );
    let ring = place.seen(&["check", "a"]);
    let recipe = "description = \"d\"\nsupports = [\"debian 12\"]\n[vars]\nflag = true\n[[resource]]\nname = \"r\"\ndirectory = { path = \"/x\" }\n";
    place.write("r.toml", recipe);
    place.write("inventory.toml", "[hosts.host]\nvars = { flag = \"perhaps\", other = \"x\" }\n");
    let variable = place.seen(&["check", "host", "--recipe", "r.toml"]);
    let hosts = "[hosts.a]\nsudo-password = { env = \"NO_SUCH_A\" }\n[hosts.b]\nsudo-password = { env = \"NO_SUCH_B\" }\n";
    place.write("inventory.toml", hosts);
    let secrets = place.seen(&["check", "all", "--recipe", "r.toml"]);
    let names = place.seen(&["check", "a:x", "sandbox:X", "b:0", "--recipe", "r.toml"]);
    let hosts = "[hosts.a]\nvars = { flag = \"perhaps\" }\n[hosts.b]\nvars = { flag = \"often\" }\n";
    place.write("inventory.toml", hosts);
    let variables = place.seen(&["check", "all", "--recipe", "r.toml"]);
    let text = [
        secret, group, left_out, unusable, no_json, no_text, failed, ring, variable, secrets, names,
        variables,
    ]
    .join("\n");
    assert!(!text.contains("canary"), "{text}");
    assert_snapshot!(text);
}
