//! `toril.toml` and the environment: what holds where the command line says nothing.

use insta::assert_snapshot;
use serde_json::Value;

use crate::program::{Toril, toril};
use crate::seen::Place;

#[test]
fn where_each_value_comes_from() {
    let place = Place::empty();
    let bare = place.seen(&["config"]);
    place.write("toril.toml", "recipe = \"ours.toml\"\nhosts = [\"sandbox\"]\n\n[set]\nmode = \"fail\"\n");
    place.write("user/toril/toril.toml", "recipe = \"mine.toml\"\naccel = \"tcg\"\n");
    place.write("deep/er/file", "");
    let user = place.path().join("user");
    let call = Toril::new(&["config"]).dir(&place.path().join("deep/er")).env("TORIL_WAIT", "5m");
    let call = call.env("XDG_CONFIG_HOME", user.to_str().unwrap());
    let text = [bare, place.look(call, &["config"])].join("\n");
    // How wide the columns are depends on the folder's name.
    let squeezed = |line: &str| {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" | ")
    };
    assert_snapshot!(text.lines().map(squeezed).collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_file_with_many_mistakes() {
    let place = Place::empty();
    let text = "recipie = \"x\"\nsuite = 7\naccel = \"xen\"\nwait = \"soon\"\n\n[vars]\nnumber = 3\n";
    place.write("toril.toml", text);
    assert_snapshot!(place.seen(&["check", "local"]));
}

#[test]
fn no_host_at_all() {
    let place = Place::empty();
    let wrong = Toril::new(&["check", "local"]).dir(&place.path()).env("TORIL_WAIT", "soon");
    assert_snapshot!([place.seen(&["check"]), place.look(wrong, &["check", "local"])].join("\n"));
}

#[test]
fn schemas_for_editors() {
    for kind in ["recipe", "suite", "inventory", "toril"] {
        let schema: Value =
            serde_json::from_str(&toril(&["config", "--schema", kind]).exits(0).stdout).unwrap();
        assert_eq!(schema["type"], "object", "{kind}");
        assert!(!schema["properties"].as_object().unwrap().is_empty(), "{kind}");
    }
}
