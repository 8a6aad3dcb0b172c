//! What a suite builds on the host before its tests, and what is kept of both.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::Sandbox;
use crate::sources::Repository;

const SUITE: &str = r#"
[source]
tree = "."
extras = ["stale.elf"]

[[build]]
name = "kernel"
command = ["sh", "-c", "id -un > kernel.elf; echo $CFLAGS >> kernel.elf; touch \"$HOME/x\""]
dir = "src"
outputs = ["kernel.elf"]
[build.env]
CFLAGS = "-g"

[[build]]
name = "stale"
command = ["sh", "-c", "echo \"make: 'stale.elf' is up to date\""]
outputs = ["stale.elf"]

[[build]]
name = "broken"
command = ["sh", "-c", "echo compiling; echo 'main.c:3: error: no' >&2; exit 2"]
outputs = ["broken.elf"]

[[build]]
name = "slow"
command = ["sleep", "60"]
deadline = "500ms"
outputs = ["slow.elf"]

[[test]]
name = "boots"
needs-build = ["kernel"]
command = ["grep", "-cx", "-e", "toril", "-e", "-g", "src/kernel.elf"]

[[test]]
name = "old"
needs-build = ["kernel", "stale"]
command = ["true"]

[[test]]
name = "all"
command = ["true"]

[[test]]
name = "late"
needs-build = ["slow"]
command = ["true"]

[[test]]
name = "a guest"
needs-build = []
deadline = "120s"
guest = { kernel = "builtin:toolkit", append = "console=report", consoles = ["report"] }
"#;

#[test]
fn nothing_passes_that_was_not_built_now() {
    let Some(sandbox) = Sandbox::provisioned("builds") else { return };
    let host = sandbox.host();
    let files = [("src/main.c", ""), (".gitignore", "*.elf\n"), ("stale.elf", "of yesterday")];
    let repository = Repository::with(SUITE, &files);

    let kept = tempfile::tempdir().unwrap();
    let into = kept.path().join("below").display().to_string();
    let run = repository.test(&host, &["--json", "--artifacts", &into]).exits(5);
    let results = run.results();
    let of = |index: usize, key: &str| results[index][key].as_str().unwrap_or_default().to_owned();
    assert_eq!(of(0, "outcome"), "passed", "{run}");
    for (index, reason, last) in [
        (
            1,
            "the build `stale` failed: it said that all is well, and did not make its output ",
            "make: 'stale.elf'",
        ),
        (2, "the build `stale` failed: ", "make: "),
        (3, "the build `slow` failed: it was not done within its deadline of 0.5 s", ""),
    ] {
        assert_eq!(of(index, "outcome"), "error", "{run}");
        assert!(of(index, "reason").starts_with(reason), "{run}");
        let lines = results[index]["last_lines"].to_string();
        assert!(lines.contains(last), "{lines}");
    }
    sandbox.is_clean();
    artifacts_are_whole(&kept.path().join("below"));

    // Only what is needed is built, and a test that is not blamed for it passes.
    repository.test(&host, &["--filter", "boots"]).exits(0).shows("built kernel in ").hides("not built");
    let report = repository.path().join("junit.xml");
    let to = format!("junit={}", report.display());
    repository
        .test(&host, &["--filter", "all", "--report", &to])
        .exits(5)
        .shows("not built broken (")
        .shows("): it exited with status 2")
        .shows("main.c:3: error: no")
        .shows("by hand on the host: cd /var/lib/toril/runs/")
        .shows("all that they printed is kept on the host; `toril attach ");
    // Later, and for a run that has long ended.
    let later = repository.path().join("later");
    let fetched = ["attach", &host, "--artifacts", &later.display().to_string()];
    repository.toril(&fetched).run().exits(5).shows("artifacts are in ");
    let run = only(&only(&later));
    assert!(fs::read_to_string(run.join("builds/003-broken/output.txt")).unwrap().contains("main.c:3"));
    repository.toril(&fetched).run().exits(1).shows(" is there already");
    let report = fs::read_to_string(report).unwrap();
    assert!(report.contains("name=\"build broken\"") && report.contains("name=\"build kernel\""), "{report}");
    sandbox.is_clean();
}

/// The one thing in a directory.
fn only(directory: &Path) -> PathBuf {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

/// Those of the first run.
fn artifacts_are_whole(directory: &Path) {
    let run = only(&only(directory));
    let read = |path: &str| {
        fs::read_to_string(run.join(path)).unwrap_or_else(|error| panic!("{}/{path}: {error}", run.display()))
    };
    let json = |path: &str| serde_json::from_str::<Value>(&read(path)).unwrap();
    assert_eq!(read("builds/002-stale/output.txt"), "make: 'stale.elf' is up to date\n");
    assert_eq!(json("builds/004-slow/result.json")["build"], "slow");
    assert_eq!(read("tests/001-boots/stdout.txt"), "2\n");
    assert!(read("tests/001-boots/by-hand.sh").contains("sudo -u toril grep -cx"));
    let end = json("tests/001-boots/end.json");
    assert_eq!(end["processes"][0]["exit_status"], 0, "{end}");
    assert!(end["wall_ms"].as_f64().unwrap() > 0.0, "{end}");
    // One that was not run has its verdict.
    assert_eq!(json("tests/003-all/result.json")["outcome"], "error");
    assert!(!run.join("tests/003-all/end.json").exists());
    // A guest.
    assert_eq!(json("tests/005-a_guest/result.json")["outcome"], "passed");
    assert!(read("tests/005-a_guest/serial.txt").contains("toril-guest: "));
    assert!(read("tests/005-a_guest/console-report.txt").contains("case "));
    assert!(read("tests/005-a_guest/qemu.sh").starts_with("qemu-system-x86_64 "));
    let end = json("tests/005-a_guest/end.json");
    assert!(end["processes"][0]["exit_status"] == 33 && end["guest_ms"].as_f64().unwrap() > 0.0, "{end}");
}
