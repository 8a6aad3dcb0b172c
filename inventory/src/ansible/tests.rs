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
    inventory.resolve(name).unwrap().pop().unwrap()
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
        let way = inventory.resolve("web-1").map(|mut found| match found.pop().unwrap().target {
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

#[test]
fn what_is_wrong_is_said_without_values() {
    for (json, expected) in [
        ("[]", "x printed no inventory in Ansible's JSON: it is no JSON object"),
        ("{\"a\": canary}", "x printed no inventory in Ansible's JSON: it is no JSON at line 1, column 7"),
        ("{\"a\":", "it ends in the middle"),
        ("{\"a\": \"canary\"}", "in what x printed, `a` is no object"),
        ("{\"a\": [1]}", "in what x printed, `a` is no list of names"),
        ("{\"a\": [\"-oProxyCommand=x\"]}", "x has a host `-oProxyCommand=x`, which toril cannot call so"),
        (
            "{\"_meta\":{\"hostvars\":{\"a\":{\"ansible_host\":\"-x canary\"}}}}",
            "x (host a): `ansible_host` is no address of a host",
        ),
        (
            "{\"_meta\":{\"hostvars\":{\"a\":{\"ansible_port\":0}}}}",
            "x (host a): `ansible_port` is no port from 1 to 65535",
        ),
        (
            "{\"_meta\":{\"hostvars\":{\"a\":{\"ansible_user\":\"-l\"}}}}",
            "x (host a): `ansible_user` is no login name",
        ),
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
    /// Whatever is printed is an inventory or refused, and each host of it can be reached or says why not.
    #[test]
    fn any_json_is_an_inventory_or_refused(
        names in prop::collection::vec("[a-c]|-x|local|a b", 1..4),
        children in prop::collection::vec("[a-c]", 0..4),
        host in r#"203\.0\.113\.7|::1|-x|a b|u@h|"#,
        port in 0u32..70_000,
    ) {
        let json = json!({
            "_meta": { "hostvars": { "h": { "ansible_host": host, "ansible_port": port } } },
            "a": { "hosts": names, "children": children, "vars": { "v": port } },
            "b": { "children": children },
        });
        if let Ok(imported) = Imported::ansible("x", &json.to_string())
            && let Ok(inventory) = Inventory::parse("i", SOURCE).unwrap().complete(vec![Ok(imported)])
        {
            for name in inventory.members("all") {
                let ssh = ssh(&one(&inventory, &name)).clone();
                prop_assert!(!ssh.host.starts_with('-') && !ssh.host.is_empty());
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in r#"[\[\]{}":,a_0 ]*|.*"#) {
        let _ = Imported::ansible("x", &text);
    }
}
