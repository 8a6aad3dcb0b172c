//! What a suite builds on the host before its tests.

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
command = ["grep", "-cx", "-e", "toril", "-e=-g", "src/kernel.elf"]

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
"#;

#[test]
fn nothing_passes_that_was_not_built_now() {
    let Some(sandbox) = Sandbox::provisioned("builds") else { return };
    let host = sandbox.host();
    let files = [("src/main.c", ""), (".gitignore", "*.elf\n"), ("stale.elf", "of yesterday")];
    let repository = Repository::with(SUITE, &files);

    let run = repository.test(&host, &["--json"]).exits(5);
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
        .shows("by hand on the host: cd /var/lib/toril/runs/");
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains("name=\"build broken\"") && report.contains("name=\"build kernel\""), "{report}");
    sandbox.is_clean();
}
