//! `acceptance`, as far as it goes without a host.

use insta::assert_snapshot;

use crate::program::Toril;
use crate::seen::{Place, Trap};

#[test]
fn a_host_is_not_accepted_by_somebody_who_cannot_be_asked() {
    let trap = Trap::set();
    let calls = [&["acceptance"][..], &["acceptance", "--json"], &["acceptance", "--inject-drift"]];
    assert_snapshot!(calls.map(|call| trap.seen(call)).join("\n"));
}

#[test]
fn wrong_usage() {
    let place = Place::empty();
    place.write("there.json", "{}");
    place.write("broken.json", "{");
    place.write("future.json", r#"{"format": "toril-acceptance-9"}"#);
    let calls: [&[&str]; 9] = [
        &["acceptance"],
        &["acceptance", "--read-only", "--yes", "local"],
        &["acceptance", "--read-only", "--inject-drift", "local"],
        &["acceptance", "--read-only", "--output", "there.json", "local"],
        &["acceptance", "--read-only", "--recipe", "microvm-hots", "local"],
        &["acceptance", "--fixture", "missing.json", "new"],
        &["acceptance", "--fixture", "broken.json", "new"],
        &["acceptance", "--fixture", "future.json", "new"],
        &["acceptance", "--fixture", "there.json", "new"],
    ];
    assert_snapshot!(calls.map(|call| place.seen(call)).join("\n"));
    assert!(!place.path().join("new").exists());
}

#[test]
fn a_file_that_cannot_be_written_is_told_before_a_host_is_contacted() {
    let trap = Trap::set();
    let text = trap.seen(&["acceptance", "--yes", "--output", "/nonexistent-toril/a.json"]);
    assert!(
        text.contains("cannot write /nonexistent-toril/a.json") && text.contains("exit status 2"),
        "{text}"
    );
}

/// What an acceptance of the imitation of Debian 10 wrote.
const SENT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/src/commands/acceptance/fixture/debian-10-imitation.json");

#[test]
fn a_fixture_is_made_once() {
    let place = Place::empty();
    let call = |arguments: &[&str]| Toril::new(arguments).dir(&place.path()).run();
    let made = ["acceptance", "--fixture", SENT, "new"];
    call(&made).exits(0).shows("a root directory like a sandbox: an imitation").shows("debian 10 (buster)");
    for file in ["etc/os-release", "etc/apt/sources.list", "var/lib/dpkg/status", "toril-plan.json"] {
        assert!(place.path().join("new").join(file).is_file(), "{file}");
    }
    call(&made).exits(2).shows("new is not empty");
}
