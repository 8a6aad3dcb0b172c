//! `recipe list`, `check` and `show`: no host is needed.

use insta::assert_snapshot;

use crate::program::Toril;
use crate::seen::{Place, seen};

#[test]
fn the_built_in_recipes() {
    assert_snapshot!(seen(&["recipe", "list"]));
}

#[test]
fn good_recipes_and_for_what() {
    let text = seen(&["recipe", "check", "microvm-host", "torokernel", "sandbox-host"]);
    assert!(text.contains("microvm-host: ok for debian 10, debian 11, debian 12, debian 13\n"), "{text}");
    assert!(text.contains("torokernel: ok for debian 11, debian 12, debian 13\n"), "{text}");
    assert!(text.contains("sandbox-host: ok for ") && text.ends_with("---- exit status 0\n"), "{text}");
}

#[test]
fn mistakes_of_all_files_at_once() {
    let place = Place::empty();
    let recipe = |group: &str| {
        format!("description = \"d\"\nsupports = [\"debian 12\"]\n[[resource]]\nname = \"r\"\n{group}\n")
    };
    place.write("a.toml", &recipe("gruop = { name = \"g\" }"));
    place.write("b.toml", &recipe("group = { name = \"{{ vars.g }}\", sytsem = true }"));
    place.write("good.toml", &recipe("group = { name = \"g\" }"));
    assert_snapshot!(place.seen(&["recipe", "check", "a.toml", "good.toml", "none.toml", "b.toml"]));
}

/// What is wrong with a lock is wrong before a host is asked anything.
#[test]
fn a_lock_that_does_not_fit() {
    let place = Place::empty();
    let recipe = "description = \"d\"\nsupports = [\"debian 12\"]\n[[resource]]\nname = \"p\"\n\
                  apt-packages = { install = [\"q\"] }\n[[resource]]\nname = \"f\"\n\
                  download = { url = \"https://h/f\", path = \"/srv/f\" }\n";
    place.write("r.toml", recipe);
    assert_snapshot!(place.seen(&["recipe", "check", "r.toml"]));
    let host = "[[host]]\nrelease = \"debian 13\"\nkernel = \"6.1\"\n[[host]]\nrelease = \"debian 12\"\nkernel = \"6.1\"\n\
                packages = { nothing = \"1\" }\n";
    place.write(
        "r.lock",
        &format!("recipe = \"r.toml\"\n[hashes]\nf = \"{}\"\ng = \"main\"\n{host}", "ab".repeat(32)),
    );
    assert_snapshot!(place.seen(&["check", "h", "--recipe", "r.toml"]));
}

const RECIPE: &str = r#"
description = "A service of our own"
supports = ["debian 11", "debian 13"]

[vars]
port = 8080

[[resource]]
name = "configuration"
file = { path = "/etc/ours/ours.conf", content = "port {{ vars.port }}\nfor {{ host.user }} on {{ facts.codename }}\n" }
on-change = ["reload"]

[[resource]]
name = "old tools"
apt-packages = { install = ["netcat-openbsd"] }
when = { debian = "11" }

[[resource]]
name = "directory"
directory = { path = "/etc/ours", mode = "0750" }

[[handler]]
name = "reload"
command = ["systemctl", "reload", "ours"]
"#;

#[test]
fn what_a_recipe_means_for_a_release() {
    let place = Place::empty();
    place.write("ours.toml", RECIPE);
    assert_snapshot!(place.seen(&["recipe", "show", "ours.toml", "--var", "port=9090"]));
    let eleven = place.seen(&["recipe", "show", "ours.toml", "--release", "11"]);
    assert!(
        eleven.contains("netcat-openbsd") && eleven.contains("port 8080\nfor debian on bullseye\n"),
        "{eleven}"
    );
    let twelve = place.seen(&["recipe", "show", "ours.toml", "--release", "12"]);
    assert!(
        twelve.contains("it supports debian 11, debian 13") && twelve.ends_with("exit status 2\n"),
        "{twelve}"
    );
}

/// What is shown can be read again, and means the same.
#[test]
fn what_is_shown_is_a_recipe() {
    let place = Place::empty();
    for release in ["10", "11", "12", "13"] {
        let show = |recipe: &str| {
            let arguments = ["recipe", "show", recipe, "--release", release];
            let shown = Toril::new(&arguments).dir(&place.path()).run().exits(0).stdout;
            shown.split_once("\ndescription = ").unwrap().1.to_owned()
        };
        let first = show("microvm-host");
        place.write("shown.toml", &format!("description = {first}"));
        assert_eq!(show("shown.toml"), first);
    }
}
