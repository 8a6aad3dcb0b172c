use std::os::unix::fs::symlink;
use std::process::Command;

use toril_archive::{Links, Rules, unpack};

use super::super::git::HOOKS;
use super::*;

/// A repository with a commit, and what the user has done since.
struct Repository(tempfile::TempDir);

impl Repository {
    fn new() -> Repository {
        let repository = Repository(tempfile::tempdir().unwrap());
        repository.git(&["init", "--quiet", "-b", "main", "."]);
        repository.write(".gitignore", "*.o\n");
        repository.write("src/main.c", "one");
        repository.write("gone", "x");
        symlink("src/main.c", repository.path().join("link")).unwrap();
        repository.commit();
        repository
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, arguments: &[&str]) {
        let own = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"];
        let mut command = Command::new("git");
        command.current_dir(self.path()).args(own).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for name in HOOKS {
            command.env_remove(name);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn commit(&self) {
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--message", "m"]);
    }

    fn tree(&self, directory: &str, extras: &[&str]) -> Result<Supply, SourceError> {
        let extras = extras.iter().map(|extra| (*extra).to_owned()).collect();
        let source = Source::Tree { directory: directory.into(), extras };
        // From where a suite may be.
        Supply::make(&source, &self.path().join("src"), &mut |_| {})
    }

    fn at(&self, reference: &str) -> Result<Supply, SourceError> {
        Supply::make(&Source::Ref(reference.into()), self.path(), &mut |_| {})
    }
}

fn info(supply: &Supply) -> SourceInfo {
    match &supply.order {
        SourceOrder::Sent(info) => info.clone(),
        SourceOrder::Fetch { .. } => panic!("nothing is sent"),
    }
}

/// The paths and texts of the files that are sent.
fn sent(supply: &Supply) -> Vec<(String, String)> {
    let into = tempfile::tempdir().unwrap();
    let rules = Rules { owner: None, links: Links::Inside, most_bytes: 1 << 20, most_entries: 100 };
    unpack(supply.parcel.as_ref().unwrap().open().unwrap(), into.path(), &rules).unwrap();
    let files = everything(into.path()).unwrap().into_iter();
    let read = files.filter(|path| !into.path().join(path).is_dir()).map(|path| {
        (path.to_str().unwrap().to_owned(), fs::read_to_string(into.path().join(&path)).unwrap())
    });
    let mut read: Vec<_> = read.collect();
    read.sort();
    read
}

fn names(supply: &Supply) -> Vec<String> {
    sent(supply).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn the_working_tree_is_what_git_knows_as_it_is_now_and_what_is_named() {
    let repository = Repository::new();
    repository.write("src/main.c", "two");
    repository.write("new", "staged");
    repository.git(&["add", "new"]);
    fs::remove_file(repository.path().join("gone")).unwrap();
    repository.write("unknown", "x");
    repository.write("build/a.o", "object");
    repository.write("build/b.txt", "x");
    let supply = repository.tree(".", &["build/*.o"]).unwrap();
    let content = sent(&supply);
    let names: Vec<&str> = content.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [".gitignore", "build/a.o", "link", "new", "src/main.c"]);
    assert_eq!(content[4].1, "two");
    // The extra, and main.c, new and gone.
    let info = info(&supply);
    assert_eq!((info.changed, info.commit.map(|commit| commit.len())), (4, Some(40)));
    assert_eq!(supply.notes.len(), 1, "{:?}", supply.notes);
    let part = repository.tree("src", &[]).unwrap();
    assert_eq!(sent(&part), [("main.c".to_owned(), "two".to_owned())]);
    let error = repository.tree(".", &["build/*.obj"]).unwrap_err();
    assert!(error.to_string().contains("`build/*.obj` is like no file"), "{error}");
}

#[test]
fn a_commit_is_sent_whatever_the_working_tree_is() {
    let repository = Repository::new();
    repository.write(".gitattributes", "src export-ignore\n");
    repository.write("src/main.c", "two");
    repository.commit();
    repository.write("src/main.c", "three");
    let supply = repository.at("HEAD").unwrap();
    let content = sent(&supply);
    assert!(content.contains(&("src/main.c".into(), "two".into())), "{content:?}");
    assert!(content.contains(&("gone".into(), "x".into())), "{content:?}");
    assert_eq!(info(&supply).changed, 0);
    assert!(sent(&repository.at("HEAD~1").unwrap()).contains(&("src/main.c".into(), "one".into())));
    // Nothing of the repository is changed by it.
    assert_eq!(fs::read_to_string(repository.path().join("src/main.c")).unwrap(), "three");
    let error = repository.at("nothing").unwrap_err();
    assert!(error.to_string().contains("there is no commit `nothing`"), "{error}");
    assert!(repository.at("HEAD^{tree}").is_err());
}

#[test]
fn submodules_are_sent_with_the_working_tree_and_named_with_a_commit() {
    let inner = Repository::new();
    let repository = Repository::new();
    let url = inner.path().to_str().unwrap();
    repository.git(&["submodule", "--quiet", "add", url, "inner"]);
    repository.commit();
    fs::write(repository.path().join("inner/src/main.c"), "changed").unwrap();
    let supply = repository.tree(".", &[]).unwrap();
    assert!(sent(&supply).contains(&("inner/src/main.c".into(), "changed".into())));
    assert_eq!(info(&supply).changed, 1);
    let supply = repository.at("main").unwrap();
    assert!(!names(&supply).contains(&"inner/src/main.c".into()));
    assert!(supply.notes[0].contains("1 submodule "), "{:?}", supply.notes);
    repository.git(&["submodule", "--quiet", "deinit", "--force", "inner"]);
    let error = repository.tree(".", &[]).unwrap_err();
    assert!(matches!(error, SourceError::Submodule(_)), "{error}");
}

#[test]
fn what_is_no_repository_and_what_holds_one() {
    let nothing = tempfile::tempdir().unwrap();
    let source = Source::Tree { directory: ".".into(), extras: Vec::new() };
    let error = Supply::make(&source, nothing.path(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("not a git repository"), "{error}");
    let repository = Repository::new();
    fs::create_dir(repository.path().join("nested")).unwrap();
    let nested = Git::at(&repository.path().join("nested"));
    nested.run(&["init", "--quiet", "."].map(OsStr::new)).unwrap();
    repository.write("nested/x", "x");
    let error = repository.tree(".", &["nested"]).unwrap_err();
    assert!(matches!(error, SourceError::Nested(_)), "{error}");
}

#[test]
fn a_repository_without_a_commit_has_a_working_tree() {
    let repository = Repository(tempfile::tempdir().unwrap());
    repository.git(&["init", "--quiet", "."]);
    repository.write("src/main.c", "one");
    assert!(matches!(repository.tree(".", &[]), Err(SourceError::Empty(_))));
    repository.git(&["add", "."]);
    let supply = repository.tree(".", &[]).unwrap();
    assert_eq!(info(&supply), SourceInfo { origin: "the working tree".into(), commit: None, changed: 1 });
}
