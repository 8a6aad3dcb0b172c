//! `init`: what it writes is right, and overwrites nothing.

use std::fs;
use std::process::Command;

use crate::program::Toril;
use crate::seen::Place;

#[test]
fn what_a_project_begins_with() {
    let place = Place::empty();
    let said = place.seen(&["init", "ci@127.0.0.1:1", "--ci", "github"]);
    insta::assert_snapshot!(said);
    // All of it is read before the host is contacted, which is not there: status 1, not 2.
    for arguments in [&["init", "--quiet"][..], &["add", "--all"]] {
        let git = Command::new("git").args(arguments).current_dir(place.path()).status();
        assert!(git.unwrap().success());
    }
    let test = Toril::new(&["test"]).dir(&place.path());
    test.run().exits(1).shows("ci-host").shows("suite.toml");
    assert!(place.path().join(".github/workflows/toril.yml").exists());
}

#[test]
fn what_is_there_stays() {
    let place = Place::empty();
    place.write("suite.toml", "mine");
    let call = Toril::new(&["init", "--ci", "gitlab"]).dir(&place.path());
    call.run().exits(2).shows("already suite.toml").shows("nothing was written");
    assert_eq!(fs::read_to_string(place.path().join("suite.toml")).unwrap(), "mine");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn without_a_host_it_says_what_to_replace() {
    for (ci, file) in [("gitlab", ".gitlab-ci.yml"), ("travis", ".travis.yml")] {
        let place = Place::empty();
        let call = Toril::new(&["init", "--dir", "new/project", "--ci", ci]).dir(&place.path());
        call.run().exits(0).shows("Replace 203.0.113.7 in inventory.toml");
        assert!(place.path().join("new/project").join(file).exists());
        let inventory = fs::read_to_string(place.path().join("new/project/inventory.toml")).unwrap();
        assert!(
            inventory.contains("address = \"203.0.113.7\"\nuser = \"debian\"\n# port = 22\n"),
            "{inventory}"
        );
    }
}
