//! The workflow that `init` writes for a project's CI, step by step as GitHub runs it, where there is neither an ssh
//! client nor a home directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{Finished, Running, Sandbox, TORIL, Toril, toril};

/// All that the steps find on the path; toril itself needs git of it, for the project's tree.
const PROGRAMS: [&str; 5] = ["bash", "chmod", "curl", "git", "sha256sum"];

/// How long a cancelled job may leave anything on the host.
const CLEAN_AFTER: Duration = Duration::from_secs(10);

/// A project with a workflow, and a host that stands for one of its own.
struct Project {
    sandbox: Sandbox,
    tree: TempDir,
    programs: TempDir,
    /// The workflow's commands, by their names.
    steps: Vec<(String, String)>,
}

impl Project {
    fn new(test: &str) -> Option<Project> {
        let sandbox = Sandbox::provisioned(test)?;
        let (tree, programs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in PROGRAMS {
            symlink(found(name), programs.path().join(name)).unwrap();
        }
        let host = format!("debian@{}:{}", sandbox.address(), sandbox.port());
        Toril::new(&["init", &host, "--ci", "github"]).dir(tree.path()).run().exits(0);
        let workflow = fs::read_to_string(tree.path().join(".github/workflows/toril.yml")).unwrap();
        let project = Project { sandbox, tree, programs, steps: commands(&workflow) };
        for arguments in [&["init", "--quiet"][..], &["add", "--all"]] {
            Toril::of(Path::new("git"), arguments).dir(project.tree.path()).run().exits(0);
        }
        project.step("Fetch toril").run().exits(0).shows("toril: OK");
        Some(project)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tree.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, fs::read_to_string(&path).unwrap() + text).unwrap();
    }

    /// A step as GitHub runs it, with the two secrets and what else it gives.
    fn step(&self, name: &str) -> Toril {
        let command = self.steps.iter().find(|(other, _)| other == name);
        let command = &command.unwrap_or_else(|| panic!("no step {name:?} in {:?}", self.steps)).1;
        let sum = Toril::of(Path::new("sha256sum"), &[TORIL]).run().exits(0).stdout;
        let environment = [
            ("PATH", self.programs.path().to_str().unwrap()),
            ("CI", "true"),
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_REPOSITORY", "acme/kernel"),
            ("GITHUB_RUN_ID", "17"),
            ("GITHUB_RUN_ATTEMPT", "1"),
            ("GITHUB_JOB", "toril"),
            ("GITHUB_STEP_SUMMARY", self.path("summary.md").to_str().unwrap()),
            ("TORIL_URL", &format!("file://{TORIL}")),
            ("TORIL_SHA256", &sum[..64]),
            ("TORIL_SSH_KEY", &fs::read_to_string(self.sandbox.identity()).unwrap()),
            ("TORIL_HOST_KEY", &self.fingerprint()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let bash = self.programs.path().join("bash");
        let call = Toril::of(&bash, &["--noprofile", "--norc", "-e", "-c", command]).bare();
        environment.iter().fold(call, |call, (name, value)| call.env(name, value)).dir(self.tree.path())
    }

    fn tests(&self) -> Finished {
        self.step("Prepare the host and test there").run()
    }

    /// Has the tests last long enough to be cancelled in their midst.
    fn lasts(&self) {
        let long = "\n[[test]]\nname = \"long\"\n[test.guest]\nkernel = \"builtin:toolkit\"\nappend = \"cases=1 seconds=60 name=long\"\n";
        self.append("suite.toml", long);
    }

    /// Begins the tests, and waits for their guest.
    fn begun(&self) -> Running {
        self.has_guest(self.step("Prepare the host and test there").spawn())
    }

    /// Waits for a job's guest.
    fn has_guest(&self, job: Running) -> Running {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.is_at_work() {
            assert!(Instant::now() < until, "no guest after a minute: {}", job.stdout_so_far());
            sleep(Duration::from_millis(50));
        }
        job
    }

    fn is_at_work(&self) -> bool {
        self.sandbox.processes().iter().any(|line| line.contains("name=long"))
    }

    fn fingerprint(&self) -> String {
        let known = self.sandbox.known_hosts().to_str().unwrap();
        let told = Toril::of(Path::new("ssh-keygen"), &["-lf", known]).run().exits(0).stdout;
        told.split(' ').nth(1).unwrap().to_owned()
    }

    /// Nothing of the cancelled run is left, and the host can be had at once.
    #[track_caller]
    fn is_free(&self, cancelled: Instant) {
        self.sandbox.is_clean();
        let host = self.sandbox.host();
        let quick = crate::harness::document("[[test]]\nname = \"t\"\ncommand = [\"true\"]\n");
        toril(&["test", &host, "--suite", &quick.path(), "--wait", "0s"]).exits(0);
        assert!(cancelled.elapsed() < CLEAN_AFTER, "it took {:?}", cancelled.elapsed());
    }
}

/// Where a program is.
fn found(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let mut found = std::env::split_paths(&path).map(|directory| directory.join(name));
    found.find(|program| program.is_file()).unwrap_or_else(|| panic!("no {name} on the path"))
}

/// The named commands of a workflow.
fn commands(workflow: &str) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    let (mut name, mut lines) = ("", workflow.lines().peekable());
    let indent = |line: &str| line.len() - line.trim_start().len();
    while let Some(line) = lines.next() {
        if let Some(told) = line.trim().strip_prefix("- name: ") {
            name = told;
        }
        let Some(command) = line.trim().strip_prefix("run: ") else { continue };
        let mut text = if command == "|" { String::new() } else { format!("{command}\n") };
        while let Some(more) = lines.next_if(|more| command == "|" && indent(more) > indent(line)) {
            text.push_str(more.trim());
            text.push('\n');
        }
        steps.push((name.to_owned(), text));
    }
    steps
}

#[test]
fn a_workflow_ends_in_reports_and_leaves_the_host_clean_when_it_is_cancelled() {
    let Some(project) = Project::new("ci") else { return };
    // A host of one's own where guests cannot run at full speed: here KVM is a trap, and elsewhere it may work.
    let real = project.tests();
    let status = real.status.code();
    assert!(matches!(status, Some(0 | 5)), "{real}");
    if status == Some(5) {
        real.shows("KVM");
        for report in ["toril-report.xml", "summary.md"] {
            let text = fs::read_to_string(project.path(report)).unwrap();
            assert!(text.contains("KVM") && !text.contains("no test ran"), "{report}: {text}");
        }
    }

    project.append("toril.toml", "accel = \"tcg\"\n");
    project.tests().exits(0).shows("passed guests run here");
    let junit = fs::read_to_string(project.path("toril-report.xml")).unwrap();
    assert!(junit.contains("name=\"long-mode\"") && junit.contains("failures=\"0\""), "{junit}");

    project.append("suite.toml", "\n[[test]]\nname = \"ours\"\ncommand = [\"false\"]\n");
    project.tests().exits(4).shows("::error file=suite.toml,").shows("ours");
    let junit = fs::read_to_string(project.path("toril-report.xml")).unwrap();
    assert!(junit.contains("<failure") && junit.contains("name=\"ours\""), "{junit}");
    assert!(fs::read_to_string(project.path("summary.md")).unwrap().contains("ours"));

    // A key that is not the pinned one.
    let wrong = project
        .step("Prepare the host and test there")
        .env("TORIL_HOST_KEY", &format!("SHA256:{}", "A".repeat(43)));
    wrong.run().exits(1).shows("SHA256:AAAA");

    project.lasts();
    let job = project.begun();
    job.signal(2);
    let cancelled = Instant::now();
    job.wait().exits(1).shows("stopped before the end");
    project.is_free(cancelled);

    // One that got no chance to say so.
    let job = project.begun();
    job.signal(9);
    let cancelled = Instant::now();
    drop(job);
    project.step("End what a cancelled job left running").run().exits(0).shows("stopped before the end");
    project.is_free(cancelled);
}

#[test]
fn a_cancelled_job_ends_its_own_run_and_no_other() {
    let Some(project) = Project::new("ci-own") else { return };
    project.append("toril.toml", "accel = \"tcg\"\n");
    project.lasts();
    // Of the same user on the same machine, as all that a runner does.
    let tests = || project.step("Prepare the host and test there");
    let other = project.has_guest(tests().env("GITHUB_REPOSITORY", "acme/other").spawn());
    let mut waits = tests().spawn();
    waits.wait_for("in use by GitHub acme/other run 17 attempt 1 job toril");
    waits.signal(9);
    drop(waits);
    let end = || project.step("End what a cancelled job left running");
    end().run().exits(0).shows("stopped before the end");
    // Such as one that was cancelled before it began anything.
    let none = "no run of GitHub acme/kernel run 17 attempt 1 job toril is at work";
    end().run().exits(0).shows(none);
    assert!(project.is_at_work(), "the other project's run was ended");
    other.signal(2);
    other.wait().exits(1).shows("stopped before the end");
    project.is_free(Instant::now());
}
