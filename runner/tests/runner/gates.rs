//! Limits on what is measured: judged on the median of several runs, and never on runs that did not pass.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::place::{Place, place, shell};
use toril_runner::{Outcome, exit_status};

/// A script that prints, run after run, the next of these lines.
fn one_by_one(place: &Place, lines: &[&str]) -> String {
    let folder = place.state.path().join("shared");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    let (lines_file, counter) = (folder.join("lines"), folder.join("counter"));
    fs::write(&lines_file, lines.join("\n") + "\n").unwrap();
    let (lines_file, counter) = (lines_file.display(), counter.display());
    format!("echo x >> {counter}; sed -n $(wc -l < {counter})p {lines_file}")
}

/// A suite of one command with a gate on the value that it prints.
fn rate(script: &str, limits: &str) -> String {
    let pattern = "pattern = '^rate (?<value>\\S+)'";
    format!(
        "{}\n[[test.gate]]\nname = \"rate\"\nmetric = \"value\"\n{pattern}\nunit = \"MiB/s\"\n{limits}\n",
        shell(script, "")
    )
}

const FIVE: [&str; 5] = ["rate 5", "rate 1.5", "rate 9", "rate 4", "rate 100"];

#[test]
fn a_value_is_judged_on_the_median_of_its_runs() {
    for (limits, outcome, told) in [
        ("at-least = 5", Outcome::Passed, ", at least 5 MiB/s"),
        ("at-least = 5.5", Outcome::Failed, ", at least 5.5 MiB/s"),
        ("at-most = 4.5", Outcome::Failed, ", at most 4.5 MiB/s"),
    ] {
        let Some(place) = place(false) else { return };
        let (summary, _) = place.run(&rate(&one_by_one(&place, &FIVE), limits));
        let result = &summary.results[0];
        let reason = format!("rate: median of 5: 5 MiB/s{told} (samples 5, 1.5, 9, 4, 100)");
        assert_eq!((result.outcome, result.reason.as_str()), (outcome, reason.as_str()));
        assert_eq!(result.metrics[0].samples, [5.0, 1.5, 9.0, 4.0, 100.0]);
        assert_eq!(result.metrics[0].median, Some(5.0));
        assert_eq!(exit_status(&summary), if outcome == Outcome::Passed { 0 } else { 4 });
    }
}

#[test]
fn a_run_that_gives_no_number_is_never_one() {
    for (lines, outcome, reason) in [
        (
            ["rate 5", "nothing", "rate 5"],
            Outcome::Incomplete,
            "run 2 of 3: rate could not be measured: no line had ",
        ),
        (
            ["rate 5", "rate 5", "rate NaN"],
            Outcome::Incomplete,
            "run 3 of 3: rate could not be measured: `NaN` is no number",
        ),
        (
            ["rate fast", "", ""],
            Outcome::Incomplete,
            "run 1 of 3: rate could not be measured: `fast` is no number",
        ),
    ] {
        let Some(place) = place(false) else { return };
        let result = place.result(&rate(&one_by_one(&place, &lines), "at-least = 1\nruns = 3"));
        assert_eq!(result.outcome, outcome, "{result:#?}");
        assert!(result.reason.starts_with(reason), "{}", result.reason);
        assert_eq!((result.metrics[0].median, result.metrics[0].holds), (None, false));
    }
    // A run that fails after it printed its number.
    let Some(place) = place(false) else { return };
    let script = format!(
        "{}; test $(wc -l < {}) -lt 3",
        one_by_one(&place, &FIVE),
        place.state.path().join("shared/counter").display()
    );
    let result = place.result(&rate(&script, "at-least = 1"));
    assert_eq!(
        (result.outcome, result.reason.as_str()),
        (Outcome::Failed, "run 3 of 5: exit status 1: rate 9")
    );
    assert_eq!(result.metrics[0].samples, [5.0, 1.5]);
}

#[test]
fn the_time_to_a_line() {
    let Some(place) = place(false) else { return };
    let gate = |most: u32| {
        let script = "sleep 0.2; echo ready; sleep 0.2";
        let gate = "metric = \"wall-time\"\nmarker = '^ready$'\nat-least = 200\nruns = 3";
        place.result(&format!("{}\n[[test.gate]]\n{gate}\nat-most = {most}\n", shell(script, "")))
    };
    let result = gate(60_000);
    assert_eq!(result.outcome, Outcome::Passed, "{result:#?}");
    assert!(result.metrics[0].samples.iter().all(|sample| *sample >= 200.0));
    let result = gate(201);
    assert_eq!(result.outcome, Outcome::Failed, "{result:#?}");
    assert!(result.reason.contains("at most 201 ms"), "{}", result.reason);
}

/// The built-in guest, which ends by a triple fault on purpose, with limits on its boot time in milliseconds.
fn boot(limits: &str, more: &str) -> String {
    format!(
        "[[test]]\nname = \"boot\"\ndeadline = \"60s\"\n{more}\n[test.guest]\nkernel = \"builtin:toolkit\"\n\
         append = \"mode=triple-fault\"\nends = \"reset\"\n[[test.gate]]\nmetric = \"boot-time\"\nruns = 3\n{limits}\n"
    )
}

#[test]
fn boot_time_is_a_gate() {
    let Some(mut place) = place(true) else { return };
    let cases = "expect = [\"long-mode\"]";
    let result = place.result(&boot("at-most = 50000\nat-least = 0.01", cases));
    assert_eq!(result.outcome, Outcome::Passed, "{result:#?}");
    assert_eq!(result.metrics[0].samples.len(), 3);
    println!("{}", result.reason);
    let result = place.result(&boot("at-most = 0.001", cases));
    assert_eq!(result.outcome, Outcome::Failed, "{result:#?}");
    assert!(result.reason.contains("at most 0.001 ms (samples "), "{}", result.reason);
    // A guest that dies has no boot time, however fast it was.
    let dies = boot("at-most = 50000", cases).replace("triple-fault", "incomplete");
    let result = place.result(&dies);
    assert_eq!(result.outcome, Outcome::Failed, "{result:#?}");
    assert!(result.reason.starts_with("run 1 of 3: it ended with exit status 33"), "{}", result.reason);
    // Nor has a QEMU that did not run.
    place.options.qemu = "qemu-of-toril-that-is-not-there".into();
    let (summary, _) = place.run(&boot("at-most = 50000", cases));
    let result = &summary.results[0];
    assert_eq!((result.outcome, exit_status(&summary)), (Outcome::Error, 5));
    assert!(result.reason.starts_with("run 1 of 3: cannot run `qemu-of-toril"), "{}", result.reason);
    assert!(result.metrics[0].samples.is_empty() && !result.metrics[0].holds);
}
