//! What a pushed suite may try to become root, or to read what is not its user's: each is carried out here, and fails.

use serde_json::Value;

use crate::harness::{Finished, Sandbox, document, toril};

fn run(sandbox: &Sandbox, suite: &str, status: i32) -> (Finished, Value) {
    let suite = document(suite);
    let run = toril(&["test", "--json", "--unprivileged", "--suite", &suite.path(), &sandbox.host()]);
    let run = run.exits(status);
    let result = run.results().into_iter().next().unwrap_or_else(|| panic!("no result{run}"));
    (run, result)
}

/// A companion shows what came of a file that its user cannot come to.
const READS: &str = r#"
[[test]]
name = "t"
deadline = "20s"
cases = "toril"
[test.guest]
kernel = "/root/.netrc"
exit-status = 33
[test.companion]
command = ["sh", "-c", "cat kernel; exit 1"]
"#;

fn reads_nothing_of_others(sandbox: &Sandbox) {
    sandbox.sudo("chmod 700 /root; echo password of root > /root/.netrc; chmod 644 /root/.netrc");
    let (run, result) = run(sandbox, READS, 5);
    let refused = "user toril may not read the kernel /root/.netrc, or not pass through a directory above it";
    assert!(result["outcome"] == "error" && result["reason"] == refused, "{run}");
    assert!(!run.stdout.contains("password of root"), "{run}");
}

#[test]
fn a_push_neither_becomes_root_nor_reads_what_is_others() {
    let Some(sandbox) = Sandbox::provisioned("push") else { return };
    reads_nothing_of_others(&sandbox);
}
