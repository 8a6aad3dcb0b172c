use super::*;
use crate::{Host, Reach, Secret};

fn one(inventory: &Inventory, name: &str) -> Chosen {
    inventory.one(name).unwrap()
}

fn reach(inventory: &Inventory, name: &str) -> (Option<String>, String, Option<u16>) {
    match one(inventory, name).target {
        Target::Host(Host { reach: Reach::Ssh(ssh), .. }) => (ssh.user, ssh.host, ssh.port),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_win_over_addresses() {
    let text =
        "[hosts.a]\naddress = \"203.0.113.7\"\nuser = \"debian\"\nport = 2222\n[hosts.\"b.example\"]\n";
    let inventory = Inventory::parse("i", text).unwrap();
    assert_eq!(reach(&inventory, "a"), (Some("debian".into()), "203.0.113.7".into(), Some(2222)));
    assert_eq!(reach(&inventory, "b.example").1, "b.example");
    assert_eq!(reach(&inventory, "u@c:23"), (Some("u".into()), "c".into(), Some(23)));
    assert_eq!(one(&inventory, "sandbox:x").target, Target::Sandbox("x".into()));
    assert!(inventory.resolve("-x").is_err());
    assert!(inventory.resolve("sandbox:UP").is_err() && inventory.resolve("sandbox:../x").is_err());
}

#[test]
fn a_user_or_a_port_before_a_name_leaves_what_else_is_said_of_the_host() {
    let pin = "SHA256:xgNbb8n0lYodJuoYwkZUTWh7crS13b94GZHuoAJgWNM";
    let text = format!(
        "[hosts.ovh-1]\naddress = \"203.0.113.7\"\nport = 2222\nuser = \"debian\"\nhost-key = [\"{pin}\"]\n\
         [groups.lab]\nhosts = [\"ovh-1\"]\nidentity = \"/key\"\nvars = {{ a = \"lab\" }}\n\
         [groups.all]\nport = 22\n"
    );
    let inventory = Inventory::parse("i", &text).unwrap();
    for (argument, user, port) in [
        ("ovh-1", "debian", 2222),
        ("root@ovh-1", "root", 2222),
        ("ovh-1:2200", "debian", 2200),
        ("root@ovh-1:2200", "root", 2200),
    ] {
        let chosen = one(&inventory, argument);
        let Target::Host(Host { name, reach: Reach::Ssh(ssh), .. }) = &chosen.target else {
            panic!("{chosen:?}")
        };
        assert_eq!((name.as_str(), ssh.host.as_str()), (argument, "203.0.113.7"));
        assert_eq!((ssh.user.as_deref(), ssh.port), (Some(user), Some(port)), "{argument}");
        assert_eq!(
            (ssh.host_key.as_slice(), ssh.identity.as_deref()),
            (&[pin.into()][..], Some("/key".as_ref()))
        );
        assert_eq!(chosen.vars["a"].value, "lab", "{argument}");
    }
    let explained = inventory.explain("root@ovh-1").unwrap();
    let said = |key: &str| {
        let (_, said) = explained.keys.iter().find(|(known, _)| *known == key).unwrap();
        (said.value.to_string(), said.place.clone())
    };
    assert_eq!(said("user"), ("root".into(), "as it is named".into()));
    assert_eq!((said("port").1.as_str(), explained.groups.as_slice()), ("i:3", &["lab".to_owned()][..]));
    // What is nowhere in the inventory is an address.
    assert_eq!(reach(&inventory, "root@ovh-2"), (Some("root".into()), "ovh-2".into(), Some(22)));
}

const NESTED: &str = r#"[groups.all]
user = "everyone"
vars = { a = "all", b = "all", c = "all", d = "all", e = "all" }

[groups.outer]
groups = ["inner"]
vars = { b = "outer", c = "outer", d = "outer", e = "outer" }

[groups.inner]
hosts = ["h", "sandbox:s"]
port = 2200
vars = { c = "inner", d = "inner", e = "inner" }

[groups.b-other]
hosts = ["h"]
vars = { e = "b-other" }

[groups.a-other]
hosts = ["h"]
vars = { e = "a-other", f = "a-other" }
set = { mode = "x" }

[hosts.h]
vars = { d = "host" }
sudo-password = { env = "SUDO" }
"#;

#[test]
fn the_host_wins_over_its_groups_and_an_inner_group_over_an_outer_one() {
    let inventory = Inventory::parse("i.toml", NESTED).unwrap();
    let host = one(&inventory, "h");
    let value = |name: &str| host.vars[name].value.as_str();
    assert_eq!(["a", "b", "c", "d"].map(value), ["all", "outer", "inner", "host"]);
    // The deepest group decides, however many others there are.
    assert_eq!((value("e"), value("f")), ("inner", "a-other"));
    assert_eq!(host.vars["c"].place, "i.toml:12");
    assert_eq!(
        (host.set["mode"].value.as_str(), host.sudo_password),
        ("x", Some(Secret::Environment("SUDO".into())))
    );
    assert_eq!(one(&inventory, "elsewhere").hidden.as_ref(), ["SUDO"], "what connects to another host");
    assert_eq!(reach(&inventory, "h"), (Some("everyone".into()), "h".into(), Some(2200)));
    assert_eq!(reach(&inventory, "root@x"), (Some("root".into()), "x".into(), None));
    let explained = inventory.explain("h").unwrap();
    assert_eq!(explained.groups, ["a-other", "b-other", "outer", "inner"]);
    let secret = explained.keys.iter().find(|(key, _)| *key == "sudo-password").unwrap();
    assert_eq!(secret.1.value.to_string(), "*** (the environment variable SUDO)");
}

#[test]
fn a_group_is_all_its_hosts_once() {
    let inventory = Inventory::parse("i.toml", NESTED).unwrap();
    let names = |group: &str| {
        inventory.resolve(group).unwrap().hosts.into_iter().map(|chosen| chosen.name).collect::<Vec<_>>()
    };
    assert_eq!(names("outer"), ["h", "sandbox:s"]);
    assert_eq!(names("all"), ["h", "sandbox:s"]);
    assert_eq!(one(&inventory, "sandbox:s").vars["c"].value, "inner");
    let empty = Inventory::parse("i", "[groups.e]\n").unwrap();
    assert_eq!(empty.resolve("e").unwrap_err().to_string(), "`e` is not a host: the group has no hosts");
}

#[test]
fn mistakes_have_places() {
    let text = "[hosts.local]\n[hosts.a]\nadress = \"x\"\nport = 99999\n[hosts.b]\naddress = \"-x\"\n\
                sudo-password = \"canary\"\n[hosts.c]\nsudo-password = { env = \"A\", file = \"b\" }\n\
                vars = { n = 1, s = { env = \"S\" } }\n[groups.sandbox]\nhost = [\"a\"]\n[[source]]\n";
    let problems = Inventory::parse("i.toml", text).unwrap_err().to_string();
    for expected in [
        "i.toml:1:8: `local` is a name that toril uses",
        "i.toml:3:1: unknown key `adress`",
        "did you mean `address`",
        "i.toml:4:8:",
        "i.toml:6:11:",
        "i.toml:7:17: `sudo-password` must not stand in the inventory",
        "i.toml:9:17: `sudo-password` must be in one place",
        "i.toml:10:14: variable `n` must be a string",
        "i.toml:10:21: variable `s` cannot be a secret",
        "i.toml:11:9: `sandbox` is a name that toril uses",
        "unknown key `host` in group `sandbox` [D003] (did you mean `hosts`?)",
        "i.toml:13:1: a `source` has either",
    ] {
        assert!(problems.contains(expected), "{expected:?} is not in {problems}");
    }
    assert!(!problems.contains("canary"), "{problems}");
}

#[test]
fn what_is_named_must_be_there_and_no_group_in_itself() {
    let text = "[hosts.alpha]\n[hosts.both]\n[groups.one]\nhosts = [\"alhpa\", \"two\", \"sandbox:X\"]\ngroups = [\"tow\"]\n\
                [groups.two]\ngroups = [\"three\"]\n[groups.three]\ngroups = [\"two\"]\n[groups.both]\nhosts = [\"alpha\"]\n\
                [groups.self]\ngroups = [\"self\"]\n";
    let problems = Inventory::parse("i", text).unwrap_err();
    let told: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
    for expected in [
        "i:4:10: group `one` names a host `alhpa` that is nowhere [I003] (did you mean `alpha`?)",
        "i:4:19: `two` is a group, not a host [I003] (name it under `groups`)",
        "i:4:26: group `one` names a host `sandbox:X` that is nowhere",
        "i:5:11: group `one` names a group `tow` that is nowhere [I003] (did you mean `two`?)",
        "group `three` is part of itself: `three` (line 9) has `two` (line 7) has `three` [I004]",
        "i:11:10: `both` is the name of a host and of a group [I005]",
        "i:13:11: group `self` is part of itself: `self` (line 13) has `self` [I004]",
    ] {
        assert!(told.iter().any(|problem| problem.contains(expected)), "{expected:?} is not in {told:#?}");
    }
    assert_eq!(told.len(), 7, "{told:#?}");
}

#[test]
fn the_group_of_all_hosts_is_in_no_other() {
    for general in ["", "[groups.all]\nuser = \"debian\"\n"] {
        let text = format!("[hosts.h]\n[groups.x]\ngroups = [\"all\"]\nhosts = [\"h\", \"all\"]\n{general}");
        let problems = Inventory::parse("i", &text).unwrap_err();
        let told: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
        let expected = [
            "i:3:11: `all` has all groups in it, and cannot be in `x` [I004]",
            "i:4:15: `all` has all groups in it, and cannot be in `x` [I004]",
        ];
        assert!(
            told.len() == 2 && told.iter().zip(expected).all(|(told, begin)| told.starts_with(begin)),
            "{told:#?}"
        );
    }
}

#[test]
fn machines_are_the_hosts_that_are_reached_over_ssh() {
    let text = "[hosts.gate]\naddress = \"203.0.113.1\"\nport = 23\n[hosts.inner]\n[groups.all]\nuser = \"debian\"\n";
    let machines = Inventory::parse("i", text).unwrap().machines();
    let of = |name: &str| {
        let ssh = &machines[name];
        (ssh.host.as_str(), ssh.port, ssh.user.as_deref())
    };
    assert_eq!(machines.len(), 2);
    assert_eq!(of("gate"), ("203.0.113.1", Some(23), Some("debian")));
    assert_eq!(of("inner"), ("inner", None, Some("debian")));
}
