//! Real guests under QEMU: each ending has its verdict, and nothing is left.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::place::{SOON, boot, cut_off, lacks, place, processes, program, soon};
use toril_runner::{
    Accelerator, AcceleratorPolicy, CaseResult, Event, ExpectedEnd, GuestSettings, Kernel, KvmState, Outcome,
    Probe, ProbeResult, ProbeState, SMOKE, Suite, Summary, TestResult, Verified, exit_status, probe_kvm,
    report::HostRun,
};

#[test]
fn the_built_in_suite_passes() {
    let Some(place) = place(true) else { return };
    if !std::path::Path::new("/usr/bin/socat").exists() {
        lacks("socat, which the suite proves");
        return;
    }
    let (summary, events) = place.run(SMOKE);
    for result in &summary.results {
        assert_eq!(result.outcome, Outcome::Passed, "{result:#?}");
    }
    assert_eq!(
        (exit_status(&summary), summary.stopped, summary.accelerator),
        (0, false, Some(Accelerator::Tcg))
    );
    assert!(
        matches!(&events[0], Event::RunStarted { run_as, tests, .. } if run_as == "nobody" && tests.len() == 3)
    );
    assert!(matches!(events.last(), Some(Event::RunEnded(counts)) if counts.passed == 3));
    let text = serde_json::to_string(&events).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Event>>(&text).unwrap(), events);
}

#[test]
fn every_mode_has_its_verdict() {
    let Some(place) = place(true) else { return };
    let ends = |summary: &Summary, mode: &str, outcome: Outcome, reason: &str| {
        let result = &summary.results[0];
        assert_eq!(result.outcome, outcome, "{mode}: {result:#?}");
        assert!(result.reason.starts_with(reason), "{mode}: {}", result.reason);
        assert_eq!(result.last_lines.is_empty(), mode == "silent", "{mode}");
        assert_eq!(exit_status(summary), 4, "{mode}");
        assert_eq!(processes(&place.state.path().display().to_string()), [""; 0], "{mode}");
    };
    for (mode, outcome, reason) in [
        ("fail", Outcome::Failed, "case interrupt: mode=fail asked for it"),
        ("silent", Outcome::Incomplete, "it ended without reporting any case"),
        ("panic", Outcome::Crashed, "panic: mode=panic asked for it"),
        ("triple-fault", Outcome::Crashed, "the guest reset: a triple fault"),
        ("flood", Outcome::Crashed, "flood: more than 1 MiB of output"),
        ("incomplete", Outcome::Incomplete, "4 of 5 cases are missing: sse, page-fault, msr, interrupt"),
        ("exception", Outcome::Crashed, "exception storm: "),
        ("duplicate", Outcome::Failed, "reported more than once: long-mode"),
        ("missing", Outcome::Incomplete, "1 of 5 cases are missing: interrupt"),
        ("late", Outcome::Failed, "reported after the end: interrupt"),
    ] {
        let (summary, _) = place.run(&boot(mode, "60s"));
        ends(&summary, mode, outcome, reason);
    }
    for mode in ["hang", "stuck", "fragile"] {
        let run = |deadline: &str| place.run(&boot(mode, deadline)).0;
        let (summary, deadline) = cut_off(run, |summary| !summary.results[0].last_lines.is_empty());
        ends(&summary, mode, Outcome::TimedOut, &format!("no end within {deadline}; silent since "));
    }
}

#[test]
fn what_never_ran_is_an_error() {
    let Some(place) = place(true) else { return };
    let kernel = |path: &str| boot("pass", "60s").replace("builtin:toolkit", path);
    let result = place.result(&kernel("/nonexistent/kernel.elf"));
    assert_eq!(result.outcome, Outcome::Error, "{result:#?}");
    assert!(
        result.reason.starts_with("cannot read the kernel /nonexistent/kernel.elf: "),
        "{}",
        result.reason
    );

    let result = place.result(&kernel("/etc/os-release"));
    assert_eq!(result.outcome, Outcome::Error, "{result:#?}");
    assert!(
        result.reason.starts_with("QEMU exited with status 1 before the guest ran: "),
        "{}",
        result.reason
    );

    let mut place = place;
    place.options.qemu = "qemu-of-toril-that-is-not-there".into();
    let (summary, _) = place.run(&boot("pass", "60s"));
    assert_eq!(summary.results[0].outcome, Outcome::Error);
    assert!(summary.results[0].reason.contains("no such program"), "{}", summary.results[0].reason);
    assert_eq!(exit_status(&summary), 5);
}

/// A program that stands in for QEMU, in a folder that anybody may pass.
pub fn stand_in(place: &mut crate::place::Place, script: &str) {
    let path = place.state.path().join("qemu");
    program(&path, script);
    place.options.qemu = path.display().to_string();
}

#[test]
fn a_qemu_that_stays_alive_after_an_internal_error_is_ended() {
    let Some(mut place) = place(true) else { return };
    stand_in(
        &mut place,
        "echo 'KVM internal error. Suberror: 1' >&2; echo 'emulation failure' >&2; sleep 300",
    );
    let start = Instant::now();
    let result = place.result(&boot("pass", "60s"));
    assert_eq!(result.outcome, Outcome::Crashed, "{result:#?}");
    assert_eq!(result.reason, "QEMU said: KVM internal error. Suberror: 1");
    assert!(start.elapsed() < SOON / 2, "{:?}", start.elapsed());
}

#[test]
fn a_qemu_without_seccomp_will_do() {
    let Some(mut place) = place(true) else { return };
    stand_in(
        &mut place,
        "for word; do
           [ \"$before\" = -sandbox ] || { before=$word; continue; }
           echo \"qemu-system-x86_64: -sandbox $word: There is no option group 'sandbox'\" >&2
           exit 1
         done
         exec qemu-system-x86_64 \"$@\"",
    );
    let (summary, _) = place.run(&boot("pass", "60s"));
    let result = &summary.results[0];
    assert_eq!(result.outcome, Outcome::Passed, "{result:#?}");
    assert!(!result.qemu.iter().any(|word| word == "-sandbox"));
    let warning =
        "QEMU ran without its seccomp sandbox, which it refuses here: There is no option group 'sandbox'";
    assert_eq!(result.warnings, [warning]);
}

#[test]
fn a_file_that_is_called_like_the_sandbox_does_not_switch_it_off() {
    let Some(place) = place(true) else { return };
    let missing = boot("pass", "60s").replacen(
        "[test.guest]",
        "[test.guest]\nqemu-args = [\"-initrd\", \"/srv/sandbox/initrd\"]",
        1,
    );
    let result = place.result(&missing);
    assert_eq!(result.outcome, Outcome::Error, "{result:#?}");
    assert!(result.reason.contains("/srv/sandbox/initrd"), "{}", result.reason);
    assert!(result.qemu.iter().any(|word| word == "-sandbox"), "{result:#?}");
    assert!(result.warnings.is_empty(), "{result:#?}");
}

#[test]
fn what_reproduces_a_failure_can_be_pasted() {
    let Some(mut place) = place(true) else { return };
    place.options.run_as = Some("root".into());
    let result = place.result(&boot("fail", "60s"));
    let line = result.reproduce.unwrap();
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(output.status.code(), Some(33), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("case interrupt: FAILED (mode=fail asked for it)"), "{text}");
}

#[test]
fn a_stop_ends_the_guest_and_skips_the_rest() {
    let Some(place) = place(true) else { return };
    let suite = format!("{}\n[[test]]\nname = \"next\"\ncommand = [\"true\"]\n", boot("hang", "60s"));
    let stop = AtomicBool::new(false);
    let (summary, _) = thread::scope(|scope| {
        scope.spawn(|| {
            let qemu = format!("-kernel {}", place.state.path().display());
            soon(|| !processes(&qemu).is_empty());
            stop.store(true, Ordering::Relaxed);
        });
        place.run_until(&suite, &stop)
    });
    let reasons: Vec<_> =
        summary.results.iter().map(|result| (result.outcome, &result.reason[..7])).collect();
    assert_eq!(reasons, [(Outcome::Skipped, "stopped"), (Outcome::Skipped, "the run")]);
    assert!(summary.stopped && exit_status(&summary) == 1);
    assert_eq!(processes(&place.state.path().display().to_string()), [""; 0]);
}

#[test]
fn without_an_accelerator_guests_are_skipped_with_the_reason() {
    let Some(mut place) = place(true) else { return };
    place.options.accelerator = AcceleratorPolicy { requested: None, tcg_allowed: false };
    let state = probe_kvm(&place.options, "nobody", &AtomicBool::new(false));
    println!("as nobody: {state}");
    let (summary, _) = place.run(&boot("pass", "60s"));
    let result = &summary.results[0];
    if state == KvmState::Usable {
        assert_eq!((result.outcome, result.accelerator), (Outcome::Passed, Some(Accelerator::Kvm)));
    } else {
        assert_eq!(result.outcome, Outcome::Skipped);
        assert!(result.reason.contains("TCG is allowed here only by --accel tcg"), "{}", result.reason);
        assert_eq!(exit_status(&summary), 5);
    }
}

#[test]
fn guests_that_are_all_skipped_are_no_success_whatever_the_commands_did() {
    let Some(mut place) = place(true) else { return };
    let broken = ProbeResult {
        probe: Probe::Boot,
        state: ProbeState::Broken,
        what: "QEMU aborts".into(),
        remedy: None,
        accepted: false,
        milliseconds: 2600,
        timed_out: false,
    };
    let slow = ProbeResult { what: "no end within 2 s".into(), timed_out: true, ..broken.clone() };
    let suite = boot("pass", "20s") + "\n[[test]]\nname = \"command\"\ncommand = [\"true\"]\n";
    place.options.verified = Some(Verified { probes: vec![broken], ..Verified::default() });
    let (summary, events) = place.run(&suite);
    let outcomes: Vec<Outcome> = summary.results.iter().map(|result| result.outcome).collect();
    assert_eq!(outcomes, [Outcome::Skipped, Outcome::Passed], "{summary:#?}");
    assert_eq!(exit_status(&summary), 5);
    let mut told = HostRun::new("h");
    events.iter().for_each(|event| drop(told.take(event)));
    told.close(false);
    assert_eq!(exit_status(&told.summary()), 5);
    let why =
        "none of the guests could be run: it needs a guest that boots, which does not work here: QEMU aborts";
    assert_eq!(told.troubles, [why]);
    place.options.verified = Some(Verified { probes: vec![slow], ..Verified::default() });
    let (summary, _) = place.run(&suite);
    assert_eq!(exit_status(&summary), 0, "what was only slow is tried: {summary:#?}");
}

#[test]
fn one_kernel_with_its_output_live() {
    let Some(mut place) = place(true) else { return };
    place.options.live = true;
    let guest =
        GuestSettings { append: "mode=fail".into(), ..GuestSettings::new(Kernel::Toolkit, ExpectedEnd::Any) };
    let suite = Suite::of_kernel(guest, "nobody", Duration::from_secs(10));
    let (summary, events) = place.run_suite(&suite, &AtomicBool::new(false));
    assert_eq!(summary.results[0].reason, "ended with exit status 33");
    let pieces = events.iter().filter_map(|event| match event {
        Event::Output { text, .. } => Some(text.as_str()),
        _ => None,
    });
    assert!(pieces.collect::<String>().ends_with("toril-guest: end\n"));
}

#[test]
fn cases_are_told_as_they_come_and_filters_choose() {
    let Some(mut place) = place(true) else { return };
    place.options.filter = vec!["oo".into()];
    let (summary, events) = place.run(SMOKE);
    assert_eq!(summary.results.len(), 1);
    let told = events.iter().filter(|event| matches!(event, Event::Case { .. })).count();
    assert_eq!(told, 5);
    assert!(summary.results[0].cases.iter().all(|case| case.result == CaseResult::Passed));
    place.options.filter = vec!["nothing has this name".into()];
    assert_eq!(exit_status(&place.run(SMOKE).0), 5);
}

#[test]
fn what_hangs_is_asked_before_it_is_ended() {
    let Some(place) = place(true) else { return };
    let answers = |result: &TestResult| result.diagnosis.len() > 1;
    let (result, _) = cut_off(|deadline| place.result(&boot("hang", deadline)), answers);
    assert_eq!(result.outcome, Outcome::TimedOut, "{result:#?}");
    assert_eq!(result.diagnosis[0], "QEMU says that the guest is running", "{:?}", result.diagnosis);
    assert!(result.diagnosis[1].starts_with("CPU 0 is halted"), "{:?}", result.diagnosis);
    // Toro's way of learning how far it got; this guest has no handler for it.
    let nmi = |deadline: &str| {
        boot("hang", deadline).replace("[test.guest]", "on-timeout = [\"inject-nmi\"]\n[test.guest]")
    };
    let (result, _) = cut_off(|deadline| place.result(&nmi(deadline)), answers);
    assert_eq!(result.outcome, Outcome::TimedOut, "{result:#?}");
    let last = result.diagnosis.last().unwrap();
    assert!(last.contains("an NMI"), "{:?}", result.diagnosis);
    println!("{:#?}", result.diagnosis);
    // A hang is noticed long before the test's deadline.
    let run = |deadline: &str| {
        let of_case = format!("case-deadline = \"{deadline}\"\n[test.guest]");
        place.result(&boot("hang", "600s").replace("[test.guest]", &of_case))
    };
    let (result, deadline) = cut_off(run, |result| !result.cases.is_empty());
    assert_eq!(result.outcome, Outcome::TimedOut);
    let reason = format!("no new case within {deadline} after long-mode; silent since ");
    assert!(result.reason.starts_with(&reason), "{}", result.reason);
}

#[test]
fn what_an_nmi_does_to_a_guest_does_not_judge_it() {
    let Some(place) = place(true) else { return };
    let run = |deadline: &str| {
        let asks = "on-timeout = [\"inject-nmi\"]\n[test.guest]";
        place.result(&boot("fragile", deadline).replace("[test.guest]", asks))
    };
    let (result, deadline) = cut_off(run, |result| result.last_lines.contains(&"panic: an NMI".to_owned()));
    assert_eq!(result.outcome, Outcome::TimedOut, "{result:#?}");
    let reason = format!("no end within {deadline}; silent since ");
    assert!(result.reason.starts_with(&reason), "{}", result.reason);
    assert!(result.last_lines.contains(&"panic: an NMI".to_owned()), "{result:#?}");
    assert!(
        result.diagnosis.iter().any(|line| line.ends_with("with 0 more cases, and it ended")),
        "{result:#?}"
    );
}

#[test]
fn a_qemu_that_hangs_itself_is_said_to() {
    let Some(mut place) = place(true) else { return };
    // It runs the guest, and is then stopped.
    stand_in(&mut place, "qemu-system-x86_64 \"$@\" & pid=$!; sleep 0.7; kill -STOP $pid; wait");
    let hangs = ["QEMU did not answer its monitor: it hangs itself, or is starved"];
    let run = |deadline: &str| place.result(&boot("hang", deadline));
    let (result, _) = cut_off(run, |result| result.diagnosis == hangs);
    assert_eq!(result.outcome, Outcome::TimedOut, "{result:#?}");
    assert_eq!(result.diagnosis, hangs);
}
