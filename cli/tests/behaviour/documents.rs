//! Recipes, suites and inventories with mistakes: all of them are shown, each at its place, and no host is touched.

use insta::assert_snapshot;

use crate::program::TORIL;
use crate::seen::{Place, Trap};

#[test]
fn a_recipe_with_many_mistakes() {
    assert_snapshot!(Trap::set().seen(&["apply", "--yes", "--recipe", "recipe.toml"]));
}

#[test]
fn a_suite_with_many_mistakes() {
    assert_snapshot!(Trap::set().seen(&["test", "--suite", "suite.toml"]));
}

#[test]
fn an_inventory_with_many_mistakes() {
    assert_snapshot!(Trap::set().seen(&["check", "--inventory", "hosts.toml", "alpha"]));
}

#[test]
fn a_file_that_is_no_toml() {
    assert_snapshot!(Trap::set().seen(&["check", "--recipe", "no.toml"]));
}

/// `up` reads both before it does anything.
#[test]
fn a_good_recipe_and_a_bad_suite() {
    let text = Trap::set().seen(&["up", "--yes", "--suite", "suite.toml"]);
    assert!(text.ends_with("---- exit status 2\n") && text.contains("12 mistakes"), "{text}");
}

#[test]
fn names_of_nothing() {
    let trap = Trap::set();
    let calls: [&[&str]; 6] = [
        &["check", "--recipe", "microvm-hots"],
        &["test", "--suite", "smok"],
        &["check", "--inventory", "no-such-file.toml"],
        &["test", "--filter", "bot"],
        &["test", "--set", "mod=fail"],
        &["check", "--var", "usr=toril"],
    ];
    assert_snapshot!(calls.map(|call| trap.seen(call)).join("\n"));
}

#[test]
fn kernels_that_cannot_be() {
    let calls = ["no-such-file.elf", "/", "suite.toml", TORIL];
    let seen = calls.map(|kernel| Trap::set().seen(&["run", kernel, "--on"]).replace(TORIL, "PROGRAM"));
    assert_snapshot!(seen.join("\n"));
}

const RECIPE_OF_THREE: &str = r#"description = "Mistakes in three files"
supports = ["debian 12"]
includes = ["base.toml"]

[[resource]]
name = "one"
file = { path = "/etc/one", content = "", mdoe = "0600" }

[[resource]]
name = "two"
group = {}

[[resource]]
name = "three"
directory = { path = 5 }

[[resource]]
name = "four"
file = { path = "/etc/four", content = "{{ vars.prot }}" }

[[resource]]
name = "five"
group = { name = "g" }
needs = ["fuor"]

[[resource]]
name = "one"
group = { name = "h" }
"#;

const INCLUDED: &str = r#"description = "What they have in common"
supports = ["debian 12"]

[vars]
port = 80
hosts = ["a", "b"]

[[resource]]
name = "seven"
directory = { path = "srv/seven" }

[[resource]]
name = "eight"
directory = { path = "/srv/eight", mode = "rwx" }

[[resource]]
name = "nine"
template = { path = "/etc/nine", source = "nine.hbs" }
when = { debain = "12" }
"#;

const TEMPLATE: &str = "# nine\nport = {{ vars.pott }}\n{{#if (same vars.port \"80\")}}\ndefault\n{{/if}}\n";

/// All of them at once, and before anything is connected to.
#[test]
fn twelve_mistakes_in_three_files() {
    let place = Place::empty();
    place.write("recipe.toml", RECIPE_OF_THREE);
    place.write("base.toml", INCLUDED);
    place.write("nine.hbs", TEMPLATE);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = place.seen(&["check", &format!("debian@127.0.0.1:{port}"), "--recipe", "recipe.toml"]);
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody connected");
    assert_eq!(seen.matches("  \u{d7} ").count(), 12, "{seen}");
    assert_snapshot!(seen.replace(&port.to_string(), "PORT"));
}
