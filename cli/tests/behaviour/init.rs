//! `init`: what it writes is right, and overwrites nothing.

use std::fs;
use std::path::Path;

use crate::program::{Finished, TORIL, Toril};
use crate::seen::Place;

#[test]
fn what_a_project_begins_with() {
    let place = Place::empty();
    let said = place.seen(&["init", "ci@127.0.0.1:1", "--ci", "github"]);
    // Whoever runs the tests.
    insta::with_settings!({ filters => [("  sudo toril", "  toril")] }, { insta::assert_snapshot!(said) });
    assert!(place.path().join(".github/workflows/toril.yml").exists());
}

/// A line that is to be typed, as a shell takes it; `toril` is the program under test.
fn typed(line: &str, more: &str, place: &Path) -> Finished {
    let line = format!("toril() {{ {TORIL} \"$@\"; }}; {line}{more}");
    Toril::of(Path::new("sh"), &["-c", &line]).dir(place).run()
}

#[test]
fn what_it_says_to_type_next_works() {
    for dir in [".", "my project"] {
        let place = Place::empty();
        let call = ["init", "ci@127.0.0.1:1", "--dir", dir];
        let said = Toril::new(&call).dir(&place.path()).run().exits(0).stdout;
        let lines: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        let last = lines.len() - 1;
        assert!(lines[last - 1].ends_with("toril up sandbox"), "{said}");
        let enter = if dir == "." { "" } else { lines[0] };
        assert_eq!(lines[last - 2], "git init && git add --all", "{said}");
        // All of it is read before the host is contacted, which is not there: status 1, not 2.
        let up = |typed_before: &str| {
            let before: Vec<&str> =
                [enter, typed_before].into_iter().filter(|line| !line.is_empty()).collect();
            typed(&[&before[..], &[lines[last]]].concat().join(" && "), " --yes", &place.path())
        };
        up("").exits(2).shows("cannot make the suite's source ready");
        up(lines[last - 2]).exits(1).shows("ci-host").shows("suite.toml");
    }
}

#[test]
fn git_is_told_of_where_it_knows_nothing_and_only_there() {
    let place = Place::empty();
    let git = |arguments: &[&str]| {
        Toril::of(Path::new("git"), arguments).dir(&place.path()).run().exits(0);
    };
    git(&["init", "--quiet"]);
    let init = |dir: &str| Toril::new(&["init", "h", "--dir", dir]).dir(&place.path()).run().exits(0);
    init("a").shows("\n  git add --all\n").hides("git init");
    git(&["add", "--all"]);
    init("b").hides("git");
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

#[test]
fn names_that_toril_has_a_meaning_for_are_no_addresses() {
    let place = Place::empty();
    let calls = ["sandbox", "sandbox:x", "local", "all"].map(|host| place.seen(&["init", host]));
    insta::assert_snapshot!(calls.join("\n"));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn what_was_written_is_gone_where_the_rest_could_not_be() {
    let place = Place::empty();
    // As on a full disk: a file may have 1024 bytes, and one of them has more.
    let line = "trap '' XFSZ; ulimit -f 2; exec \"$0\" init h --ci github --dir new/project";
    let call = Toril::of(Path::new("sh"), &["-c", line, TORIL]).dir(&place.path());
    call.run()
        .exits(2)
        .shows("cannot write new/project/")
        .shows("File too large")
        .shows("nothing was left behind");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    place.write(".github", "in the way");
    let call = ["init", "h", "--ci", "github"];
    Toril::new(&call).dir(&place.path()).run().exits(2).shows("cannot write ./.github/workflows/toril.yml");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    fs::remove_file(place.path().join(".github")).unwrap();
    Toril::new(&call).dir(&place.path()).run().exits(0);
}
