//! Guests that need more than QEMU: shared directories, consoles, companions. What ends badly has its one verdict, and
//! nothing is left.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toril_runner::{Outcome, TestResult, exit_status};

use crate::place::{Place, cut_off, lacks, place, processes, program};

/// A suite of the built-in guest with this command line, these keys and what follows them.
pub fn guest(append: &str, keys: &str) -> String {
    format!(
        "[[test]]\nname = \"t\"\ndeadline = \"60s\"\ncases = \"toril\"\n[test.guest]\nkernel = \"builtin:toolkit\"\n\
         append = \"{append}\"\n{keys}\n"
    )
}

/// A place with a directory `data` in it that anybody may read.
pub fn place_with_data() -> Option<Place> {
    let place = place(true)?;
    if !["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"].iter().any(|path| Path::new(path).exists()) {
        lacks("virtiofsd");
        return None;
    }
    let data = place.state.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("input"), "from the host\n").unwrap();
    Some(place)
}

pub fn share(place: &Place, more: &str) -> String {
    format!("share = {{ dir = \"{}/data\", tag = \"data\"{more} }}", place.state.path().display())
}

/// An executable script that anybody may run.
pub fn script(place: &Place, name: &str, text: &str) -> String {
    let path = place.state.path().join(name);
    program(&path, text);
    path.display().to_string()
}

fn ends(place: &Place, suite: &str, outcome: Outcome, reason: &str) -> TestResult {
    let (summary, _) = place.run(suite);
    let result = summary.results.into_iter().next().unwrap();
    assert_eq!(result.outcome, outcome, "{result:#?}");
    assert!(
        result.reason.starts_with(reason) && result.reason.is_empty() == reason.is_empty(),
        "{result:#?}"
    );
    // Whatever was started has the test's folder or the state's in its command line.
    assert_eq!(processes(&place.state.path().display().to_string()), [""; 0]);
    result
}

#[test]
fn a_guest_reads_and_writes_a_copy_of_the_shared_directory() {
    let Some(place) = place_with_data() else { return };
    let line = "fs={{ guest.tag }} read=input write=output token=toril";
    let companion = "\n[test.companion]\ncommand = [\"sh\", \"-c\", \"echo up; while [ ! -s {{ guest.share }}/output ]; do sleep 0.05; done; \
        echo wrote: $(cat {{ guest.share }}/output); exit 7\"]\nready = \"^up$\"";
    let suite = guest(line, &format!("{}{companion}", share(&place, "")));
    // The companion's status counts, and by it this test knows that it has seen the file.
    let result = ends(&place, &suite, Outcome::Failed, "the companion exited with status 7: wrote: toril");
    let names: Vec<&str> = result.cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names[5..], ["virtio-fs-mount", "virtio-fs-read", "virtio-fs-write"]);
    assert!(
        result.last_lines.iter().any(|line| line == "value virtio-fs-read: from the host"),
        "{result:#?}"
    );
    assert!(result.last_lines.contains(&"[companion] wrote: toril".to_owned()), "{result:#?}");
    assert!(!place.state.path().join("data/output").exists(), "it wrote to the directory itself");
    assert!(result.reproduce.unwrap().contains("virtiofsd"));
}

#[test]
fn the_end_waits_for_the_companion_and_for_no_daemon() {
    let Some(place) = place_with_data() else { return };
    // A daemon that goes on when QEMU has ended.
    let real = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"];
    let real = real.into_iter().find(|path| Path::new(path).exists()).unwrap();
    let text = format!("case \"$*\" in *--help*) exec {real} --help ;; esac\n{real} \"$@\"\nsleep 300");
    let daemon = script(&place, "daemon", &text);
    let mut place_of_root = place_with_data().unwrap();
    place_of_root.options.run_as = Some("root".into());
    let companion = "[test.companion]\ncommand = [\"sleep\", \"1\"]\nwhen = \"after\"";
    let keys = format!("{}\n{companion}", share(&place, &format!(", virtiofsd = \"{daemon}\"")));
    let result = ends(&place_of_root, &guest("fs=data", &keys), Outcome::Passed, "");
    assert!(result.duration_ms >= 1000, "{result:#?}");
}

#[test]
fn a_copy_that_is_not_done_in_time_is_an_error() {
    let Some(place) = place_with_data() else { return };
    for number in 0..3000 {
        fs::write(place.state.path().join(format!("data/{number}")), "").unwrap();
    }
    let suite = guest("fs=data", &share(&place, "")).replace("\"60s\"", "\"1ms\"");
    let reason = format!("the copy of {}/data was not done within ", place.state.path().display());
    ends(&place, &suite, Outcome::Error, &reason);
}

#[test]
fn what_the_user_may_not_read_is_not_shared() {
    let Some(place) = place_with_data() else { return };
    let secret = place.state.path().join("data/secret");
    fs::write(&secret, "s").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let suite = guest("fs=data", &share(&place, ""));
    let result = ends(&place, &suite, Outcome::Error, "cannot copy ");
    assert!(
        result.reason.contains("as user nobody: ") && result.reason.contains("Permission denied"),
        "{result:#?}"
    );
}

#[test]
fn a_daemon_that_is_missing_wrong_or_dies_is_the_reason() {
    let Some(place) = place_with_data() else { return };
    let with =
        |daemon: &str| guest("fs=data seconds=600", &share(&place, &format!(", virtiofsd = \"{daemon}\"")));
    ends(
        &place,
        &with("/nonexistent/v"),
        Outcome::Error,
        "there is no /nonexistent/v, which is named as virtiofsd",
    );
    ends(&place, &with("/bin/true"), Outcome::Error, "/bin/true is no virtiofsd: to --help it says: ");
    // As root only what is root's own.
    let c = script(&place, "c", "echo source=PATH --fd=FDNUM; exit 1");
    fs::set_permissions(&c, Permissions::from_mode(0o777)).unwrap();
    let result = ends(&place, &with(&c), Outcome::Error, &format!("{c} must be run as root"));
    assert_eq!(exit_status_of(&place, &with(&c)), 5, "{result:#?}");

    let says = "case \"$*\" in *--help*) echo --shared-dir; exit ;; esac";
    let early = script(&place, "early", &format!("{says}; echo no such luck >&2; exit 3"));
    let reason = "virtiofsd exited with status 3 before the guest ran: no such luck";
    ends(&place, &with(&early), Outcome::Error, reason);
}

#[test]
fn the_daemon_that_is_root_makes_no_programs_with_roots_rights() {
    let Some(mut place) = place_with_data() else { return };
    place.options.run_as = Some("root".into());
    let says = "case \"$*\" in *--help*) echo source=PATH --fd=FDNUM; exit ;; esac";
    let tries = "cd \"$HOME\"; : > f; chmod 755 f || exit 1; chmod u+s f && exit 2; echo refused >&2; exit 3";
    let daemon = script(&place, "sets", &format!("{says}; {tries}"));
    let suite = guest("fs=data", &share(&place, &format!(", virtiofsd = \"{daemon}\"")));
    ends(&place, &suite, Outcome::Error, "virtiofsd exited with status 3 before the guest ran: refused");
}

fn exit_status_of(place: &Place, suite: &str) -> u8 {
    exit_status(&place.run(suite).0)
}

#[test]
fn a_daemon_that_dies_while_the_guest_runs_is_the_reason() {
    let Some(place) = place_with_data() else { return };
    // The real one, which is killed a moment after the guest has begun.
    let real = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let real = real.unwrap();
    // On a slow machine the guest takes longer to begin than the first of them.
    let moments = [1, 20];
    for (signal, outcome, reason) in [
        ("KILL", Outcome::Error, "virtiofsd was killed by SIGKILL while the guest ran"),
        ("SEGV", Outcome::Crashed, "virtiofsd was killed by SIGSEGV while the guest ran"),
    ] {
        let mut place_of_root = place_with_data().unwrap();
        place_of_root.options.run_as = Some("root".into());
        let suite_of = |moment: u32| {
            let text = format!(
                "case \"$*\" in *--help*) exec {real} --help ;; esac\n(sleep {moment}; kill -{signal} $$) &\n\
                 exec {real} \"$@\""
            );
            let daemon = script(&place, signal, &text);
            guest("fs=data seconds=600", &share(&place, &format!(", virtiofsd = \"{daemon}\"")))
        };
        let in_time = |moment: &u32| !place_of_root.result(&suite_of(*moment)).cases.is_empty();
        let moment = moments.into_iter().find(in_time).unwrap_or(moments[1]);
        ends(&place_of_root, &suite_of(moment), outcome, reason);
    }
}

#[test]
fn a_wrong_tag_and_no_tag_at_all_fail_the_guests_case() {
    let Some(place) = place_with_data() else { return };
    ends(&place, &guest("fs=other", &share(&place, "")), Outcome::Failed, "case virtio-fs-mount: ");
    ends(&place, &guest("fs=other", ""), Outcome::Failed, "case virtio-fs-mount: ");
}

#[test]
fn consoles_carry_cases() {
    let Some(place) = place(true) else { return };
    let suite = guest("console=report", "consoles = [\"log\", \"report\"]");
    let result = ends(&place, &suite, Outcome::Passed, "");
    assert_eq!(result.cases.len(), 5);
    let result = ends(
        &place,
        &guest("console=report mode=fail", "consoles = [\"report\"]"),
        Outcome::Failed,
        "case interrupt: mode=fail asked for it",
    );
    assert!(
        result.last_lines.iter().any(|line| line.starts_with("[report] case interrupt: FAILED")),
        "{result:#?}"
    );
}

#[test]
fn a_companion_is_root_where_the_suite_says_so_and_the_result_tells() {
    let Some(place) = place(true) else { return };
    let suite = |more: &str| {
        let command = "command = [\"sh\", \"-c\", \"echo user $(id -u); exit 3\"]";
        guest("", &format!("\n[test.companion]\n{command}\n{more}"))
    };
    for (more, user, warnings) in
        [("", "65534", vec![]), ("as-root = true", "0", vec!["the companion runs as root".to_owned()])]
    {
        let reason = format!("the companion exited with status 3: user {user}");
        let result = ends(&place, &suite(more), Outcome::Failed, &reason);
        assert_eq!(result.warnings, warnings);
    }
}

#[test]
fn companions() {
    let Some(place) = place(true) else { return };
    let with = |append: &str, companion: &str| guest(append, &format!("\n[test.companion]\n{companion}"));
    let shell = |text: &str| format!("command = [\"sh\", \"-c\", \"{text}\"]\n");
    for (append, companion, outcome, reason) in [
        ("", shell("sleep 300"), Outcome::Passed, ""),
        ("", shell("exit 0"), Outcome::Passed, ""),
        ("seconds=60", shell("echo why; exit 3"), Outcome::Failed, "the companion exited with status 3: why"),
        ("seconds=60", shell("kill -SEGV $$"), Outcome::Crashed, "the companion was killed by SIGSEGV"),
        (
            "",
            shell("echo soon; exit 0") + "ready = \"^now\"",
            Outcome::Error,
            "the companion exited with status 0: soon; the guest was not started",
        ),
        (
            "",
            "command = [\"toril-no-such\"]".into(),
            Outcome::Error,
            "the companion could not be run: cannot run `toril-no-such`: no such program on the host",
        ),
        (
            "",
            shell("sleep 1; exit 4") + "when = \"after\"",
            Outcome::Failed,
            "the companion exited with status 4",
        ),
        (
            "",
            shell("true") + "when = \"after\"\nready = \"never\"",
            Outcome::Incomplete,
            "the guest ended without printing a line with /never/, so the companion was not started",
        ),
    ] {
        ends(&place, &with(append, &companion), outcome, reason);
    }
    let late = with("", &(shell("sleep 300") + "ready = \"^now\"")).replace("60s", "1s");
    ends(
        &place,
        &late,
        Outcome::Error,
        "the companion was not ready within 1 s: no line has /^now/; it printed nothing",
    );
    let noisy = with("", &(shell("yes toril") + "ready = \"^now\""));
    let reason =
        "the companion was not ready within 16 MiB of output: no line has /^now/; the last line was: toril";
    ends(&place, &noisy, Outcome::Error, reason);
    // Until the guest begins there is nobody to report a case.
    let slow = |deadline: &str| {
        // A second longer than the deadline of a case.
        let slow = with("", &(shell(&format!("sleep {deadline}; sleep 1; echo now")) + "ready = \"^now\""));
        let slow = slow.replace("deadline = \"60s\"", "deadline = \"200s\"");
        slow.replace("cases =", &format!("case-deadline = \"{deadline}\"\ncases ="))
    };
    let (result, _) =
        cut_off(|deadline| place.result(&slow(deadline)), |result| result.outcome == Outcome::Passed);
    assert_eq!(result.outcome, Outcome::Passed, "{result:#?}");
}

#[test]
fn a_companion_that_judges_late_counts_where_it_is_waited_for() {
    let Some(place) = place(true) else { return };
    let with = |judges: &str, more: &str| {
        let script = format!("trap : TERM; echo up; sleep {judges}; exit 3");
        let command = format!("command = [\"sh\", \"-c\", \"{script}\"]\nready = \"^up\"");
        guest("", &format!("\n[test.companion]\n{command}\n{more}"))
    };
    ends(&place, &with("2", "wait = \"60s\""), Outcome::Failed, "the companion exited with status 3");
    let result = ends(&place, &with("300", "wait = \"100ms\""), Outcome::Passed, "");
    let said = "the companion had not ended 100 ms after the guest, and was ended: it judged nothing";
    assert_eq!(result.warnings, [said]);
    assert!(ends(&place, &with("300", "wait = \"0ms\""), Outcome::Passed, "").warnings.is_empty());
}

#[test]
fn a_guest_runs_on_its_cpus_only() {
    let Some(place) = place(true) else { return };
    ends(&place, &guest("", "pin = [0]"), Outcome::Passed, "");
    ends(&place, &guest("", "pin = [1023]"), Outcome::Error, "cannot pin it to the CPUs 1023: ");
}

#[test]
fn a_real_time_priority_is_given_or_it_is_said_why_not() {
    let Some(place) = place(true) else { return };
    let result = ends(&place, &guest("", "realtime = 10\npin = [0]"), Outcome::Passed, "");
    let given = result.qemu.starts_with(&["chrt".into(), "--rr".into(), "10".into()]);
    assert_eq!(given, result.warnings.is_empty(), "{result:#?}");
    let result = ends(&place, &guest("", "realtime = 10\ncpus = 255"), Outcome::Passed, "");
    assert!(
        result.warnings[0].starts_with("no real-time priority: the guest may use 255 CPUs"),
        "{result:#?}"
    );
}
