//! The workflows that `init` writes for a project's CI, step by step as the CI runs them, where there is neither an ssh
//! client nor a home directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{Finished, Running, Sandbox, TORIL, Toril, toril};

/// All that the steps find on the path; toril itself needs git of it, for the project's tree.
const PROGRAMS: [&str; 5] = ["bash", "chmod", "curl", "git", "sha256sum"];

/// How long a cancelled job may leave anything on the host: far less than its test would take.
const CLEAN_AFTER: Duration = Duration::from_secs(120);

/// A CI, as far as its jobs can see it.
struct Ci {
    name: &'static str,
    workflow: &'static str,
    /// What it calls the steps that fetch toril, use it, and clean up.
    steps: [&'static str; 3],
    environment: &'static [(&'static str, &'static str)],
}

const GITHUB: Ci = Ci {
    name: "github",
    workflow: ".github/workflows/toril.yml",
    steps: ["Fetch toril", "Prepare the host and test there", "End what a cancelled job left running"],
    environment: &[
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_REPOSITORY", "acme/kernel"),
        ("GITHUB_RUN_ID", "17"),
        ("GITHUB_RUN_ATTEMPT", "1"),
        ("GITHUB_JOB", "toril"),
    ],
};

const GITLAB: Ci = Ci {
    name: "gitlab",
    workflow: ".gitlab-ci.yml",
    steps: ["before_script", "script", "after_script"],
    environment: &[("CI_PROJECT_ID", "7"), ("CI_JOB_ID", "99"), ("CI_JOB_STATUS", "canceled")],
};

const TRAVIS: Ci = Ci {
    name: "travis",
    workflow: ".travis.yml",
    steps: ["install", "script", ""],
    environment: &[("TRAVIS_JOB_ID", "5")],
};

/// A project with a workflow, and a host that stands for one of its own.
struct Project {
    ci: &'static Ci,
    sandbox: Rc<Sandbox>,
    tree: TempDir,
    programs: TempDir,
    /// The workflow's commands, by their names.
    steps: Vec<(String, String)>,
}

impl Project {
    fn new(test: &str) -> Option<Project> {
        Sandbox::provisioned(test).map(|sandbox| Project::on(&Rc::new(sandbox), &GITHUB))
    }

    fn on(sandbox: &Rc<Sandbox>, ci: &'static Ci) -> Project {
        let (tree, programs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in PROGRAMS {
            symlink(found(name), programs.path().join(name)).unwrap();
        }
        let host = format!("debian@{}:{}", sandbox.address(), sandbox.port());
        Toril::new(&["init", &host, "--ci", ci.name]).dir(tree.path()).run().exits(0);
        let workflow = fs::read_to_string(tree.path().join(ci.workflow)).unwrap();
        let steps = if ci.name == GITHUB.name { commands(&workflow) } else { scripts(&workflow) };
        let project = Project { ci, sandbox: Rc::clone(sandbox), tree, programs, steps };
        for arguments in [&["init", "--quiet"][..], &["add", "--all"]] {
            Toril::of(Path::new("git"), arguments).dir(project.tree.path()).run().exits(0);
        }
        project.step(ci.steps[0]).run().exits(0).shows("toril: OK");
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tree.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, fs::read_to_string(&path).unwrap() + text).unwrap();
    }

    /// A step as the CI runs it, with the two secrets and what else it gives.
    fn step(&self, name: &str) -> Toril {
        let command = self.steps.iter().find(|(other, _)| other == name);
        let command = &command.unwrap_or_else(|| panic!("no step {name:?} in {:?}", self.steps)).1;
        let sum = Toril::of(Path::new("sha256sum"), &[TORIL]).run().exits(0).stdout;
        let environment = [
            ("PATH", self.programs.path().to_str().unwrap()),
            ("CI", "true"),
            ("GITHUB_STEP_SUMMARY", self.path("summary.md").to_str().unwrap()),
            ("TORIL_URL", &format!("file://{TORIL}")),
            ("TORIL_SHA256", &sum[..64]),
            ("TORIL_SSH_KEY", &self.key()),
            ("TORIL_HOST_KEY", &self.fingerprint()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let bash = self.programs.path().join("bash");
        let call = Toril::of(&bash, &["--noprofile", "--norc", "-e", "-c", command]).bare();
        let call = self.ci.environment.iter().fold(call, |call, (name, value)| call.env(name, value));
        environment.iter().fold(call, |call, (name, value)| call.env(name, value)).dir(self.tree.path())
    }

    /// The private key as the CI keeps it: not all can keep several lines.
    fn key(&self) -> String {
        let file = self.sandbox.identity();
        match self.ci.name {
            "github" => fs::read_to_string(file).unwrap(),
            _ => Toril::of(Path::new("base64"), &["-w0", file.to_str().unwrap()]).run().exits(0).stdout,
        }
    }

    fn tests(&self) -> Finished {
        self.step(self.ci.steps[1]).run()
    }

    /// Has the tests last long enough to be cancelled in their midst.
    fn lasts(&self) {
        let long = "\n[[test]]\nname = \"long\"\ndeadline = \"15m\"\n[test.guest]\nkernel = \"builtin:toolkit\"\nappend = \"cases=1 seconds=600 name=long\"\n";
        self.append("suite.toml", long);
    }

    /// Begins the tests, and waits for their guest.
    fn begun(&self) -> Running {
        self.has_guest(self.step(self.ci.steps[1]).spawn())
    }

    /// Waits for a job's guest.
    fn has_guest(&self, job: Running) -> Running {
        let until = Instant::now() + Duration::from_secs(300);
        while !self.is_at_work() {
            assert!(Instant::now() < until, "no guest after five minutes: {}", job.stdout_so_far());
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

    /// Nothing of the cancelled run is left, and the host can be had at once. Returns how long that took.
    #[track_caller]
    fn is_free(&self, cancelled: Instant) -> Duration {
        self.sandbox.is_clean();
        let host = self.sandbox.host();
        let quick = crate::harness::document("[[test]]\nname = \"t\"\ncommand = [\"true\"]\n");
        toril(&["test", &host, "--suite", &quick.path(), "--wait", "0s"]).exits(0);
        let took = cancelled.elapsed();
        assert!(took < CLEAN_AFTER, "it took {took:?}");
        took
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
        // A block as it stands, or folded to one line.
        let end = match command {
            "|" => "\n",
            ">-" => " ",
            _ => "",
        };
        let mut text = if end.is_empty() { command.to_owned() } else { String::new() };
        while let Some(more) = lines.next_if(|more| !end.is_empty() && indent(more) > indent(line)) {
            text.push_str(more.trim());
            text.push_str(end);
        }
        steps.push((name.to_owned(), text));
    }
    steps
}

/// The lists of commands of GitLab's and Travis' files, by their keys; without what makes a bare image fit, which is here.
fn scripts(workflow: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in workflow.lines().map(str::trim) {
        if let Some(key) = line.strip_suffix(':') {
            steps.push((key.to_owned(), String::new()));
        } else if let Some((command, (_, text))) = line.strip_prefix("- ").zip(steps.last_mut())
            && !command.starts_with("apt-get ")
        {
            text.push_str(command);
            text.push('\n');
        }
    }
    steps
}

#[test]
fn the_other_workflows_end_in_reports_too() {
    let Some(sandbox) = Sandbox::provisioned("ci-others").map(Rc::new) else { return };
    for ci in [&GITLAB, &TRAVIS] {
        let project = Project::on(&sandbox, ci);
        project.append("toril.toml", "accel = \"tcg\"\n");
        project.tests().exits(0).shows("passed guests run here");
        let junit = fs::read_to_string(project.path("toril-report.xml")).unwrap();
        assert!(junit.contains("name=\"long-mode\"") && junit.contains("failures=\"0\""), "{junit}");
        // What a push may change of its files gives it no root.
        project.append("toril.toml", "[vars]\nqemu = \"/tmp/mine\"\n");
        project.tests().exits(2).shows("--unprivileged").shows("`qemu` from toril.toml");
    }
    let project = Project::on(&sandbox, &GITLAB);
    let none = "no run of GitLab project 7 job 99 is at work";
    project.step(GITLAB.steps[2]).run().exits(0).shows(none);
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
    let wrong = project.step(GITHUB.steps[1]).env("TORIL_HOST_KEY", &format!("SHA256:{}", "A".repeat(43)));
    wrong.run().exits(1).shows("SHA256:AAAA");

    project.lasts();
    let job = project.begun();
    job.signal(2);
    let cancelled = Instant::now();
    job.wait().exits(1).shows("stopped before the end");
    // Promised within ten seconds, which a machine that stalls cannot keep: shown by `--nocapture`.
    println!("cancelled: the host was clean and had by another run after {:?}", project.is_free(cancelled));

    // One that got no chance to say so, and nobody to end it.
    let job = project.begun();
    job.signal(9);
    let cancelled = Instant::now();
    drop(job);
    while project.is_at_work() {
        assert!(cancelled.elapsed() < CLEAN_AFTER, "its run goes on");
        sleep(Duration::from_millis(50));
    }
    println!("killed: the host was clean and had by another run after {:?}", project.is_free(cancelled));
}

#[test]
fn a_job_that_falls_silent_is_no_one_who_follows_its_run() {
    let Some(project) = Project::new("ci-silent") else { return };
    project.append("toril.toml", "accel = \"tcg\"\n");
    project.lasts();
    // Its connection stays open, as that of a machine that was taken away does for the host.
    let job = project.begun();
    job.signal(19);
    let silent = Instant::now();
    while project.is_at_work() {
        assert!(silent.elapsed() < CLEAN_AFTER, "its run goes on");
        sleep(Duration::from_millis(50));
    }
    // One that was only away for a while learns how it ended.
    job.signal(18);
    job.wait().exits(1).shows("stopped before the end");
    project.is_free(Instant::now());
}

#[test]
fn a_cancelled_job_ends_its_own_run_and_no_other() {
    let Some(project) = Project::new("ci-own") else { return };
    project.append("toril.toml", "accel = \"tcg\"\n");
    project.lasts();
    // Of the same user on the same machine, as all that a runner does.
    let tests = || project.step(GITHUB.steps[1]);
    let other = project.has_guest(tests().env("GITHUB_REPOSITORY", "acme/other").spawn());
    let mut waits = tests().spawn();
    waits.wait_for("in use by GitHub acme/other run 17 attempt 1 job toril");
    let end = || project.step(GITHUB.steps[2]);
    end().run().exits(0).shows("stopped before the end");
    waits.wait().exits(1).shows("stopped before the end");
    // Such as one that was cancelled before it began anything.
    let none = "no run of GitHub acme/kernel run 17 attempt 1 job toril is at work";
    end().run().exits(0).shows(none);
    assert!(project.is_at_work(), "the other project's run was ended");
    other.signal(2);
    other.wait().exits(1).shows("stopped before the end");
    project.is_free(Instant::now());
}
