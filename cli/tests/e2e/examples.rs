//! The examples of the book's page of resource kinds, each carried out on a host.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::harness::{Sandbox, toril};

const PAGE: &str = include_str!("../../../docs/src/reference/resources.md");

/// Why the example of a kind is not carried out on a container of Debian 12.
const ELSEWHERE: [(&str, &str); 5] = [
    ("apt-packages", "its mirror is nobody's; `kinds` and `releases` install from real and from local ones"),
    ("apt-source", "it is for Debian 10; `releases` has its like on the imitation of that"),
    ("line", "it reloads a unit, and a container has no systemd: see `vm`"),
    ("source-build", "it takes a compiler; `kinds` builds something small"),
    ("systemd-unit", "a container has no systemd: see `vm`"),
];

/// The example of each kind.
pub(crate) fn examples() -> BTreeMap<&'static str, &'static str> {
    let sections = PAGE.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap());
    let examples = sections.map(|(kind, section)| {
        let (_, rest) = section.split_once("\n```toml recipe\n").unwrap();
        (kind, rest.split_once("\n```").unwrap().0)
    });
    examples.collect()
}

/// Writes an example into a directory, with the texts that stand beside it.
pub(crate) fn write(directory: &Path, text: &str) -> String {
    for block in PAGE.split("\n```hbs ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        fs::write(directory.join(name), format!("{}\n", rest.split_once("\n```").unwrap().0)).unwrap();
    }
    let path = directory.join("example.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_example_of_a_kind_does_what_it_says() {
    let Some(sandbox) = Sandbox::provisioned("examples") else { return };
    let host = sandbox.host();
    // What the examples name is elsewhere, so it is put here.
    sandbox.sudo("mkdir /srv/there && printf test > /srv/there/hello.elf");
    let commit = sandbox.sudo(
        "git init -q /srv/there/repository && cd /srv/there/repository && \
         git -c user.name=e -c user.email=e@e.example commit -q --allow-empty -m a && git rev-parse HEAD",
    );
    let archive = sandbox.sudo(
        "mkdir /srv/there/compiler && touch /srv/there/compiler/README && \
         apt-get install -qq --no-install-recommends xz-utils >/dev/null && cd /srv/there && \
         tar -cJf compiler.tar.xz compiler && sha256sum compiler.tar.xz | cut -d' ' -f1",
    );
    let here = [
        ("https://compiler.example/compiler-1.0.tar.xz", "file:///srv/there/compiler.tar.xz"),
        ("2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", archive.trim()),
        ("https://ci.example/kernels/hello.elf", "file:///srv/there/hello.elf"),
        ("https://git.example/unikernel.git", "file:///srv/there/repository"),
        ("2fd4e1c67a2d28fced849ee1bb76e7391b93eb12", commit.trim()),
    ];
    let examples = examples();
    for (kind, reason) in ELSEWHERE {
        assert!(examples.contains_key(kind), "there is no `{kind}`, which is not carried out here: {reason}");
    }
    let dir = tempfile::tempdir().unwrap();
    for (kind, text) in examples {
        if ELSEWHERE.iter().any(|(elsewhere, _)| *elsewhere == kind) {
            continue;
        }
        let text = here.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here));
        let recipe = write(dir.path(), &text);
        toril(&["apply", &host, "--recipe", &recipe]).exits(0).hides("failed").hides("skipped");
        toril(&["check", &host, "--recipe", &recipe]).exits(0).shows("nothing to change in ");
    }
}
