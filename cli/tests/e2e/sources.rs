//! Trees that are sent to a host: the working tree, a commit, and what is left of them.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Finished, Sandbox, Toril, document, toril};

/// A git repository with a suite in it.
pub(crate) struct Repository(TempDir);

impl Repository {
    /// With one commit.
    pub(crate) fn with(suite: &str, files: &[(&str, &str)]) -> Repository {
        let repository = Repository(tempfile::tempdir().unwrap());
        repository.git(&["init", "--quiet", "-b", "main", "."]);
        repository.write("tests/suite.toml", suite);
        files.iter().for_each(|(path, text)| repository.write(path, text));
        repository.commit();
        repository
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(self.path()).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]);
        let output = command.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn commit(&self) {
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--message", "m"]);
    }

    pub(crate) fn toril(&self, arguments: &[&str]) -> Toril {
        Toril::new(arguments).dir(self.path())
    }

    /// Runs its suite.
    pub(crate) fn test(&self, host: &str, more: &[&str]) -> Finished {
        self.toril(&[&["test", host, "--suite", "tests/suite.toml"], more].concat()).run()
    }
}

/// What a run's events say of its source.
fn source(finished: &Finished) -> Value {
    let events = finished.events();
    let found = events.iter().find_map(|event| {
        event.pointer("/run/event").filter(|event| event["event"] == "source-ready").cloned()
    });
    found.unwrap_or_else(|| panic!("no source{finished}"))
}

const SUITE: &str = r#"
[source]
tree = "."
extras = ["build/*.bin"]

[[test]]
name = "shows"
command = ["sh", "-c", "ls -A; cat data build/x.bin; id -un; : > $1/here || exit 1; exit 7", "{{ dirs.source }}", "{{ dirs.test }}"]
"#;

#[test]
fn a_working_tree_is_tested_as_it_is_and_a_commit_as_it_was() {
    let Some(sandbox) = Sandbox::provisioned("sources") else { return };
    let host = sandbox.host();
    let files = [("data", "committed\n"), (".gitignore", "build/\n"), ("build/x.bin", "extra\n")];
    let repository = Repository::with(SUITE, &files);
    let commit = repository.git(&["rev-parse", "HEAD"]);
    repository.write("data", "uncommitted\n");
    repository.write("unknown", "");

    let tree = repository.test(&host, &["--json"]).exits(4);
    let result = tree.results().remove(0);
    let lines: Vec<&str> =
        result["last_lines"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(lines, [".gitignore", "build", "data", "tests", "uncommitted", "extra", "toril"], "{tree}");
    let ready = source(&tree);
    assert_eq!(ready["source"]["commit"], commit.as_str());
    assert_eq!(ready["source"]["changed"], 2, "{ready}");
    let directory = ready["directory"].as_str().unwrap();
    let reproduce = result["reproduce"].as_str().unwrap();
    assert!(reproduce.starts_with(&format!("cd {directory} && sudo -u toril sh -c ")), "{reproduce}");
    assert!(reproduce.contains(&format!(" {directory} ")), "{reproduce}");
    sandbox.is_clean();

    let kept = repository
        .test(&host, &["--keep"])
        .exits(4)
        .shows(&format!("source  the working tree, commit {}", &commit[..12]))
        .shows(&format!("; `toril clean {host}` removes it"));

    let at = repository.test(&host, &["--json", "--ref", "main"]).exits(4);
    assert!(at.stdout.contains("\"committed\"") && !at.stdout.contains("uncommitted"), "{at}");
    assert_eq!(source(&at)["source"]["changed"], 0);
    // The other run has left it there, and what is told to do by hand is done in it.
    let by_hand = kept.stdout.split_once("by hand on the host: ").unwrap().1.lines().next().unwrap();
    sandbox.try_ssh(by_hand).exits(7).shows("uncommitted\nextra\ntoril\n");
    sandbox.is_quiet();
    let told = toril(&["clean", &host, "--dry-run"]).exits(0);
    let told = told.shows("kept /var/lib/toril/runs/run-").shows("tests/suite.toml of ");
    told.shows("less than an hour ago, ");
    let cleaned = toril(&["clean", &host, "--json"]).exits(0);
    let of = cleaned.events().into_iter().find(|event| event["event"] == "kept").unwrap();
    assert!(of["removed"] == true && of["folders"][0]["trouble"].is_null(), "{of}");
    toril(&["clean", &host]).exits(0).shows("nothing was kept");
    sandbox.is_clean();
    // Nothing of the tree is kept with the journal either.
    assert_eq!(sandbox.sudo("find /var/lib/toril/journals -name 'source*' -o -name 'incoming*'"), "");

    repository.test(&host, &["--ref", "no-such"]).exits(2).shows("there is no commit `no-such`");
    repository.write("tests/suite.toml", &SUITE.replace("*.bin", "*.o"));
    repository.test(&host, &[]).exits(2).shows("the extra `build/*.o` is like no file");
}

#[test]
fn a_large_tree_arrives_whole() {
    let Some(sandbox) = Sandbox::provisioned("large") else { return };
    let host = sandbox.host();
    let suite =
        "[source]\ntree = \".\"\n[[test]]\nname = \"sum\"\ncommand = [\"sha256sum\", \"-c\", \"sums\"]\n";
    let repository = Repository::with(suite, &[]);
    let script = "head -c 20000000 /dev/urandom > noise; for n in $(seq 2000); do echo $n > f$n; done; sha256sum noise f* > sums";
    let status = Command::new("sh").args(["-c", script]).current_dir(repository.path()).status();
    assert!(status.unwrap().success());
    repository.commit();
    repository.test(&host, &["--json"]).exits(0).shows("sending ");
    sandbox.is_clean();
}

/// A server of repositories on this machine, whose network the sandboxes have.
struct GitDaemon(Child);

impl GitDaemon {
    /// For all repositories below a directory; with the URL of one of them.
    fn below(directory: &Path, name: &str) -> (GitDaemon, String) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = Command::new("git").arg("--exec-path").output().unwrap().stdout;
        let program = Path::new(String::from_utf8(path).unwrap().trim()).join("git-daemon");
        let mut daemon = Command::new(program);
        daemon.args(["--export-all", "--informative-errors", "--listen=127.0.0.1"]);
        daemon.args([format!("--port={port}"), format!("--base-path={}", directory.display())]);
        let daemon = GitDaemon(daemon.stdin(Stdio::null()).spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "git-daemon does not listen");
            sleep(Duration::from_millis(10));
        }
        (daemon, format!("git://127.0.0.1:{port}/{name}"))
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_host_fetches_a_commit_by_itself() {
    let Some(sandbox) = Sandbox::fresh("fetch") else { return };
    let host = sandbox.host();
    let fetched = |url: &str, reference: &str| {
        format!(
            "run-as = \"nobody\"\n[source]\nfetch = \"{url}\"\nref = \"{reference}\"\n\
             [[test]]\nname = \"shows\"\ncommand = [\"sh\", \"-c\", \"cat data; git rev-parse HEAD; exit 7\"]\n"
        )
    };
    let repository = Repository::with("", &[("data", "first\n")]);
    let first = repository.git(&["rev-parse", "HEAD"]);
    let parent = repository.path().parent().unwrap();
    let (server, url) = GitDaemon::below(parent, repository.path().file_name().unwrap().to_str().unwrap());
    let test = |suite: &str, more: &[&str]| {
        let suite = document(suite);
        toril(&[&["test", &host, "--json", "--suite", &suite.path()], more].concat())
    };
    let without = test(&fetched(&url, "main"), &[]).exits(5);
    without.shows("on the host: cannot run `git`: no such program on the host");
    sandbox.sudo("apt-get update -q; apt-get install -q -y --no-install-recommends git");

    // The newest commit of a branch, and an older one that is named, wherever the branch is by now.
    repository.write("data", "second\n");
    repository.commit();
    let second = repository.git(&["rev-parse", "HEAD"]);
    for (reference, content, commit) in [("main", "second", &second), (&*first, "first", &first)] {
        let run = test(&fetched(&url, reference), &[]).exits(4);
        assert_eq!(run.results()[0]["last_lines"], serde_json::json!([content, commit]), "{run}");
        assert_eq!(source(&run)["source"]["commit"], commit.as_str(), "{run}");
    }
    let pinned = test(&fetched(&url, "main"), &["--ref", &first]).exits(4);
    assert_eq!(source(&pinned)["source"]["commit"], first.as_str(), "{pinned}");
    let wrong = test(&fetched(&url, "no-such"), &[]).exits(5);
    wrong.shows(&format!("cannot fetch no-such of {url} on the host: it exited with status 128: "));
    let wrong = test(&fetched(&format!("{url}x"), "main"), &[]).exits(5);
    assert_eq!(wrong.results()[0]["outcome"], "error", "{wrong}");

    // One of the host's own, which is another user's than the tests'.
    sandbox.sudo(&format!("git clone -q --bare {url} /srv/own"));
    let own = test(&fetched("file:///srv/own", "main"), &[]).exits(4);
    assert_eq!(source(&own)["source"]["commit"], second.as_str(), "{own}");
    drop(server);
    let gone = test(&fetched(&url, "main"), &[]).exits(5);
    gone.shows("unable to connect to 127.0.0.1");
    sandbox.is_clean();
}
