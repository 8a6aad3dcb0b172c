//! Recipes, suites and inventories with mistakes: all of them are shown, each at its place, and no host is touched.

use insta::assert_snapshot;

use crate::seen::{Trap, seen};

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
    let calls = [["run", "no-such-file.elf"], ["run", "suite.toml"]];
    assert_snapshot!(calls.map(|call| seen(&call)).join("\n"));
}
