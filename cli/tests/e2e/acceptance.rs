//! `acceptance`: one file that tells what of toril's promises holds on a host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Sandbox, Toril, document, toril};

/// Where files go, each of which may be written once.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn words(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }
}

/// Such as `done`, by the stage's name.
fn outcome<'f>(file: &'f Value, stage: &str) -> &'f str {
    let stages = file["stages"].as_array().unwrap();
    let found = stages.iter().find(|record| record["stage"] == stage);
    found.unwrap_or_else(|| panic!("no stage {stage}: {stages:?}"))["outcome"].as_str().unwrap()
}

/// The verdict of the first promise that has these words in it, and why.
fn verdict<'f>(file: &'f Value, words: &str) -> (&'f str, &'f str) {
    let promises = file["promises"].as_array().unwrap();
    let found = promises.iter().find(|promise| promise["promise"].as_str().unwrap().contains(words));
    let found = found.unwrap_or_else(|| panic!("no promise of {words}: {promises:#?}"));
    (found["verdict"].as_str().unwrap(), found["why"].as_str().unwrap())
}

#[test]
fn all_promises_hold_on_a_fresh_host() {
    let Some(sandbox) = Sandbox::fresh("acceptance") else { return };
    let (place, host) = (Place::new(), sandbox.host());
    // What must not be told to others.
    sandbox.sudo(
        "useradd -c Susanna -m susi; echo susi:sesame | chpasswd; \
         echo '# deb http://susi:sesame@mirror.example/debian old main' > /etc/apt/sources.list.d/old.list",
    );
    let shadow = sandbox.sudo("grep ^susi: /etc/shadow | cut -d: -f2");
    let run =
        Toril::new(&["acceptance", "--yes", "--inject-drift", "--output", &place.words("a.json"), &host]);
    let run = run.deadline(Duration::from_secs(900)).run().exits(0);
    run.shows("changed QEMU with the microvm machine")
        .shows("0 broken")
        .shows("can be read before it is sent");

    let file = place.read("a.json");
    assert_eq!((&file["complete"], &file["host"]["kind"]), (&true.into(), &"sandbox".into()));
    for stage in ["connect", "facts", "read-only", "apply", "check", "apply-again", "test", "drift"] {
        assert_eq!(outcome(&file, stage), "done", "{stage}");
    }
    for promise in [
        "toril runs there as root",
        "looking changes nothing",
        "apt of the release is 2.6",
        "keys for the release hold",
        "an apply brings",
        "a second apply changes nothing",
        "recipe: socat offers VSOCK",
        "the suite passes",
        "drift is named and mended",
    ] {
        assert_eq!(verdict(&file, promise).0, "held", "{promise}: {}", verdict(&file, promise).1);
    }
    assert!(verdict(&file, "toril runs there as root").1.contains("sudo without a password"));
    assert_eq!(file["toril"]["sha256"].as_str().unwrap().len(), 64);
    let qemu = |survey: &str| file[survey]["policy"]["known"]["packages"]["qemu-system-x86"].clone();
    assert_eq!(qemu("survey")["installed"], Value::Null);
    assert_eq!(qemu("survey_after")["installed"], qemu("survey_after")["candidate"]);
    assert!(file["runs"].as_array().unwrap().iter().all(|run| run["events"].as_array().unwrap().len() > 1));

    let text = fs::read_to_string(place.path("a.json")).unwrap();
    for secret in ["sesame", "susi", "Susanna", shadow.trim(), sandbox.name.as_str(), sandbox.address()] {
        assert!(!text.contains(secret), "{secret} is in the file");
    }
    assert!(text.contains("http://REMOVED@mirror.example/debian"));
    assert_eq!(fs::metadata(place.path("a.json")).unwrap().permissions().mode() & 0o777, 0o600);

    let (sent, root) = (place.words("a.json"), place.words("root"));
    toril(&["acceptance", "--fixture", &sent, &root]).exits(0).shows("debian 12 (bookworm)");
    sandbox.is_clean();
}

#[test]
fn a_host_without_a_mirror_breaks_promises_that_are_named() {
    let Some(sandbox) = Sandbox::fresh("acceptance-dead") else { return };
    let (place, host) = (Place::new(), sandbox.host());
    sandbox.sudo(
        "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*; \
         echo 'deb http://127.0.0.1:9/debian bookworm main' > /etc/apt/sources.list",
    );
    let run = toril(&["acceptance", "--yes", "--output", &place.words("a.json"), &host]).exits(1);
    run.shows("broken     an apply brings the host to the recipe");
    let file = place.read("a.json");
    assert_eq!(outcome(&file, "read-only"), "done");
    assert_eq!(outcome(&file, "apply"), "failed");
    let (broken, why) = verdict(&file, "an apply brings");
    assert!(broken == "broken" && why.contains("apt-get"), "{why}");
    assert_eq!(verdict(&file, "recipe: socat").0, "broken");
    assert_eq!(verdict(&file, "looking changes nothing").0, "held");
    // As `up` has it, nothing is tested on half a host.
    assert_eq!(verdict(&file, "the suite passes"), ("not-tried", "the host is not as the recipe says"));
}

#[test]
fn a_host_that_is_not_there_gives_a_file_too() {
    if Sandbox::cannot_be_made() {
        return;
    }
    let place = Place::new();
    // Nobody listens there.
    let host = "nobody@127.0.0.1:1";
    toril(&["acceptance", "--yes", "--output", &place.words("a.json"), host])
        .exits(1)
        .shows("As far as it came");
    let file = place.read("a.json");
    assert_eq!((&file["complete"], outcome(&file, "connect")), (&false.into(), "failed"));
    assert_eq!(outcome(&file, "test"), "not-tried");
    assert_eq!(verdict(&file, "the host is reached").0, "broken");
    let text = file.to_string();
    assert!(!text.contains("127.0.0.1") && !text.contains("nobody"), "{text}");
}

const SLOW: &str = r#"
description = "Slow"
supports = ["debian 12"]
[[resource]]
name = "first"
command = { shell = "until [ -e /srv/go ]; do sleep 0.05; done; touch /srv/first", creates = "/srv/first" }
[[resource]]
name = "second"
file = { path = "/srv/second", content = "x\n" }
needs = ["first"]
"#;

#[test]
fn an_interruption_leaves_what_is_known_so_far() {
    let Some(sandbox) = Sandbox::fresh("acceptance-stop") else { return };
    let (place, recipe) = (Place::new(), document(SLOW));
    let (output, recipe, host) = (place.words("a.json"), recipe.path(), sandbox.host());
    let arguments = ["acceptance", "--json", "--yes", "--output", &output, "--recipe", &recipe, &host];
    let mut run = Toril::new(&arguments).spawn();
    run.wait_for("\"event\":\"started\"");
    // A file is there already, in case of a worse end.
    assert_eq!(
        (&place.read("a.json")["complete"], outcome(&place.read("a.json"), "read-only")),
        (&false.into(), "done")
    );
    run.signal(2);
    run.wait_for("stopping at the next safe point");
    // Nothing shows when the host has heard of it, which it has long before this.
    sleep(Duration::from_secs(2));
    sandbox.sudo("touch /srv/go");
    let events = run.wait().exits(1).events();
    let told = events.iter().find(|event| event["event"] == "acceptance").unwrap();
    assert_eq!((&told["complete"], &told["file"]), (&false.into(), &output.as_str().into()));
    let file = place.read("a.json");
    assert_eq!(
        (&file["complete"], outcome(&file, "apply"), outcome(&file, "test")),
        (&false.into(), "interrupted", "not-tried")
    );
    assert_eq!(sandbox.sudo("test -e /srv/second || echo gone"), "gone\n");
    sandbox.is_clean();
}
