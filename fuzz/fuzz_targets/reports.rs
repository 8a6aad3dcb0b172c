//! Whatever a test has said, reports can be made of it, and no control character is left in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use toril_runner::report::{Format, HostRun, Report, annotations};
use toril_runner::{Case, CaseResult, Event, Outcome, TestResult};

fuzz_target!(|said: [&str; 4]| {
    let case = Case { name: said[0].into(), result: CaseResult::Failed, reason: said[1].into() };
    let mut run = HostRun::new(said[3]);
    run.take(&Event::TestEnded(Box::new(TestResult {
        test: said[2].into(),
        outcome: Outcome::Failed,
        reason: said[1].into(),
        duration_ms: 0,
        cases: vec![case],
        accelerator: None,
        last_lines: vec![said[3].into(), said[0].into()],
        qemu: Vec::new(),
        reproduce: Some(said[3].into()),
        warnings: Vec::new(),
        attempts: Vec::new(),
        diagnosis: vec![said[2].into()],
        metrics: Vec::new(),
        not_here: false,
    })));
    run.close(false);
    let report = Report { runs: vec![run], ..Report::default() };
    for format in Format::ALL {
        let Ok(text) = format.render(&report) else { panic!("{} cannot be made", format.name()) };
        assert!(text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
    }
    assert_eq!(annotations(&report).lines().count(), 1);
});
