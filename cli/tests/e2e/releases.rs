//! Other Debian releases than the usual one: their sandboxes, what the built-in recipe makes of them, and recipes that
//! are tried on all of theirs.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Document, Finished, Sandbox, Toril, document, skip, toril};

/// The sandboxes of `recipe test` that are there.
fn of_trials() -> Vec<String> {
    let list = toril(&["sandbox", "list"]).exits(0).stdout;
    let names = list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    names.filter(|name| name.starts_with("recipe-test-")).collect()
}

/// The sandbox that a call's own trial on a release had is gone.
fn is_gone(release: &str, pid: u32) {
    let name = format!("recipe-test-{release}-{pid}");
    assert!(!of_trials().contains(&name), "{name} is left");
}

/// The trials of a recipe, and what is told of each resource that is to blame.
fn trials(run: &Finished) -> Vec<Value> {
    let event = run.events().into_iter().find(|event| event["event"] == "recipe-test");
    event.unwrap_or_else(|| panic!("no trials{run}"))["trials"].as_array().unwrap().clone()
}

#[test]
fn the_recipe_and_the_runner_on_debian_11() {
    let Some(sandbox) = Sandbox::of_release("eleven", "11") else { return };
    let host = sandbox.host();
    assert_eq!(sandbox.ssh(". /etc/os-release; echo $VERSION_ID; readlink /bin"), "11\nusr/bin\n");
    toril(&["up", &host]).exits(0).shows("changed QEMU with the microvm machine").shows("3 passed");
    let versions = sandbox.ssh("qemu-system-x86_64 --version; apt-get --version; socat -V");
    for version in ["version 5.2", "apt 2.2", "socat version 1.7.4.1"] {
        assert!(versions.contains(version), "{versions}");
    }
    toril(&["up", &host]).exits(0).shows("nothing to change in 16 resources").shows("3 passed");
    for (mode, words) in [
        ("panic", "crashed boot"),
        ("triple-fault", "a triple fault"),
        ("silent", "incomplete boot"),
        ("flood", "more than 1 MiB of output"),
    ] {
        toril(&["test", "--filter", "boot", "--set", &format!("mode={mode}"), &host]).exits(4).shows(words);
    }
    sandbox.is_clean();
}

#[test]
fn the_recipe_is_tried_on_debian_13() {
    if Sandbox::cannot_be_made() {
        return;
    }
    let test = Toril::new(&["recipe", "test", "--json", "--release", "13", "microvm-host"]).spawn();
    let pid = test.pid();
    let test = test.wait();
    if test.status.code() == Some(5) {
        return skip(&format!("no sandbox of Debian 13 can be made here: {}", trials(&test)[0]["reason"]));
    }
    let test = test.exits(0);
    let [trial] = &trials(&test)[..] else { panic!("not one trial{test}") };
    assert_eq!(trial["outcome"], "passed", "{test}");
    assert_eq!((&trial["converges"], &trial["idempotent"]), (&true.into(), &true.into()), "{test}");
    // All but the group, the four assertions and what the processor here may have.
    assert_eq!(trial["broken"], 12, "{test}");
    assert_eq!((&trial["named"], &trial["mended"]), (&12.into(), &12.into()), "{test}");
    is_gone("13", pid);
}

fn recipe(supports: &str, resources: &str) -> Document {
    document(&format!("description = \"d\"\nsupports = [{supports}]\n{resources}"))
}

#[test]
fn bad_recipes_are_red_with_the_name_of_who_is_to_blame() {
    if Sandbox::cannot_be_made() {
        return;
    }
    let same = |name: &str, text: &str| {
        format!("[[resource]]\nname = \"{name}\"\nfile = {{ path = \"/etc/same\", content = \"{text}\" }}\n")
    };
    let restless = recipe("\"debian 12\"", &(same("one", "1") + &same("other", "2")));
    let lies = "[[resource]]\nname = \"what is not so\"\nassert = { command = [\"test\", \"-e\", \"/nonexistent\"] }\n";
    let lies = recipe("\"debian 10\", \"debian 12\"", lies);
    for (recipe, culprit, why) in
        [(&restless, "one", "not idempotent"), (&lies, "what is not so", "the assertion does not hold")]
    {
        let test = Toril::new(&["recipe", "test", "--json", &recipe.path()]).spawn();
        let pid = test.pid();
        let test = test.wait().exits(4);
        let trials = trials(&test);
        let trial = trials.iter().find(|trial| trial["release"] == "debian 12").unwrap();
        assert_eq!(trial["outcome"], "failed", "{test}");
        assert_eq!(trial["faults"][0]["resource"], culprit, "{test}");
        assert!(trial["faults"][0]["what"].as_str().unwrap().contains(why), "{test}");
        assert_eq!(trial["faults"].as_array().unwrap().len(), 1, "{test}");
        is_gone("12", pid);
    }
    let people = toril(&["recipe", "test", &lies.path()]).exits(4);
    let people = people.shows("debian 12: what is not so: the assertion does not hold");
    people.shows("debian 10: skipped: ").shows("--sources").shows("exit status 4");
}

#[test]
fn what_cannot_be_tried_anywhere_is_no_success() {
    if Sandbox::cannot_be_made() {
        return;
    }
    let directory = "[[resource]]\nname = \"d\"\ndirectory = { path = \"/srv/d\" }\n";
    let old = recipe("\"debian 10\"", directory);
    toril(&["recipe", "test", &old.path()])
        .exits(5)
        .shows("debian 10: skipped: ")
        .shows("left Debian's mirrors");
    let new = recipe("\"debian 12\"", directory);
    toril(&["recipe", "test", "--release", "13", &new.path()]).exits(2).shows("it supports debian 12");
}

#[test]
fn an_interrupted_trial_leaves_no_sandbox() {
    if Sandbox::cannot_be_made() {
        return;
    }
    let slow = "[[resource]]\nname = \"slow\"\ncommand = { shell = \"sleep 3; touch /srv/x\", creates = \"/srv/x\" }\n\
        [[resource]]\nname = \"later\"\nfile = { path = \"/srv/y\", content = \"\" }\nneeds = [\"slow\"]\n";
    let slow = recipe("\"debian 12\", \"debian 13\"", slow);
    let mut test = Toril::new(&["recipe", "test", &slow.path()]).deadline(Duration::from_secs(60)).spawn();
    let pid = test.pid();
    test.wait_for("debian 12: put the agent there");
    test.signal(2);
    test.wait().exits(1).hides("debian 13: put the agent there");
    is_gone("12", pid);
    is_gone("13", pid);
}

#[test]
fn releases_that_cannot_be_had_are_refused_by_name() {
    let Some(sandbox) = Sandbox::fresh("release") else { return };
    let up = |arguments: &[&str]| toril(&[&["sandbox", "up", &sandbox.name][..], arguments].concat());
    up(&["--release", "12"]).exits(0).shows("debian 12");
    up(&["--release", "13"]).exits(1).shows("is debian 12, and not debian 13 (trixie)");
    up(&["--release", "9"]).exits(2).shows("10 (buster), 11 (bullseye), 12 (bookworm), 13 (trixie)");
    up(&["--release", "10"]).exits(2).shows("archive.debian.org").shows("--sources");

    let other = format!("{}-x", sandbox.name);
    let mirror = sandbox.ssh("sed -n 's/^URIs: //p' /etc/apt/sources.list.d/debian.sources | head -n 1");
    let sources = |suite: &str, key: &str| {
        let key = format!("/usr/share/keyrings/debian-archive-{key}.gpg");
        let uri = mirror.trim();
        document(&format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nSigned-By: {key}\n"))
    };
    let gone = sources("buster", "keyring");
    toril(&["sandbox", "up", &other, "--release", "10", "--sources", &gone.path()])
        .exits(1)
        .shows("does not have buster");
    let unknown = sources("trixie", "bookworm-stable");
    toril(&["sandbox", "up", &other, "--release", "13", "--sources", &unknown.path()])
        .exits(1)
        .shows("does not know the keys that debian 13 (trixie) is signed with");
    let wrong = sources("bookworm", "keyring");
    toril(&["sandbox", "up", &other, "--release", "13", "--sources", &wrong.path()])
        .exits(1)
        .shows("give the suites bookworm, and not debian 13 (trixie)");
    toril(&["sandbox", "down", &other]);
}
