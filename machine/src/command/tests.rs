use std::thread;

use super::*;

/// So many looks, 20 ms apart, take longer than anything that comes about by itself.
const SOON: u32 = 3000;

#[test]
fn output_status_and_stdin() {
    let finished = Command::new("sh", ["-c", "cat; echo err >&2; exit 3"]).stdin("in").run().unwrap();
    assert_eq!((finished.stdout.as_slice(), finished.stderr.as_slice()), (&b"in"[..], &b"err\n"[..]));
    assert_eq!(finished.how(), "exited with status 3");
}

#[test]
fn a_deadline_kills_the_whole_group() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let script = format!("sleep 300 & echo $! > {}; wait", file.display());
    // The next where a slow machine has nothing for it to kill by then.
    let pid = [300, 3_000, 30_000].into_iter().find_map(|deadline| {
        let command = Command::new("sh", ["-c", &script]).deadline(Duration::from_millis(deadline));
        let error = command.run().unwrap_err();
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
        std::fs::read_to_string(&file).ok()?.trim().parse::<i32>().ok()
    });
    let pid = pid.unwrap();
    let gone = (0..SOON).any(|_| {
        thread::sleep(Duration::from_millis(20));
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    });
    assert!(gone, "the sleep outlived its group");
}

#[test]
fn what_may_be_ended_ends_when_it_is_to() {
    let start = Instant::now();
    let stopped = || start.elapsed() > Duration::from_millis(100);
    let error = Command::new("sleep", ["300"]).output_unless(&stopped).unwrap_err();
    assert!(matches!(error, CommandError::Stopped { .. }), "{error}");
}

#[test]
fn output_is_bounded_and_never_blocks() {
    let finished = Command::new("sh", ["-c", "head -c 3000000 /dev/zero"]).output_limit(1000).run().unwrap();
    assert!(finished.status.success() && finished.truncated);
    assert_eq!(finished.stdout.len(), 1000);
}

#[test]
fn an_orphan_that_holds_the_pipe_does_not_hold_the_caller() {
    let start = Instant::now();
    let finished = Command::new("sh", ["-c", "sleep 60 & exit 0"]).run().unwrap();
    assert!(finished.status.success());
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn programs_are_found_on_the_path_that_they_get() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("toril-script");
    // Without a line that says what runs it. By another process: a file that this one has open for writing is open as
    // well in what another thread has just forked, and until that is a program of its own, the file cannot be executed.
    let install = Command::new("install", ["-m", "755", "/dev/stdin", script.to_str().unwrap()]);
    install.stdin("echo \"$1 of $PATH\"").output().unwrap();
    let path = format!("/nonexistent:{}:/usr/bin:/bin", dir.path().display());
    let output = Command::new("toril-script", ["one"]).env("PATH", &path).output().unwrap();
    assert_eq!(output, format!("one of {path}\n"));
    assert_eq!(Command::new("sh", ["-c", "echo $0"]).output().unwrap(), "sh\n");
}

#[test]
fn one_that_ends_with_us_is_called_by_its_own_words_and_dies_with_its_thread() {
    let namespaces = ["--pid", "--fork", "true"];
    if !rustix::process::geteuid().is_root() || Command::new("unshare", namespaces).output().is_err() {
        eprintln!("skipped: needs root, and namespaces");
        return;
    }
    let error = Command::new("sh", ["-c", "exit 3"]).ends_with_us().output().unwrap_err();
    assert_eq!(error.to_string(), "`sh -c 'exit 3'` exited with status 3");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alive");
    // The thread's own death is that of a child here, whose child is the command.
    let script = format!("while :; do date +%s%N > {}; sleep 0.05; done", file.display());
    let mut words = ENDS_WITH_US.to_vec();
    words.extend(["sh", "-c", &script]);
    let outer = format!("\"$@\" & until [ -s {} ]; do sleep 0.05; done; kill -KILL $$", file.display());
    let outer = ["-c", &outer, "sh"].into_iter().chain(words);
    assert!(Command::new("sh", outer).run().unwrap().how().contains("signal 9"));
    // It alone has the file in its words.
    let words = file.display().to_string();
    let gone = (0..SOON).any(|_| {
        thread::sleep(Duration::from_millis(20));
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
        !lines.any(|line| String::from_utf8_lossy(&line).contains(&words))
    });
    assert!(gone, "it goes on");
}

#[test]
fn one_whose_group_ends_with_us_is_as_any_other_and_leaves_nobody() {
    let held = |script: &str| Command::new("sh", ["-c", script, "zero", "a b"]).group_ends_with_us();
    let finished = held("cat; echo \"$1\"; exit 3").run().unwrap();
    assert_eq!(
        (finished.stdout.as_slice(), finished.how().as_str()),
        (&b"a b\n"[..], "exited with status 3")
    );
    assert_eq!(held("kill -KILL $$").run().unwrap().how(), "was killed by signal 9");
    // Nobody but itself is there for it to wait for.
    assert_eq!(held("read -r all < /proc/$$/task/$$/children; echo \"<$all>\"").output().unwrap(), "<>\n");
    let pid = held("sleep 300 >/dev/null 2>&1 & echo $!").output().unwrap();
    let gone = (0..SOON).any(|_| {
        thread::sleep(Duration::from_millis(20));
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    });
    assert!(gone, "the sleep outlived the command");
    let error = Command::new("toril-no-such-program", ["a"]).group_ends_with_us().run().unwrap_err();
    assert!(matches!(error, CommandError::NotFound { .. }), "{error}");
}

#[test]
fn a_missing_program_is_named() {
    let error = Command::new("toril-no-such-program", ["a b"]).run().unwrap_err();
    assert!(matches!(&error, CommandError::NotFound { command } if command == "toril-no-such-program 'a b'"));
}
