use toril_provisioner::{Change, Counts, Plan, Release, Survey, sample_facts};

use super::super::record::{Program, ReadOnly, Run, TimedEvent};
use super::*;
use crate::agent::Ended;
use crate::view::Choice;

const IMITATION: &str = include_str!("../fixture/debian-10-imitation.json");

fn record() -> Record {
    let choice =
        || Choice { name: "n".into(), origin: "o".into(), chosen: "c".into(), description: "d".into() };
    Record::new(Program { version: "0", sha256: "0".into() }, choice(), choice())
}

fn survey() -> Survey {
    let sent: serde_json::Value = serde_json::from_str(IMITATION).unwrap();
    serde_json::from_value(sent["survey"].clone()).unwrap()
}

fn item(name: &str, state: ItemState) -> Item {
    Item { resource: name.into(), state, notices: Vec::new() }
}

fn plan(items: Vec<Item>) -> Plan {
    Plan { items, estimate: None, package_steps: Vec::new(), reboot: None }
}

fn drifted() -> ItemState {
    let change = Change { what: "mode".into(), before: "0600".into(), after: "0644".into(), diff: None };
    ItemState::Drift { changes: vec![change] }
}

fn seen<'p>(promises: &'p [Promise], name: &str) -> (Verdict, &'p str) {
    let promise = promises.iter().find(|promise| promise.promise.contains(name)).unwrap();
    (promise.verdict, &promise.why)
}

#[test]
fn silence_is_never_success() {
    let promises = judge(&record());
    assert!(promises.iter().all(|promise| promise.verdict == Verdict::NotTried), "{promises:?}");
}

#[test]
fn a_trace_breaks_the_promise_that_looking_changes_nothing() {
    let mut record = record();
    let changes = vec!["/etc/motd: new".to_owned()];
    record.read_only = Some(ReadOnly { compared: 7, changes });
    let promises = judge(&record);
    let (verdict, why) = seen(&promises, "looking");
    assert!(verdict == Verdict::Broken && why.contains("/etc/motd: new"), "{why}");
    record.read_only = Some(ReadOnly { compared: 7, changes: Vec::new() });
    assert_eq!(seen(&judge(&record), "looking").0, Verdict::Held);
}

#[test]
fn a_release_that_is_not_as_thought_breaks_a_promise_unless_it_is_an_imitation() {
    let mut record = record();
    record.facts = Some(sample_facts(Release::parse("debian 10").unwrap()));
    record.survey = Some(survey());
    let promises = judge(&record);
    // The imitation's own apt is that of Debian 11.
    assert_eq!(seen(&promises, "apt of the release").0, Verdict::Broken);
    assert_eq!(seen(&promises, "systemd of the release"), (Verdict::NotTried, "it is not installed"));
    assert_eq!(seen(&promises, "kernel of the release").0, Verdict::Broken, "6.1 is not 4.19");
    record.host.imitation = Some("an imitation");
    let promises = judge(&record);
    for name in ["apt of the release", "kernel of the release"] {
        assert_eq!(seen(&promises, name).0, Verdict::NotTried);
    }
}

#[test]
fn keys_that_have_expired_break_a_promise() {
    let mut record = record();
    record.facts = Some(sample_facts(Release::parse("debian 10").unwrap()));
    let mut survey = survey();
    record.survey = Some(survey.clone());
    let promises = judge(&record);
    let (verdict, why) = seen(&promises, "keys");
    assert!(verdict == Verdict::Held && why.contains("until 2027-02-03"), "{why}");
    for ring in survey.keyrings.values_mut() {
        if let Probe::Known(ring) = ring {
            ring.keys.iter_mut().for_each(|key| key.days_left = Some(-1));
        }
    }
    record.survey = Some(survey);
    assert_eq!(seen(&judge(&record), "keys").0, Verdict::Broken);
}

#[test]
fn what_the_check_still_finds_breaks_the_promises_of_its_resources() {
    let mut record = record();
    let names = ["fine", "late", "lost"];
    record.plan = Some(plan(names.map(|name| item(name, drifted())).to_vec()));
    record.check = Some(plan(vec![item("fine", ItemState::Satisfied), item("late", drifted())]));
    record.begin();
    record.end(Stage::Check, StageOutcome::Failed { why: "x".into() });
    let promises = judge(&record);
    assert_eq!(seen(&promises, "recipe: fine"), (Verdict::Held, "it was brought about"));
    assert_eq!(seen(&promises, "recipe: late"), (Verdict::Broken, "it has to change: mode: 0600 → 0644"));
    assert_eq!(seen(&promises, "recipe: lost").0, Verdict::NotTried);
    assert_eq!(seen(&promises, "a check then finds nothing"), (Verdict::Broken, "late"));
}

#[test]
fn a_second_apply_that_changes_something_breaks_a_promise() {
    let mut record = record();
    let run = |stage, changed| Run {
        stage,
        events: Vec::new(),
        ended: Some(Ended {
            applied: Some(Counts { changed, satisfied: 2, ..Counts::default() }),
            converged: Some(true),
            ..Ended::default()
        }),
    };
    record.runs.extend([run(Stage::Apply, 3), run(Stage::ApplyAgain, 1)]);
    for stage in [Stage::Apply, Stage::ApplyAgain] {
        record.end(stage, StageOutcome::Done);
    }
    let promises = judge(&record);
    assert_eq!(seen(&promises, "an apply brings"), (Verdict::Held, "3 changed, 2 were fine"));
    assert_eq!(seen(&promises, "a second apply"), (Verdict::Broken, "changed again: 1"));
}

#[test]
fn a_failed_apply_names_the_resource() {
    let mut record = record();
    record.plan = Some(plan(vec![item("socat", drifted())]));
    let event = RunEvent::Provision {
        event: Event::Failed { resource: "socat".into(), error: "no source has this package".into() },
    };
    record.runs.push(Run {
        stage: Stage::Apply,
        events: vec![TimedEvent { milliseconds: 1, event }],
        ended: Some(Ended { converged: Some(false), ..Ended::default() }),
    });
    record.end(Stage::Apply, StageOutcome::Failed { why: failure(&record, Stage::Apply) });
    record.check = Some(plan(vec![item("socat", drifted())]));
    let promises = judge(&record);
    assert_eq!(seen(&promises, "an apply brings"), (Verdict::Broken, "socat: no source has this package"));
    assert_eq!(seen(&promises, "recipe: socat"), (Verdict::Broken, "no source has this package"));
}
