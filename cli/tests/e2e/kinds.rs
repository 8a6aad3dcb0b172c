//! Every kind of resource on a real host: made, drifted on purpose, named, mended, and then left alone. Those that only a
//! real machine has are in `vm`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Finished, Sandbox, Toril, document, toril};

/// How a resource is made to drift, and what a check then says.
struct Drift {
    resource: &'static str,
    by: &'static str,
    shown: &'static str,
}

const RECIPE: &str = r#"
description = "One of each kind"
supports = ["debian 12"]

[[resource]]
name = "a source"
[resource.apt-source]
name = "e2e"
uris = ["http://mirror.example/e2e"]
suites = ["bookworm"]
components = ["main"]
enabled = false

[[resource]]
name = "packages"
apt-packages = { install = ["git", "make", "xz-utils"], hold = true }

[[resource]]
name = "an assertion"
assert = { command = ["make", "--version"], contains = "GNU Make" }
needs = ["packages"]

[[resource]]
name = "a command"
command = { shell = "date > /srv/made", creates = "/srv/made" }

[[resource]]
name = "a directory"
directory = { path = "/srv/place", owner = "debian", mode = "0750" }

[[resource]]
name = "a download"
[resource.download]
url = "file:///srv/original"
sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
path = "/srv/place/copy"

[[resource]]
name = "a file"
file = { path = "/srv/place/file", content = "one\ntwo\n" }

[[resource]]
name = "a checkout"
[resource.git-checkout]
url = "file:///srv/repository"
commit = "COMMIT"
path = "/srv/checkout"

[[resource]]
name = "a group"
group = { name = "e2e" }

[[resource]]
name = "a line"
line = { path = "/etc/environment", line = "E2E=yes", matching = "^E2E=" }

[[resource]]
name = "a membership"
membership = { user = "debian", groups = ["e2e"] }

[[resource]]
name = "a link"
symlink = { path = "/srv/link", target = "/srv/place/file" }

[[resource]]
name = "a template"
template = { path = "/srv/rendered", source = "SOURCE" }

[[resource]]
name = "a tree"
unpack = { archive = "/srv/tree.tar.xz", sha256 = "SHA256", path = "/srv/tree", strip = 1 }

[[resource]]
name = "a build"
[resource.source-build]
source = "/srv/tree"
path = "/srv/prefix"
shell = 'mkdir -p "$DESTDIR$PREFIX" && { cat one; id -un; } > "$DESTDIR$PREFIX/built"'

[[resource]]
name = "a user"
user = { name = "e2e-user", system = true, home = "/srv/place", groups = ["e2e"] }
"#;

const DRIFTS: [Drift; 15] = [
    Drift {
        resource: "a source",
        by: "sed -i s/bookworm/sid/ /etc/apt/sources.list.d/e2e.sources",
        shown: "source: content: 6 lines → 6 lines",
    },
    Drift {
        resource: "packages",
        by: "apt-mark unhold -qq make; dpkg --purge --force-depends make >/dev/null",
        shown: "package make: not installed → installed",
    },
    Drift { resource: "a command", by: "rm /srv/made", shown: "command: there is no /srv/made" },
    Drift { resource: "a directory", by: "chown root /srv/place", shown: "owner: root → debian" },
    Drift { resource: "a download", by: "echo other > /srv/place/copy", shown: "content: sha256 " },
    Drift { resource: "a file", by: "echo three >> /srv/place/file", shown: "content: 3 lines → 2 lines" },
    Drift {
        resource: "a checkout",
        by: "git -c safe.directory=* -C /srv/checkout -c user.name=e -c user.email=e@e.example commit -q --allow-empty -m other",
        shown: "checkout: ",
    },
    Drift { resource: "a group", by: "delgroup --quiet e2e", shown: "group: not there → " },
    Drift {
        resource: "a line",
        by: "sed -i s/E2E=yes/E2E=no/ /etc/environment",
        shown: "content: 1 line → 1 line",
    },
    Drift {
        resource: "a membership",
        by: "gpasswd --delete debian e2e >/dev/null",
        shown: "member of e2e: no → yes",
    },
    Drift { resource: "a link", by: "ln -sfn /srv /srv/link", shown: "target: " },
    Drift {
        resource: "a template",
        by: "sed -i s/debian/nobody/ /srv/rendered",
        shown: "content: 1 line → 1 line",
    },
    Drift { resource: "a tree", by: "echo two > /srv/tree/one", shown: "content: 1 changed, one among them" },
    Drift {
        resource: "a build",
        by: "echo two > /srv/prefix/built",
        shown: "build: 1 changed, built among them",
    },
    Drift { resource: "a user", by: "userdel e2e-user", shown: "user: not there" },
];

/// The names of the resources that were changed.
fn changed(run: &Finished) -> Vec<String> {
    let event = |event: Value| {
        let event = event.pointer("/run/event").cloned()?;
        (event["event"] == "changed").then(|| event["resource"].as_str().unwrap().to_owned())
    };
    run.events().into_iter().filter_map(event).collect()
}

/// A build that is killed with its worker, and one that is interrupted.
fn a_build_ends_and_nothing_is_left(sandbox: &Sandbox, recipe: &str) {
    let host = sandbox.host();
    let script = "shell = 'mkdir -p \"$DESTDIR$PREFIX\"";
    let text = fs::read_to_string(recipe).unwrap();
    assert!(text.contains(script), "{text}");
    let slow =
        document(&text.replace(script, "shell = 'touch begun; sleep 600; mkdir -p \"$DESTDIR$PREFIX\""));
    let slow = slow.path();
    let arguments = ["apply", &host, "--recipe", &slow, "--yes"];
    let begun = || {
        let apply = Toril::new(&arguments).spawn();
        sandbox.sudo("for i in $(seq 6000); do [ \"$(find /srv/.toril-build-prefix -name begun)\" ] && exit; sleep 0.05; done; exit 1");
        apply
    };
    let gone =
        "for i in $(seq 1200); do ls -A /srv | grep -q toril || exit 0; sleep 0.1; done; ls -A /srv; exit 1";

    // The only worker there is then the one that is to be killed.
    sandbox.is_quiet();
    let apply = begun();
    let processes = sandbox.process_ids();
    let worker = processes.iter().find(|(_, line)| line.contains(" agent-worker ")).unwrap();
    Toril::of(Path::new("kill"), &["-KILL", &worker.0.to_string()]).run().exits(0);
    apply.wait().exits(1).shows("the agent's worker died before the run ended: it was killed");
    sandbox.sudo(gone);
    sandbox.is_quiet();
    assert_eq!(sandbox.sudo("cat /srv/prefix/built"), "one\nnobody\n", "the old one stays");

    let apply = begun();
    apply.signal(2);
    let ended = apply.wait().exits(1);
    ended.shows("a build: the build was ended, since the run was stopped");
    sandbox.sudo(gone);
    sandbox.is_quiet();
}

#[test]
fn each_is_made_and_its_drift_is_named_and_mended() {
    let Some(sandbox) = Sandbox::fresh("kinds") else { return };
    let host = sandbox.host();
    // git does not ask for its own repository to be there before the recipe has installed git.
    sandbox.sudo("apt-get update -qq; apt-get install -qq --no-install-recommends git >/dev/null; echo hello > /srv/original");
    let commit = sandbox.sudo(
        "git init -q /srv/repository && cd /srv/repository && echo a > a && git add a && \
         git -c user.name=e -c user.email=e@e.example commit -q -m a && git rev-parse HEAD",
    );
    let sha256 = sandbox.sudo(
        "apt-get install -qq --no-install-recommends xz-utils >/dev/null; mkdir /srv/t && echo one > /srv/t/one && \
         tar -C /srv -cJf /srv/tree.tar.xz t && sha256sum /srv/tree.tar.xz | cut -d' ' -f1",
    );
    let template = document("login {{ host.user }} of {{ facts.codename }}\n");
    let template_path = template.path();
    let template_name = Path::new(&template_path).file_name().unwrap().to_str().unwrap();
    let recipe = RECIPE.replace("COMMIT", commit.trim()).replace("SHA256", sha256.trim());
    let recipe = document(&recipe.replace("SOURCE", template_name));
    let recipe = recipe.path();
    let arguments = |command: &'static str| [command, &host, "--recipe", &recipe];
    toril(&arguments("check")).exits(3).shows("15 of 16 resources have to change");
    let reboot = toril(&[&arguments("apply")[..], &["--yes", "--reboot"]].concat()).exits(1);
    reboot.shows("this host is a container (toril-sandbox)").hides("changed ");
    toril(&[&arguments("apply")[..], &["--yes"]].concat()).exits(0).shows("nothing left to change");
    toril(&arguments("check")).exits(0).shows("nothing to change in 16 resources");

    for Drift { resource, by, shown } in DRIFTS {
        sandbox.sudo(by);
        let check = toril(&arguments("check")).exits(3);
        check.shows(&format!("  ~ {resource}\n      {shown}"));
        let apply = toril(&[&arguments("apply")[..], &["--yes", "--json"]].concat()).exits(0);
        // A group takes its members along.
        let mended = changed(&apply);
        let expected: &[&str] = match resource {
            "a group" => &["a group", "a user", "a membership"],
            _ => &[resource],
        };
        assert_eq!(mended, expected, "{resource}{apply}");
        toril(&arguments("check")).exits(0).shows("nothing to change");
    }
    assert_eq!(sandbox.sudo("cat /srv/prefix/built"), "one\nnobody\n");
    // An archive with one byte changed.
    let change = "printf x | dd of=/srv/tree.tar.xz bs=1 seek=40 conv=notrunc status=none";
    sandbox.sudo(&format!("mv /srv/tree /root/ && cp /srv/tree.tar.xz /root/ && {change}"));
    toril(&[&arguments("apply")[..], &["--yes"]].concat()).exits(1).shows("nothing of it is unpacked");
    assert_eq!(sandbox.sudo("ls -A /srv | grep -e tree -e toril"), "tree.tar.xz\n");
    sandbox.sudo("mv /root/tree /root/tree.tar.xz /srv/");
    a_build_ends_and_nothing_is_left(&sandbox, &recipe);
    // What an assertion says is not mended by anybody: it fails.
    sandbox.sudo("mv /usr/bin/make /usr/bin/make.away && ln -s /bin/true /usr/bin/make");
    toril(&arguments("check")).exits(3).shows("  ~ an assertion");
    toril(&[&arguments("apply")[..], &["--yes"]].concat()).exits(1).shows("an assertion");
    sandbox.sudo("mv /usr/bin/make.away /usr/bin/make");
    toril(&arguments("check")).exits(0);
}
