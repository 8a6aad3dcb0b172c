//! The main job: from a bare Debian to passed tests by one command, and nothing to do the second time.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Finished, Sandbox, Toril, document, toril};

/// The closing table names the accelerator that the guests ran under.
fn names_the_accelerator(up: &Finished) {
    let row =
        up.stdout.lines().find(|line| line.contains("3 passed")).unwrap_or_else(|| panic!("no table{up}"));
    assert!(row.contains("  KVM  ") || row.contains("  TCG  "), "no accelerator in {row:?}");
    assert!(row.ends_with("  ok"), "{row:?}");
}

/// A file of what a run has kept, from where the run says that it is.
#[track_caller]
pub(crate) fn artifact(run: &Finished, file: &str) -> String {
    let told = run.stdout.lines().find_map(|line| line.split_once(": artifacts are in "));
    let (_, directory) = told.unwrap_or_else(|| panic!("no artifacts{run}"));
    let path = Path::new(directory).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}{run}", path.display()))
}

#[test]
fn a_fresh_host_is_made_ready_and_tested_and_then_left_as_it_is() {
    let Some(sandbox) = Sandbox::fresh("main") else { return };
    let kept = tempfile::tempdir().unwrap();
    let into = kept.path().to_str().unwrap();
    let first = toril(&["up", &sandbox.host(), "--artifacts", into]).exits(0);
    let first = first.shows("passed boot").shows("passed unprivileged");
    assert!(artifact(&first, "tests/001-boot/serial.txt").contains("toril-guest: end"), "{first}");
    let head = first.stdout.lines().take(3).collect::<Vec<_>>();
    assert!(head[0].starts_with("recipe  microvm-host (built-in"), "{first}");
    assert!(head[1].starts_with("suite   smoke (built-in"), "{first}");
    assert_eq!(head[2], format!("hosts   {}", sandbox.host()), "{first}");
    let first = first.shows("changed QEMU with the microvm machine").shows("nothing left to change");
    names_the_accelerator(&first);
    assert_eq!(first.stderr, "", "{first}");
    sandbox.is_clean();

    let second = toril(&["up", &sandbox.host()]).exits(0);
    let second =
        second.shows(&format!("{}: nothing to change in 19 resources", sandbox.host())).hides(": changed ");
    names_the_accelerator(&second);
    sandbox.is_clean();
}

#[test]
fn a_sandbox_that_is_not_there_is_made_by_up_and_by_nothing_else() {
    let Some(mut sandbox) = Sandbox::fresh("made-by-up") else { return };
    toril(&["sandbox", "down", &sandbox.name]).exits(0).shows("is gone");
    for command in ["check", "apply", "test", "facts"] {
        toril(&[command, &sandbox.host()]).exits(1).shows(&format!("toril sandbox up {}", sandbox.name));
    }
    // A recipe with nothing in it to download.
    let recipe = "description = \"one directory\"\nsupports = [\"debian 12\"]\n[[resource]]\nname = \"d\"\ndirectory = { path = \"/srv/d\" }\n";
    let recipe = document(recipe);
    let suite = document("run-as = \"nobody\"\n[[test]]\nname = \"t\"\ncommand = [\"true\"]\n");
    toril(&["up", "--recipe", &recipe.path(), "--suite", &suite.path(), &sandbox.host()])
        .exits(0)
        .shows("1 passed");
    sandbox.find_again();
    assert_eq!(sandbox.ssh("test -d /srv/d && echo there"), "there\n");
}

#[test]
fn json_tells_what_people_are_told() {
    let Some(sandbox) = Sandbox::provisioned("json") else { return };
    let people = toril(&["test", "-v", &sandbox.host()]).exits(0);
    let machines = toril(&["test", "--json", &sandbox.host()]).exits(0);
    let events = machines.events();
    assert!(events.iter().all(|event| event["event"].is_string()));
    let finished = events.last().unwrap();
    assert_eq!(finished["hosts"][0]["status"], 0, "{machines}");
    assert_eq!(finished["hosts"][0]["host"], sandbox.host(), "{machines}");

    let reported = |event: &Value| {
        let event = &event["run"]["event"];
        (event["event"] == "case").then(|| event["case"]["name"].as_str().unwrap().to_owned())
    };
    let as_they_came: Vec<String> = events.iter().filter_map(reported).collect();
    let results = machines.results();
    let cases = results.iter().flat_map(|result| result["cases"].as_array().unwrap());
    let of_results: Vec<&str> = cases.map(|case| case["name"].as_str().unwrap()).collect();
    let case_line =
        |line: &str| Some(line.trim().strip_prefix("case ")?.strip_suffix(": passed")?.to_owned());
    let of_people: Vec<String> = people.stdout.lines().filter_map(case_line).collect();
    assert_eq!(as_they_came.len(), 8, "{machines}");
    assert_eq!(as_they_came, of_results, "{machines}");
    assert_eq!(as_they_came, of_people, "{people}");
    let told = finished["hosts"][0]["tests"]["results"].as_array().unwrap();
    assert_eq!(told.len(), results.len(), "{machines}");
    for (result, told) in results.iter().zip(told) {
        for key in ["test", "outcome", "reason", "cases", "accelerator", "reproduce"] {
            assert_eq!(result[key], told[key], "{machines}");
        }
        assert!(
            people.stdout.contains(&format!(": passed {} (", result["test"].as_str().unwrap())),
            "{people}"
        );
    }
}

const WAITS: &str = r#"
run-as = "nobody"
deadline = "10m"
[[test]]
name = "waits"
command = ["sh", "-c", "touch /tmp/begun; until [ -e /tmp/go ]; do sleep 0.05; done"]
"#;

#[test]
fn two_hosts_in_one_table() {
    let Some(ready) = Sandbox::provisioned("two-a") else { return };
    let Some(bare) = Sandbox::fresh("two-b") else { return };
    let check = toril(&["check", &ready.host(), &bare.host()]).exits(3);
    let table: Vec<&str> = check.stdout.lines().skip_while(|line| !line.starts_with(" HOST")).collect();
    assert!(table[1].starts_with(&format!(" {}", ready.host())) && table[1].ends_with(" ok"), "{check}");
    assert!(table[2].starts_with(&format!(" {}", bare.host())) && table[2].ends_with(" drift"), "{check}");
    assert_eq!(table[3..], ["", "2 hosts: 1 drift, 1 unchanged", "exit status 3"], "{check}");
    // Every line of the middle says whose it is, or belongs to the plan above it.
    let json = toril(&["check", "--json", &ready.host(), &bare.host()]).exits(3);
    let plans = json.events().into_iter().filter(|event| event["event"] == "plan");
    let hosts: std::collections::BTreeSet<String> =
        plans.map(|plan| plan["host"].as_str().unwrap().into()).collect();
    assert_eq!(hosts, [ready.host(), bare.host()].into(), "{json}");

    // The hosts are worked on at the same time: no test ends before both have begun.
    let suite = document(WAITS);
    let both = Toril::new(&["test", "--suite", &suite.path(), &ready.host(), &bare.host()]).spawn();
    for host in [&ready, &bare] {
        host.ssh("until [ -e /tmp/begun ]; do sleep 0.05; done");
    }
    for host in [&ready, &bare] {
        host.ssh("touch /tmp/go");
    }
    both.wait().exits(0);
}

#[test]
fn facts_are_told() {
    let Some(sandbox) = Sandbox::fresh("facts") else { return };
    let host = sandbox.host();
    toril(&["facts", &host])
        .exits(0)
        .shows("debian 12 (bookworm) on x86_64")
        .shows("container: toril-sandbox");
    let json = toril(&["facts", "--json", &host]).exits(0);
    let facts = json.events().into_iter().find(|event| event["event"] == "facts").unwrap();
    assert_eq!(facts["facts"]["codename"], "bookworm", "{json}");
}

#[test]
fn a_project_says_its_hosts_and_its_suite() {
    let Some(sandbox) = Sandbox::fresh("project") else { return };
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("toril.toml", &format!("hosts = [\"{}\"]\nsuite = \"suite.toml\"\n", sandbox.host()));
    write("suite.toml", "run-as = \"nobody\"\n[[test]]\nname = \"ours\"\ncommand = [\"true\"]\n");
    let test = Toril::new(&["test"]).dir(dir.path()).run().exits(0);
    test.shows("toril.toml:2").shows("passed ours");
}
