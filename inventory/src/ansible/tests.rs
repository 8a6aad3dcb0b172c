use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Chosen, Inventory, Reach, Target};

const SOURCE: &str = "[[source]]\ncommand = [\"x\"]\n";

fn inventory(text: &str, json: &Json) -> Inventory {
    let imported = Imported::ansible("x", &json.to_string()).unwrap();
    Inventory::parse("i", text).unwrap().complete(vec![Ok(imported)]).unwrap()
}

fn one(inventory: &Inventory, name: &str) -> Chosen {
    inventory.one(name).unwrap()
}

fn ssh(chosen: &Chosen) -> &Ssh {
    match &chosen.target {
        Target::Host(crate::Host { reach: Reach::Ssh(ssh), .. }) => ssh,
        other => panic!("{other:?}"),
    }
}

fn printed() -> Json {
    json!({
        "_meta": { "hostvars": {
            "web-1": {
                "ansible_host": "203.0.113.7", "ansible_port": 2222, "ansible_user": "debian",
                "ansible_ssh_private_key_file": "/keys/web", "ansible_become_password": "canary",
                "release": 12, "kvm": true, "list": [1], "secret": { "__ansible_vault": "canary" }
            },
            "win": { "ansible_connection": "winrm" },
            "here": { "ansible_connection": "local" }
        } },
        "all": { "children": ["ungrouped", "web", "lab"], "vars": { "site": "all", "tier": "all" } },
        "web": { "hosts": ["web-1", "web-2"], "vars": { "tier": "web" } },
        "lab": { "children": ["web"], "vars": { "tier": "lab", "rack": "4" } },
        "old": ["web-2", "here", "win"]
    })
}

#[test]
fn what_ansible_inventory_prints() {
    let inventory = inventory(SOURCE, &printed());
    let web = one(&inventory, "web-1");
    let way = ssh(&web);
    assert_eq!((way.host.as_str(), way.port), ("203.0.113.7", Some(2222)));
    assert_eq!(way.identity.as_deref(), Some(std::path::Path::new("/keys/web")));
    let value = |name: &str| web.vars.get(name).map(|said| said.value.as_str());
    assert_eq!((value("release"), value("kvm")), (Some("12"), Some("true")));
    // The group that is in another one wins over it.
    assert_eq!((value("site"), value("tier"), value("rack")), (Some("all"), Some("web"), Some("4")));
    assert_eq!(web.vars["tier"].place, "x (group web)");
    assert_eq!((value("list"), value("secret"), value("ansible_become_password")), (None, None, None));
    assert!(!format!("{inventory:?}").contains("canary"));
    assert_eq!(inventory.members("lab"), ["web-1", "web-2"]);
    assert_eq!(inventory.members("all").len(), 4);
    assert!(matches!(one(&inventory, "here").target, Target::Host(crate::Host { reach: Reach::Local, .. })));
    let win = inventory.resolve("win").unwrap_err().to_string();
    assert!(win.contains("\"winrm\""), "{win}");
}

#[test]
fn the_file_is_stronger_than_a_source_of_the_same_host() {
    let text = format!(
        "[hosts.web-1]\nuser = \"root\"\nvars = {{ release = \"13\" }}\n[groups.mine]\nhosts = [\"web-2\"]\n{SOURCE}group = \"told\"\n"
    );
    let inventory = inventory(&text, &printed());
    let web = one(&inventory, "web-1");
    let way = ssh(&web);
    assert_eq!((way.user.as_deref(), way.host.as_str()), (Some("root"), "203.0.113.7"));
    assert_eq!((web.vars["release"].value.as_str(), web.vars["release"].place.as_str()), ("13", "i:3"));
    assert_eq!((inventory.members("mine").len(), inventory.members("told").len()), (1, 4));
}

#[test]
fn a_user_before_the_name_of_what_is_not_reached_by_ssh_is_refused() {
    let inventory = inventory(SOURCE, &printed());
    let refused = |name: &str| inventory.resolve(name).unwrap_err().to_string();
    assert!(refused("root@here").contains("`here` is this machine"), "{}", refused("root@here"));
    assert!(refused("root@win").contains("\"winrm\""), "{}", refused("root@win"));
}

/// Whatever a weaker place says, the strongest that says something decides, and the file's own address is one for ssh.
#[test]
fn the_strongest_place_says_by_what_a_host_is_reached() {
    for (all, group, host, file, expected) in [
        ("local", "", "ssh", "", Ok("203.0.113.7")),
        ("local", "", "smart", "", Ok("203.0.113.7")),
        ("local", "ansible.builtin.ssh", "", "", Ok("203.0.113.7")),
        ("winrm", "", "ssh", "", Ok("203.0.113.7")),
        ("docker", "", "ansible.legacy.local", "", Ok("this machine")),
        ("ssh", "", "local", "", Ok("this machine")),
        ("ssh", "", "winrm", "", Err("\"winrm\"")),
        ("local", "", "", "", Ok("this machine")),
        ("local", "", "", "port = 22", Ok("this machine")),
        ("local", "", "local", "address = \"203.0.113.8\"", Ok("203.0.113.8")),
        ("", "", "winrm", "address = \"203.0.113.8\"", Ok("203.0.113.8")),
    ] {
        let vars = |way: &str| match way {
            "" => json!({}),
            way => json!({ "ansible_connection": way }),
        };
        let mut of_host = vars(host);
        of_host["ansible_host"] = "203.0.113.7".into();
        let printed = json!({
            "_meta": { "hostvars": { "web-1": of_host } },
            "all": { "children": ["web"], "vars": vars(all) },
            "web": { "hosts": ["web-1"], "vars": vars(group) },
        });
        let inventory = inventory(&format!("[hosts.web-1]\n{file}\n{SOURCE}"), &printed);
        let way = inventory.one("web-1").map(|chosen| match chosen.target {
            Target::Host(crate::Host { reach: Reach::Ssh(ssh), .. }) => ssh.host,
            _ => "this machine".into(),
        });
        let case = [all, group, host, file];
        match (way, expected) {
            (Ok(way), Ok(expected)) => assert_eq!(way, expected, "{case:?}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{case:?}: {error}"),
            (way, _) => panic!("{case:?}: {way:?}"),
        }
        assert_eq!(
            inventory.machines().contains_key("web-1"),
            expected.is_ok_and(|way| way != "this machine")
        );
    }
}

/// As `ansible-inventory --list --export` prints it, and as Ansible itself decides: depth, priority, name.
#[test]
fn of_equally_deep_groups_the_one_of_a_higher_priority_wins() {
    let group = |vars: Json| json!({ "hosts": ["h"], "vars": vars });
    let printed = json!({
        "all": { "children": ["a", "b", "c", "up"] },
        "a": group(json!({ "v": "a", "w": "a", "ansible_group_priority": 10 })),
        "b": group(json!({ "v": "b", "w": "b", "x": "b", "ansible_group_priority": "2" })),
        "c": group(json!({ "v": "c", "x": "c", "y": "c" })),
        "d": group(json!({ "y": "d", "ansible_group_priority": -1 })),
        "up": { "children": ["d"], "vars": { "y": "up", "ansible_group_priority": 99 } },
    });
    let inventory = inventory(SOURCE, &printed);
    let host = one(&inventory, "h");
    assert_eq!(["v", "w", "x", "y"].map(|name| host.vars[name].value.as_str()), ["a", "a", "b", "d"]);
    assert!(!host.vars.contains_key("ansible_group_priority"));
}

/// Why each host of an inventory cannot be used, of those that cannot.
fn unusable(inventory: &Inventory) -> Vec<String> {
    let members = inventory.members("all");
    members.iter().filter_map(|name| inventory.one(name).err()).map(|error| error.to_string()).collect()
}

#[test]
fn one_odd_host_leaves_the_others_as_they_are() {
    for (name, vars, expected) in [
        (
            "a",
            json!({ "ansible_host": "-x canary" }),
            "`a` cannot be used: `ansible_host` is no address of a host",
        ),
        ("a", json!({ "ansible_host": "u@canary" }), "`ansible_host` is no address of a host"),
        ("a", json!({ "ansible_host": "{{ inventory_hostname }}.canary" }), "`ansible_host` is a template"),
        ("a", json!({ "ansible_host": "{{inventory_hostname}}.canary" }), "`ansible_host` is a template"),
        ("a", json!({ "ansible_host": "{canary}" }), "`ansible_host` is no address of a host"),
        ("a", json!({ "ansible_port": 0 }), "`ansible_port` is no port from 1 to 65535 (x (host a))"),
        ("a", json!({ "ansible_ssh_port": "canary" }), "`ansible_ssh_port` is no port"),
        ("a", json!({ "ansible_user": "-l canary" }), "`ansible_user` is no login name"),
        ("a", json!({ "ansible_user": "{{ canary }}" }), "`ansible_user` is a template"),
        (
            "a",
            json!({ "ansible_private_key_file": "{% canary %}" }),
            "`ansible_private_key_file` is a template",
        ),
        ("a", json!({ "ansible_connection": "{{ canary }}" }), "`ansible_connection` is a template"),
        ("a", json!({ "ansible_connection": 1 }), "`ansible_connection` is no text"),
        ("a", json!({ "ansible_connection": "winrm" }), "Ansible reaches it by \"winrm\""),
        (
            "-oProxyCommand=x",
            json!({}),
            "`\"-oProxyCommand=x\"` cannot be used: its name is none that a host can have",
        ),
        ("a b", json!({ "ansible_host": "::1" }), "`\"a b\"` cannot be used: its name is none"),
        ("a\u{1b}[2J", json!({}), "`\"a\\u{1b}[2J\"` cannot be used"),
        ("{a}", json!({}), "`\"{a}\"` cannot be used"),
        ("sandbox:x", json!({}), "`\"sandbox:x\"` cannot be used: its name is one that toril uses itself"),
        ("local", json!({ "ansible_connection": "local" }), "`\"local\"` cannot be used: its name is one"),
    ] {
        let printed = json!({ "_meta": { "hostvars": { name: vars } }, "g": { "hosts": ["b", name] } });
        let inventory = inventory(SOURCE, &printed);
        let found = inventory.resolve("g").unwrap();
        assert_eq!(
            found.hosts.iter().map(|chosen| chosen.name.as_str()).collect::<Vec<_>>(),
            ["b"],
            "{name} {vars}"
        );
        let told: Vec<String> = found.left_out.iter().map(ToString::to_string).collect();
        assert!(told.len() == 1 && told[0].contains(expected), "{name} {vars}: {told:?}");
        assert!(!told[0].contains("canary"), "{told:?}");
        assert_eq!(unusable(&inventory), told);
        assert_eq!(inventory.machines().keys().collect::<Vec<_>>(), ["b"]);
    }
    let none =
        inventory(SOURCE, &json!({ "_meta": { "hostvars": { "w": { "ansible_port": 0 } } }, "g": ["w"] }));
    let refused = none.resolve("g").unwrap_err().to_string();
    assert!(refused.starts_with("`g` cannot be used: `w` cannot be used: `ansible_port`"), "{refused}");
}

#[test]
fn what_the_file_says_mends_a_host() {
    let text = format!("[hosts.a]\naddress = \"203.0.113.8\"\n[hosts.b]\nport = 22\n{SOURCE}");
    let of_all =
        json!({ "ansible_host": "{{ inventory_hostname }}.example.com", "ansible_port": "{{ port }}" });
    let printed = json!({ "all": { "vars": of_all }, "g": ["a", "b"], "_meta": { "hostvars": { "a": { "ansible_port": 23 } } } });
    let inventory = inventory(&text, &printed);
    let way = ssh(&one(&inventory, "a")).clone();
    assert_eq!((way.host.as_str(), way.port), ("203.0.113.8", Some(23)));
    let explained = inventory.explain("b").unwrap();
    assert_eq!(explained.unusable.unwrap().place, "x (group all)");
    assert_eq!(explained.keys.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["port"]);
}

#[test]
fn null_counts_against_what_a_group_says() {
    let vars = json!({ "ansible_host": "203.0.113.7", "ansible_port": 22, "ansible_user": "deploy", "ansible_connection": "local" });
    let nothing =
        json!({ "ansible_host": null, "ansible_port": null, "ansible_user": "", "ansible_connection": null });
    let printed = json!({ "_meta": { "hostvars": { "a": nothing } }, "g": { "hosts": ["a"], "vars": vars, "children": null } });
    let way = ssh(&one(&inventory(SOURCE, &printed), "a")).clone();
    assert_eq!((way.host.as_str(), way.port, way.user), ("a", None, None));
}

#[test]
fn groups_that_are_called_as_toril_calls_something_hold_all_the_same() {
    let vars = json!({ "ansible_user": "deploy" });
    let printed =
        json!({ "local": { "hosts": ["a"], "vars": vars }, "up": { "children": ["local"] }, "a b": ["a"] });
    let inventory = inventory(SOURCE, &printed);
    assert_eq!(ssh(&one(&inventory, "a")).user.as_deref(), Some("deploy"));
    assert_eq!(inventory.explain("a").unwrap().groups, ["\"a b\"", "up", "\"local\""]);
    assert_eq!(
        (inventory.members("up"), inventory.members("\"local\"")),
        (vec!["a".into()], vec!["a".into()])
    );
    let here = inventory.resolve("local").unwrap().hosts.pop().unwrap();
    assert!(matches!(here.target, Target::Host(crate::Host { reach: Reach::Local, .. })), "{here:?}");
}

#[test]
fn a_host_and_a_group_of_one_name_are_refused_only_where_it_is_not_clear_which_is_meant() {
    let printed = json!({ "db": ["db"], "web": ["web", "web-2"], "all": { "children": ["db", "web"] } });
    let inventory = inventory(&format!("[groups.mine]\ngroups = [\"web\"]\n{SOURCE}"), &printed);
    let names = |argument: &str| {
        let found = inventory.resolve(argument).unwrap();
        found.hosts.into_iter().map(|chosen| chosen.name).collect::<Vec<_>>()
    };
    assert_eq!((names("db"), names("web-2")), (vec!["db".to_owned()], vec!["web-2".to_owned()]));
    assert_eq!((names("mine"), names("all").len()), (vec!["web".to_owned(), "web-2".into()], 3));
    let refused = inventory.resolve("web").unwrap_err().to_string();
    assert!(refused.starts_with("`web` cannot be used: a host and a group are called so"), "{refused}");
    assert_eq!(names("root@web"), ["root@web"]);
}

#[test]
fn what_is_wrong_is_said_without_values() {
    for (json, expected) in [
        ("[]", "x printed no inventory in Ansible's JSON: it is no JSON object"),
        ("{\"a\": canary}", "x printed no inventory in Ansible's JSON: it is no JSON at line 1, column 7"),
        ("{\"a\":", "it ends in the middle"),
        ("{\"a\": \"canary\"}", "in what x printed, `a` is no object"),
        ("{\"a\": [1]}", "in what x printed, `a` is no list of names"),
    ] {
        let error = Imported::ansible("x", json).unwrap_err();
        assert!(error.contains(expected), "{json}: {error}");
        assert!(!error.contains("canary"), "{error}");
    }
    let failed = Inventory::parse("i", SOURCE).unwrap().complete(vec![Err("it failed".into())]).unwrap_err();
    assert!(failed.to_string().starts_with("i:1:1: it failed [I006]"), "{failed}");
    let ring = json!({ "a": { "children": ["b"] }, "b": { "children": ["a"] } });
    let imported = Imported::ansible("x", &ring.to_string()).unwrap();
    let ring = Inventory::parse("i", SOURCE).unwrap().complete(vec![Ok(imported)]).unwrap_err().to_string();
    assert!(ring.contains("group `a` is part of itself"), "{ring}");
}

proptest! {
    /// Whatever is printed of the right form is an inventory, and each host of it can be reached or says why not.
    #[test]
    fn each_host_of_an_inventory_can_be_reached_or_says_why_not(
        names in prop::collection::vec("[a-c]|-x|local|a b|\\{a\\}", 1..4),
        children in prop::collection::vec("[d-f]", 0..4),
        host in r#"203\.0\.113\.7|::1|-x|a b|u@h|\{\{ ?h ?\}\}|"#,
        port in 0u32..70_000,
        way in "ssh|local|winrm|",
    ) {
        let json = json!({
            "_meta": { "hostvars": { "a": { "ansible_host": host, "ansible_port": port, "ansible_connection": way } } },
            "d": { "hosts": names, "vars": { "v": port } },
            "sandbox": { "children": children },
        });
        let imported = Imported::ansible("x", &json.to_string()).unwrap();
        let inventory = Inventory::parse("i", SOURCE).unwrap().complete(vec![Ok(imported)]).unwrap();
        for name in inventory.members("all") {
            let chosen = match inventory.one(&name) {
                Ok(chosen) => chosen,
                Err(error) => {
                    prop_assert!(error.to_string().contains("cannot be used: "), "{}", error);
                    continue;
                }
            };
            if let Target::Host(crate::Host { reach: Reach::Ssh(ssh), .. }) = chosen.target {
                prop_assert!(!ssh.host.starts_with('-') && !ssh.host.is_empty());
                let is_template = ssh.host.contains('{');
                prop_assert!(!is_template);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in r#"[\[\]{}":,a_0 ]*|.*"#) {
        let _ = Imported::ansible("x", &text);
    }
}
