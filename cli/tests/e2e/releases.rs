//! Other Debian releases than the usual one: their sandboxes, what the built-in recipe makes of them, and recipes that
//! are tried on all of theirs.

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
    toril(&["up", &host]).exits(0).shows("nothing to change in 19 resources").shows("3 passed");
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
    assert_eq!(trial["broken"], 13, "{test}");
    assert_eq!((&trial["named"], &trial["mended"]), (&13.into(), &13.into()), "{test}");
    is_gone("13", pid);
}

#[test]
fn the_recipe_is_tried_on_the_fixture_of_debian_10() {
    if Sandbox::cannot_be_made() {
        return;
    }
    let test = Toril::new(&["recipe", "test", "--json", "--release", "10", "microvm-host"]).spawn();
    let pid = test.pid();
    let test = test.wait();
    if test.status.code() == Some(5) {
        return skip(&format!("no fixture of Debian 10 can be made here: {}", trials(&test)[0]["reason"]));
    }
    let test = test.exits(0).shows("an imitation made of Debian 11");
    let [trial] = &trials(&test)[..] else { panic!("not one trial{test}") };
    assert_eq!(
        (&trial["release"], &trial["outcome"]),
        (&"debian 10 (fixture)".into(), &"passed".into()),
        "{test}"
    );
    assert!(trial["broken"].as_u64() >= Some(12), "{test}");
    assert_eq!((&trial["named"], &trial["mended"]), (&trial["broken"], &trial["broken"]), "{test}");
    is_gone("10", pid);
}

/// Lets the keys of the archive have ended, whose signatures are as good as before.
const EXPIRE: &str = r#"
export GNUPGHOME=/srv/signing
key=$(gpg --batch --with-colons --list-keys | sed -n 's/^fpr:*\([0-9A-F]*\):$/\1/p')
gpg --batch --quiet --faked-system-time 20200101T000000 --quick-set-expire "$key" 2021-01-01
gpg --batch --quiet --export > /usr/share/keyrings/debian-archive-keyring.gpg
gpgconf --kill all
"#;

/// A mirror of one's own: the same packages, signed by another key.
const SIGN_ANEW: &str = r#"
export GNUPGHOME=/srv/own
mkdir -m 700 $GNUPGHOME
gpg --batch --quiet --passphrase '' --quick-gen-key 'Own Mirror <own@mirror.example>' rsa2048 sign never
for archive in debian debian-security; do
    mkdir -p /srv/www/own.example/$archive
    cd /srv/www/archive.debian.org/$archive
    cp -a dists /srv/www/own.example/$archive
    for pool in pool*; do [ ! -d $pool ] || ln -s $PWD/$pool /srv/www/own.example/$archive; done
    cd /srv/www/own.example/$archive
    find dists -name InRelease | while read -r file; do
        gpg --batch --quiet --decrypt $file > Release 2>/dev/null || :
        rm $file
        gpg --batch --quiet --clearsign --output $file Release
    done
done
gpg --batch --quiet --export > /srv/own.gpg
gpgconf --kill all
"#;

#[test]
fn debian_10_after_its_keys_have_expired() {
    let Some(sandbox) = Sandbox::of_release("ten", "10-fixture") else { return };
    let host = sandbox.host();
    assert!(toril(&["sandbox", "list"]).exits(0).stdout.contains("debian 10-fixture"));
    toril(&["check", &host]).exits(3).shows("expires on 2027-02-03, in ");
    sandbox.sudo(EXPIRE);
    toril(&["check", &host]).exits(3).shows("expired on 2021-01-01, ");
    let refused = toril(&["apply", "--yes", &host]).exits(1);
    refused.shows("a key that signs a source has expired").shows("in-release");
    sandbox.sudo("if dpkg -s qemu-system-x86 2>/dev/null; then exit 1; fi");

    // The release files that are known are as good as they were.
    let hashes = sandbox.sudo("find /srv/www -name InRelease | xargs sha256sum | cut -c -64");
    let pins = format!("in_release={}", hashes.split_whitespace().collect::<Vec<_>>().join(" "));
    let with_pins = |command: &str| toril(&[command, &host, "--var", &pins]);
    toril(&["up", "--yes", &host, "--var", &pins]).exits(0).shows("3 passed");
    with_pins("check").exits(0).shows("nothing to change");

    // An altered one is not, whichever way it was altered.
    let archive = "/srv/www/archive.debian.org/debian/dists/buster";
    let spoil = format!(
        "cp {archive}/InRelease /srv/kept; dpkg --purge --force-depends make >/dev/null; rm -rf /var/lib/apt/lists/*"
    );
    sandbox.sudo(&spoil);
    sandbox.sudo(&format!("sed -i 's/^Label: Debian/Label: Evil/' {archive}/InRelease"));
    toril(&["apply", "--yes", &host, "--var", &pins]).exits(1).shows("somebody altered it");
    // Signed well by the expired key, and not pinned.
    sandbox.sudo(&format!(
        "export GNUPGHOME=/srv/signing; cd {archive}; gpg --batch --quiet --decrypt /srv/kept > R 2>/dev/null || :; \
         sed -i 's/^Label: Debian/Label: Evil/' R; rm InRelease; \
         gpg --batch --quiet --faked-system-time 20200601T000000 --clearsign --output InRelease R; gpgconf --kill all"
    ));
    toril(&["apply", "--yes", &host, "--var", &pins]).exits(1).shows("a key that signs a source has expired");
    sandbox.sudo(&format!("if dpkg -s make 2>/dev/null; then exit 1; fi; cp /srv/kept {archive}/InRelease"));
    toril(&["apply", "--yes", &host, "--var", &pins]).exits(0).shows("changed build tools");

    // The other way: a mirror of one's own.
    sandbox.sudo(SIGN_ANEW);
    sandbox.sudo("dpkg --purge --force-depends make >/dev/null; rm -rf /var/lib/apt/lists/*");
    let own = [
        "mirror=http://own.example/debian",
        "security_mirror=http://own.example/debian-security",
        "mirror_key=/srv/own.gpg",
    ];
    let vars: Vec<&str> = own.iter().flat_map(|var| ["--var", var]).collect();
    toril(&[&["apply", "--yes", &host], &vars[..]].concat()).exits(0).shows("changed build tools");
    toril(&[&["check", &host], &vars[..]].concat()).exits(0);
    sandbox.sudo("test ! -e /etc/apt/toril-pins.d/toril-buster");
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
    people.shows("debian 10 (fixture): what is not so: the assertion").shows("exit status 4");
}

const DIRECTORY: &str = "[[resource]]\nname = \"d\"\ndirectory = { path = \"/srv/d\" }\n";

#[test]
fn a_recipe_is_not_tried_on_what_it_is_not_for() {
    if Sandbox::cannot_be_made() {
        return;
    }
    let new = recipe("\"debian 12\"", DIRECTORY);
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
    let mut test = Toril::new(&["recipe", "test", &slow.path()]).spawn();
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
    // What cannot be tried anywhere is no success.
    let old = recipe("\"debian 10\"", DIRECTORY);
    toril(&["recipe", "test", &old.path(), "--sources", &format!("10={}", gone.path())])
        .exits(5)
        .shows("debian 10: skipped: ")
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
