use std::path::PathBuf;

use super::*;
use crate::recipe::{Bundle, HostInfo, Recipe, Release, sample_facts};

/// A fake root with accounts, on which resources are tried.
pub(crate) struct Fake {
    root: tempfile::TempDir,
    machine: Machine,
    pub(crate) facts: Facts,
}

impl Fake {
    pub(crate) fn new() -> Fake {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = "root:x:0:0::/root:/bin/bash\ntoril:x:900:900::/home/t:/usr/sbin/nologin\n";
        std::fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(root.path().join("etc/group"), "root:x:0:\nkvm:x:105:toril\ngames:x:60:\n").unwrap();
        let machine = Machine::at(root.path());
        Fake { root, machine, facts: sample_facts(Release::parse("debian 12").unwrap()) }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub(crate) fn context(&self) -> Context<'_> {
        self.context_on(&self.machine)
    }

    /// With another machine's files.
    pub(crate) fn context_on<'c>(&'c self, machine: &'c Machine) -> Context<'c> {
        Context { machine, facts: &self.facts, stop: &NEVER }
    }

    pub(crate) fn changes(&self, resource: &dyn Resource) -> Vec<String> {
        let judged = resource.judge(self.context()).unwrap();
        judged
            .changes
            .iter()
            .map(|change| format!("{}: {} → {}", change.what, change.before, change.after))
            .collect()
    }

    /// Carries out what is to change. Setting owners needs root.
    pub(crate) fn apply(&self, resource: &dyn Resource) {
        let judged = resource.judge(self.context()).unwrap();
        resource.apply(self.context(), &judged.changes, &mut |_| {}).unwrap();
    }
}

/// Reads a resource as a recipe would hold it, such as `group = { name = "g" }`.
pub(crate) fn read(text: &str) -> Result<Box<dyn Resource>, Vec<String>> {
    let text =
        format!("description = \"d\"\nsupports = [\"debian 12\"]\n[[resource]]\nname = \"r\"\n{text}\n");
    let host = HostInfo { name: "h".into(), user: "u".into() };
    let facts = sample_facts(Release::parse("debian 12").unwrap());
    let recipe = Recipe::read(&Bundle::of("r.toml", text, Default::default()), &facts, &host)
        .map_err(|problems| problems.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(recipe.resources.into_iter().next().unwrap().resource)
}

/// Each text is refused, and what is said of it holds the expected words.
pub(crate) fn refuses(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let problems = read(text).map(|resource| format!("{resource:?}")).unwrap_err().join("\n");
        assert!(problems.contains(expected), "{expected:?} is not in {problems:?}");
        assert!(problems.starts_with("r.toml:"), "{problems}");
    }
}
