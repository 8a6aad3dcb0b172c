use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use sha2::{Digest, Sha256};

use super::*;
use crate::resource::testing::{self, Fake};

/// A place on this machine to build in, and sources unpacked from an archive.
struct Scene {
    dir: tempfile::TempDir,
    fake: Fake,
    machine: Machine,
}

/// Nothing: this machine cannot build so.
fn scene() -> Option<Scene> {
    let machine = Machine::this();
    let namespaces = ["--pid", "--fork", "--mount-proc", "--net", "true"];
    if !geteuid().is_root() || Command::new("unshare", namespaces).output().is_err() {
        eprintln!("skipped: needs root, and namespaces");
        return None;
    }
    let scene = Scene { dir: tempfile::tempdir().unwrap(), fake: Fake::new(), machine };
    // As /usr/local is.
    fs::set_permissions(scene.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    scene.sources("one");
    Some(scene)
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn context(&self) -> Context<'_> {
        self.fake.context_on(&self.machine)
    }

    fn sources(&self, text: &str) {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, "text", text.as_bytes()).unwrap();
        let bytes = tar.into_inner().unwrap();
        fs::write(self.path("source.tar"), &bytes).unwrap();
        fs::set_permissions(self.path("source.tar"), fs::Permissions::from_mode(0o644)).unwrap();
        let hash = hex::encode(Sha256::digest(&bytes));
        let (archive, path) = (self.path("source.tar"), self.path("source"));
        let (archive, path) = (archive.display(), path.display());
        let keys = format!("archive = \"{archive}\", path = \"{path}\", sha256 = \"{hash}\"");
        let unpack = testing::read(&format!("unpack = {{ {keys} }}")).unwrap();
        unpack.apply(self.context(), &[], &mut |_| {}).unwrap();
    }

    fn resource(&self, script: &str, more: &str) -> Box<dyn Resource> {
        self.resource_at("prefix", script, more)
    }

    fn resource_at(&self, place: &str, script: &str, more: &str) -> Box<dyn Resource> {
        let (source, path) = (self.path("source"), self.path(place));
        let (source, path) = (source.display(), path.display());
        let keys = format!("source = \"{source}\", path = \"{path}\", shell = '''{script}'''{more}");
        testing::read(&format!("source-build = {{ {keys} }}")).unwrap()
    }

    fn apply(&self, resource: &dyn Resource) -> Result<(), String> {
        let judged = resource.judge(self.context()).unwrap();
        let result = resource.apply(self.context(), &judged.changes, &mut |_| {});
        let names: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let left = names.iter().filter(|name| name.to_str().unwrap().starts_with(".toril")).count();
        assert_eq!(left, 0, "{names:?}");
        let builds = names.iter().filter(|name| name.to_str().unwrap().starts_with("prefix-")).count();
        assert!(builds <= 1, "{names:?}");
        result.map_err(|error| error.to_string())
    }

    fn before(&self, resource: &dyn Resource) -> String {
        resource.judge(self.context()).unwrap().changes[0].before.clone()
    }

    fn built(&self) -> String {
        fs::read_to_string(self.path("prefix/bin/tool")).unwrap()
    }
}

const GOOD: &str = r#"
mkdir -p "$DESTDIR$PREFIX/bin"
{ cat text; id -un; test -w . ; grep -c : /proc/net/dev; cat /proc/self/oom_score_adj; } > "$DESTDIR$PREFIX/bin/tool"
chmod 6755 "$DESTDIR$PREFIX/bin/tool"
ln -s bin/tool "$DESTDIR$PREFIX/link"
sleep 300 &
echo "$JOBS $MAKEFLAGS"
"#;

#[test]
fn a_place_is_no_text_of_a_shell() {
    let Some(scene) = scene() else { return };
    let resource = scene.resource_at("it's $(here)", GOOD, "");
    scene.apply(&*resource).unwrap();
    assert!(fs::read_to_string(scene.path("it's $(here)/bin/tool")).unwrap().starts_with("one"));
}

#[test]
fn is_built_by_nobody_and_again_when_something_else_is_wanted() {
    let Some(scene) = scene() else { return };
    let resource = scene.resource(GOOD, "");
    assert_eq!(scene.before(&*resource), "not there");
    scene.apply(&*resource).unwrap();
    assert_eq!(resource.judge(scene.context()).unwrap(), Judged::default());
    // One interface, and it is down; the first to go when memory runs out.
    assert_eq!(scene.built(), "onenobody\n1\n1000\n");
    let metadata = fs::metadata(scene.path("prefix/link")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o755, 0));

    fs::write(scene.path("prefix/bin/tool"), "other").unwrap();
    assert_eq!(scene.before(&*resource), "1 changed, bin/tool among them");
    scene.apply(&*resource).unwrap();
    assert_eq!(scene.built(), "onenobody\n1\n1000\n");

    scene.sources("two");
    assert!(scene.before(&*resource).starts_with("built from sha256 "));
    scene.apply(&*resource).unwrap();
    assert!(scene.built().starts_with("two"));

    let other = scene.resource("mkdir -p $DESTDIR$PREFIX/bin; echo other > $DESTDIR$PREFIX/bin/tool", "");
    assert_eq!(scene.before(&*other), "built by another script");
    scene.apply(&*other).unwrap();
    assert_eq!(scene.built(), "other\n");

    fs::remove_dir_all(scene.path("source")).unwrap();
    let judged = other.judge(scene.context()).unwrap();
    assert!(judged.undecidable.unwrap().starts_with("there is no source in "));
}

#[test]
fn builds_of_other_places_stay() {
    let Some(scene) = scene() else { return };
    let script = |text: &str| format!("mkdir -p $DESTDIR$PREFIX; echo {text} > $DESTDIR$PREFIX/f");
    let apply = |place: &str, text: &str| scene.apply(&*scene.resource_at(place, &script(text), "")).unwrap();
    let read = |path: &str| fs::read_to_string(scene.path(path)).unwrap();
    let builds = |place: &str| {
        let names = fs::read_dir(scene.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| Stamp::is_name(name.to_str().unwrap(), place)).count()
    };
    apply("qemu-micro", "micro");
    apply("qemu", "first");
    // Its name is that of a build of the other place.
    let like = "qemu-0123456789ab";
    fs::create_dir(scene.path(like)).unwrap();
    let stamp = fs::read(scene.path("qemu-micro").join(stamp::STAMP)).unwrap();
    fs::write(scene.path(like).join(stamp::STAMP), stamp).unwrap();
    apply("qemu", "second");
    assert_eq!((read("qemu/f"), read("qemu-micro/f")), ("second\n".into(), "micro\n".into()));
    assert!(scene.path(like).exists(), "it was built for another place");
    assert_eq!((builds("qemu"), builds("qemu-micro")), (2, 1));
    apply("qemu-micro", "third");
    assert_eq!((read("qemu/f"), read("qemu-micro/f")), ("second\n".into(), "third\n".into()));
    assert_eq!(builds("qemu-micro"), 1);
}

const SHOW: &str = "mkdir -p $DESTDIR$PREFIX; { ls -A; cat text; } > $DESTDIR$PREFIX/f";

#[test]
fn a_build_has_the_files_that_were_unpacked_and_no_others() {
    let Some(scene) = scene() else { return };
    let resource = scene.resource(SHOW, "");
    fs::write(scene.path("source/GNUmakefile"), "").unwrap();
    scene.apply(&*resource).unwrap();
    assert_eq!(fs::read_to_string(scene.path("prefix/f")).unwrap(), "text\none");
    fs::write(scene.path("source/text"), "changed").unwrap();
    fs::write(scene.path("prefix/f"), "drift").unwrap();
    let error = scene.apply(&*resource).unwrap_err();
    assert!(error.contains("is not as it was unpacked (1 changed, text among them)"), "{error}");
}

#[test]
fn a_build_has_the_files_of_its_commit_and_no_others() {
    let Some(scene) = scene() else { return };
    if scene.machine.find_program("git").is_none() {
        eprintln!("skipped: needs git");
        return;
    }
    let source = scene.path("source");
    let git = |args: &[&str]| {
        let identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"];
        Command::new("git", identity.iter().chain(args)).dir(&source).output().unwrap().trim().to_owned()
    };
    fs::remove_file(source.join(crate::resource::manifest::MANIFEST)).unwrap();
    // What is kept out of archives is of the commit all the same.
    fs::write(source.join(".gitattributes"), "text export-ignore\n").unwrap();
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "m"]);
    let commit = git(&["rev-parse", "HEAD"]);
    git(&["checkout", "--quiet", "--detach"]);
    fs::write(source.join("GNUmakefile"), "").unwrap();
    fs::write(source.join("text"), "changed").unwrap();
    // A checkout is its owner's, as whom git is run.
    for owner in [0, 1] {
        for path in toril_archive::everything(&source).unwrap() {
            std::os::unix::fs::lchown(source.join(path), Some(owner), Some(owner)).unwrap();
        }
        chown(&source, Some(owner), Some(owner)).unwrap();
        let resource = scene.resource(&format!("{SHOW} # {owner}"), "");
        scene.apply(&*resource).unwrap();
        assert_eq!(fs::read_to_string(scene.path("prefix/f")).unwrap(), ".gitattributes\ntext\none");
        let stamp = Stamp::read(&scene.path("prefix")).unwrap().unwrap();
        assert_eq!(stamp.source, format!("commit {commit}"));
        assert_eq!(resource.judge(scene.context()).unwrap(), Judged::default());
    }
    chown(&source, Some(0), Some(0)).unwrap();
    chown(source.join(".git"), Some(0), Some(0)).unwrap();
    git(&["checkout", "--quiet", "-b", "work"]);
    let resource = scene.resource(&format!("{SHOW} # 1"), "");
    assert_eq!(resource.judge(scene.context()).unwrap(), Judged::default(), "it is the same commit");
    fs::write(source.join(".git/HEAD"), "ref: refs/heads/none\n").unwrap();
    let error = resource.judge(scene.context()).unwrap_err().to_string();
    assert!(error.contains("git cannot tell which commit"), "{error}");
}

#[test]
fn what_fails_leaves_the_old_one_as_it_was() {
    let Some(scene) = scene() else { return };
    scene.apply(&*scene.resource(GOOD, "")).unwrap();
    let good = scene.built();
    for (script, more, why) in [
        (
            "echo begun; echo no such luck >&2; exit 7; echo over",
            "",
            "exited with status 7; its last lines:\n  begun\n  no such luck",
        ),
        ("true", "", "the build installed nothing"),
        ("mkdir -p $DESTDIR$PREFIX", "", "the build installed nothing"),
        ("mkdir -p ${DESTDIR}${PREFIX%/*}; ln -s /etc $DESTDIR$PREFIX", "", "the build installed nothing"),
        ("mkdir -p $DESTDIR$PREFIX; ln -s /etc/passwd $DESTDIR$PREFIX/x", "", "leads to /etc/passwd"),
        ("mkdir -p $DESTDIR$PREFIX; mkfifo $DESTDIR$PREFIX/x", "", "neither a file nor a directory"),
        (
            "echo slow; sleep 100",
            ", deadline = \"1s\"",
            "was not done by its deadline and was ended; its last lines:\n  slow",
        ),
        ("true", ", run-as = \"root\"", "not run as root"),
        ("true", ", run-as = \"toril-none\"", "there is no user `toril-none`"),
    ] {
        let error = scene.apply(&*scene.resource(script, more)).unwrap_err();
        assert!(error.contains(why), "{script}: {error}");
        assert_eq!(scene.built(), good, "{script}");
    }
}

#[test]
fn a_build_has_nothing_shown_that_it_cannot_read() {
    let Some(scene) = scene() else { return };
    let secret = scene.path("secret");
    fs::write(&secret, "root's own\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let script = format!("echo begun; ln -sf {} ../log; chmod 777 ..; exit 7", secret.display());
    let error = scene.apply(&*scene.resource(&script, "")).unwrap_err();
    assert!(error.contains("exited with status 7; its last lines:\n  begun"), "{error}");
    assert!(!error.contains("root's own"), "{error}");
}

#[test]
fn one_ends_at_once_where_the_run_is_stopped() {
    let Some(scene) = scene() else { return };
    let start = Instant::now();
    let stopped = || {
        thread::sleep(Duration::from_millis(300));
        STOP.store(true, Ordering::Relaxed);
    };
    static STOP: AtomicBool = AtomicBool::new(false);
    let resource = scene.resource("trap '' TERM; sleep 300", "");
    let error = thread::scope(|scope| {
        scope.spawn(stopped);
        let context = Context { stop: &STOP, ..scene.context() };
        resource.apply(context, &[], &mut |_| {}).unwrap_err().to_string()
    });
    assert_eq!(error, "the build was ended, since the run was stopped");
    assert!(start.elapsed() < Duration::from_secs(20));
    let names = fs::read_dir(scene.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.map(|name| name.into_string().unwrap()).any(|name| name.starts_with(".toril")));
}

#[test]
fn what_is_something_else_stays() {
    let Some(scene) = scene() else { return };
    fs::create_dir(scene.path("prefix")).unwrap();
    let resource = scene.resource(GOOD, "");
    assert_eq!(scene.before(&*resource), "not a link to what was built");
    let error = scene.apply(&*resource).unwrap_err();
    assert!(error.contains("move it away"), "{error}");
}

#[test]
fn the_source_of_a_package_is_known_by_its_version() {
    let fake = Fake::new();
    fs::create_dir_all(fake.path("var/lib/dpkg")).unwrap();
    let resource = testing::read(
        "source-build = { path = \"/etc/q\", package = \"qemu-system-x86\", shell = \"make\" }",
    )
    .unwrap();
    let status = "Package: qemu-system-x86\nStatus: install ok installed\nArchitecture: amd64\n";
    let of = |rest: &str| {
        fs::write(fake.path("var/lib/dpkg/status"), format!("{status}{rest}\n")).unwrap();
        fake.changes(&*resource)
    };
    let is = |what: &str| [format!("build: not there → built from {what}")];
    assert_eq!(of("Version: 1:7.2-1+b3\nSource: qemu (1:7.2-1)\n"), is("qemu 1:7.2-1"));
    assert_eq!(of("Version: 1:7.2-1\nSource: qemu\n"), is("qemu 1:7.2-1"));
    assert_eq!(of("Version: 1:7.2-1\n"), is("qemu-system-x86 1:7.2-1"));
}

#[test]
fn wrong_words_are_refused() {
    testing::refuses(&[
        ("source-build = { path = \"/p\", shell = \"x\" }", "either a `source`"),
        (
            "source-build = { path = \"/p\", shell = \"x\", source = \"/s\", package = \"p\" }",
            "either a `source`",
        ),
        ("source-build = { path = \"/p\", source = \"/s\" }", "`shell` is missing"),
        ("source-build = { path = \"/p\", source = \"/s\", shel = \"x\" }", "did you mean `shell`?"),
    ]);
}
