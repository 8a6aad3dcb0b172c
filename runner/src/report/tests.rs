use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::accelerator::Accelerator;
use crate::case::{Case, CaseResult};
use crate::event::Attempt;

fn case(name: &str, result: CaseResult, reason: &str) -> Case {
    Case { name: name.into(), result, reason: reason.into() }
}

fn result(test: &str, outcome: Outcome, reason: &str, cases: Vec<Case>) -> TestResult {
    TestResult {
        test: test.into(),
        outcome,
        reason: reason.into(),
        duration_ms: 1234,
        attempts: Vec::new(),
        metrics: Vec::new(),
        diagnosis: Vec::new(),
        cases,
        accelerator: Some(Accelerator::Tcg),
        last_lines: vec!["\u{1b}[31mpanic:\0 \"<&>\"".into(), "]]> `x` ::error::no # no".into()],
        qemu: Vec::new(),
        reproduce: Some("qemu-system-x86_64 -append 'a & b'".into()),
        warnings: Vec::new(),
        not_here: false,
    }
}

fn attempt(outcome: Outcome) -> Attempt {
    Attempt {
        outcome,
        reason: "silent since <boot>".into(),
        duration_ms: 5000,
        cases: Vec::new(),
        metrics: Vec::new(),
        last_lines: vec!["booting\u{7}".into()],
        diagnosis: Vec::new(),
    }
}

fn told(result: TestResult) -> Event {
    Event::TestEnded(Box::new(result))
}

/// A run of every outcome, on a host whose run came to its end.
fn every_outcome(host: &str) -> HostRun {
    let mut run = HostRun::new(host);
    let tests: Vec<String> = Outcome::ALL.iter().map(|outcome| outcome.words().to_owned()).collect();
    let (suite, run_as) = ("all".into(), "toril".into());
    run.take(&Event::RunStarted { suite, tests, left_out: 0, run_as, shard: None });
    let reason = "no /dev/kvm".to_owned();
    run.take(&Event::AcceleratorChosen { accelerator: Some(Accelerator::Tcg), reason });
    for outcome in Outcome::ALL {
        let cases = match outcome {
            Outcome::Passed => vec![case("a", CaseResult::Passed, ""), case("b", CaseResult::Passed, "")],
            Outcome::Failed => vec![
                case("a", CaseResult::Passed, ""),
                case("b #2", CaseResult::Failed, "1 != 2, <br> 5 % \\"),
            ],
            Outcome::Crashed => vec![case("a", CaseResult::Passed, "")],
            _ => Vec::new(),
        };
        let mut result = result(outcome.words(), outcome, &format!("it is {}", outcome.words()), cases);
        match outcome {
            Outcome::Passed => result.warnings.push("no real-time priority <here>".into()),
            Outcome::Flaky | Outcome::Failed => {
                result.attempts = vec![attempt(Outcome::TimedOut), attempt(Outcome::Error)]
            }
            _ => {}
        }
        run.take(&told(result));
    }
    run.know_fingerprint("0123456789abcdef", [("qemu.version", "1:7.2+dfsg-7")].into_iter());
    run.close(false);
    run
}

fn built(build: &str, trouble: Option<&str>) -> Event {
    Event::BuildEnded(Box::new(BuildResult {
        build: build.into(),
        trouble: trouble.map(str::to_owned),
        duration_ms: 1,
        outputs: Vec::new(),
        last_lines: vec!["main.c:3: error".into()],
        reproduce: "cd /x && make".into(),
    }))
}

#[test]
fn builds_are_told_of_in_every_report() {
    let mut run = HostRun::new("alpha");
    run.take(&built("library", None));
    run.take(&built("kernel", Some("it exited with status 2")));
    run.close(false);
    let report = report(vec![run]);
    for format in Format::ALL {
        let text = format.render(&report).unwrap();
        assert!(text.contains("build kernel") && text.contains("it exited with status 2"), "{text}");
        assert!(
            text.contains("main.c:3: error") && text.contains("cd /x &amp;&amp; make")
                || text.contains("cd /x && make"),
            "{text}"
        );
    }
    let tap = Format::Tap.render(&report).unwrap();
    assert!(tap.contains("ok 1 - build library: build library\nnot ok 2 - build kernel: "), "{tap}");
}

fn report(runs: Vec<HostRun>) -> Report {
    Report {
        properties: vec![("toril".into(), "0.1.0".into())],
        suite_file: Some("tests/a,b.toml".into()),
        runs,
    }
}

/// What a program says to a text; nothing where it is not there, which is said.
fn judged(program: &str, arguments: &[&str], text: &str) -> Option<(bool, String)> {
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        let mut out = std::io::stderr();
        writeln!(out, "skipped: {program} is not on PATH").unwrap();
        assert!(std::env::var_os("TORIL_TESTS_MUST_RUN").is_none(), "this test must run");
        return None;
    };
    let mut input = child.stdin.take().unwrap();
    let text = text.to_owned();
    let feeder = std::thread::spawn(move || drop(input.write_all(text.as_bytes())));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Some((output.status.success(), said.concat()))
}

/// Held against `junit-10.xsd` of Jenkins' xUnit plugin, revision ae25da5089d4f94ac6c4669bf736e4d416cc4665.
#[track_caller]
fn must_be_valid(xml: &str) {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemas/junit-10.xsd");
    if let Some((valid, said)) = judged("xmllint", &["--huge", "--noout", "--schema", schema, "-"], xml) {
        assert!(valid, "{said}\n{}", xml.chars().take(4000).collect::<String>());
    }
}

#[test]
fn junit_is_valid_by_the_schema_of_jenkins() {
    let unfinished = HostRun { suite: Some("all".into()), ..HostRun::new("host-2") };
    for runs in [vec![every_outcome("host-1")], vec![every_outcome("host-1"), unfinished], Vec::new()] {
        must_be_valid(&Format::Junit.render(&report(runs)).unwrap());
    }
    let broken = "<testsuites><testsuite name='a'/></testsuites>";
    if let Some((valid, _)) = judged(
        "xmllint",
        &["--noout", "--schema", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemas/junit-10.xsd"), "-"],
        broken,
    ) {
        assert!(!valid, "the schema takes anything");
    }
}

#[test]
fn junit_as_a_whole() {
    insta::assert_snapshot!(Format::Junit.render(&report(vec![every_outcome("host-1")])).unwrap());
}

#[test]
fn tap_as_a_whole() {
    insta::assert_snapshot!(Format::Tap.render(&report(vec![every_outcome("host-1")])).unwrap());
}

#[test]
fn markdown_as_a_whole() {
    insta::assert_snapshot!(
        Format::Markdown.render(&report(vec![every_outcome("host-1"), HostRun::new("b")])).unwrap()
    );
}

#[test]
fn html_as_a_whole() {
    let page = Format::Html.render(&report(vec![every_outcome("host-1"), HostRun::new("b")])).unwrap();
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<script"] {
        assert!(!page.contains(outside), "the page needs more than itself: {outside}");
    }
    insta::assert_snapshot!(page);
}

#[test]
fn a_suite_is_named_alike_wherever_it_lies() {
    for (suite, name) in [
        ("/home/ci/builds/7/tests/guests.toml", "guests"),
        ("guests.toml", "guests"),
        ("built-in smoke", "smoke"),
        ("build/hello.elf", "hello.elf"),
    ] {
        let run = HostRun { suite: Some(suite.into()), ..HostRun::new("h") };
        assert_eq!(run.suite_words(), Some(name));
    }
}

#[test]
fn annotations_as_a_whole() {
    insta::assert_snapshot!(annotations(&report(vec![every_outcome("host-1")])));
}

#[test]
fn github_is_not_given_more_annotations_than_it_shows() {
    let mut run = HostRun::new("h");
    for number in 0..30 {
        run.take(&told(result(&format!("t{number}"), Outcome::Crashed, "", Vec::new())));
    }
    run.close(false);
    let text = annotations(&report(vec![run]));
    assert_eq!(text.lines().count(), 10);
    assert!(text.lines().last().unwrap().contains("title=21 further failures::"), "{text}");
    assert!(text.lines().all(|line| line.starts_with("::error file=tests/a%2Cb.toml,title=")), "{text}");
}

/// Perl's TAP::Parser counts what it reads.
#[test]
fn tap_is_read_by_perl() {
    let script = r#"use TAP::Parser; my $tap = do { local $/; <STDIN> }; my $p = TAP::Parser->new({ tap => $tap });
        my $yaml = 0; my @names;
        while (my $r = $p->next) {
            if ($r->is_unknown) { print "unknown: ", $r->as_string, "\n" }
            if ($r->is_yaml) { $yaml++; push @names, $r->data->{outcome} . "/" . (($r->data->{output} // "-") =~ s/\n.*//sr) . "/" . $r->data->{message} }
        }
        print join(" ", "planned", $p->tests_planned, "run", $p->tests_run, "failed", scalar($p->failed), "skipped", scalar($p->skipped),
            "yaml", $yaml, "errors", scalar($p->parse_errors)), "\n", join("\n", @names), "\n";"#;
    let text = Format::Tap.render(&report(vec![every_outcome("host-1"), HostRun::new("host-2")])).unwrap();
    // Debian's smallest perl comes without it; `prove` is of the same package.
    if judged("prove", &["--version"], "").is_none() {
        return;
    }
    if let Some((fine, said)) = judged("perl", &["-e", script], &text) {
        assert!(fine, "{said}");
        let mut lines = said.lines();
        assert_eq!(
            lines.next().unwrap(),
            "planned 12 run 12 failed 6 skipped 1 yaml 6 errors 0",
            "{text}\n{said}"
        );
        assert_eq!(lines.next().unwrap(), "failed/| panic: \"<&>\"/1 != 2, <br> 5 % \\");
    }
}

#[test]
fn every_judgement_is_counted_where_it_belongs() {
    let xml = Format::Junit.render(&report(vec![every_outcome("h")])).unwrap();
    // Two cases passed and a flaky test, one of two failed, one passed before the crash.
    assert!(xml.contains("tests=\"11\" skipped=\"1\" errors=\"1\" failures=\"4\""), "{xml}");
}

#[test]
fn a_run_without_its_end_never_looks_complete() {
    let mut run = HostRun::new("h");
    run.take(&Event::RunStarted {
        suite: "s".into(),
        tests: vec!["a".into(), "b".into()],
        left_out: 0,
        run_as: "toril".into(),
        shard: None,
    });
    run.take(&told(result("a", Outcome::Passed, "", Vec::new())));
    for format in Format::ALL {
        let text = format.render(&report(vec![run.clone()])).unwrap();
        let said = text.replace('\\', "");
        assert!(said.contains("the run did not come to its end"), "{format:?}: {text}");
        assert!(said.contains("it was to be run and has no verdict"), "{format:?}: {text}");
    }
    let xml = Format::Junit.render(&report(vec![run.clone()])).unwrap();
    assert!(xml.contains("tests=\"3\" failures=\"0\" errors=\"2\""), "{xml}");
    assert_eq!(annotations(&report(vec![run])).lines().count(), 2);
}

#[test]
fn a_report_never_looks_better_than_its_run() {
    let mut skipped = HostRun::new("h");
    skipped.take(&Event::AcceleratorChosen { accelerator: None, reason: "no /dev/kvm".into() });
    skipped.take(&told(result("a", Outcome::Skipped, "no /dev/kvm", Vec::new())));
    skipped.close(false);
    assert_eq!(skipped.troubles, ["none of the guests could be run: no /dev/kvm"]);
    let mut nothing = HostRun::new("h");
    nothing.close(false);
    assert_eq!(nothing.troubles, ["no test ran"]);
    let mut fine = HostRun::new("h");
    fine.close(true);
    assert!(fine.troubles.is_empty());
}

#[test]
fn of_two_verdicts_the_worse_is_kept() {
    let mut run = HostRun::new("h");
    for (outcome, duplicate) in [(Outcome::Passed, false), (Outcome::Crashed, true), (Outcome::Passed, true)]
    {
        let again = run.take(&told(result("a", outcome, "", Vec::new())));
        assert_eq!(again.is_some(), duplicate);
    }
    assert_eq!((run.results.len(), run.results[0].outcome), (1, Outcome::Crashed));
}

#[test]
fn a_name_stands_once_in_its_class() {
    let long = "x".repeat(500);
    let cases = vec![
        case(&format!("{long}1"), CaseResult::Passed, ""),
        case(&format!("{long}2"), CaseResult::Passed, ""),
    ];
    let mut run = HostRun::new("h");
    run.take(&told(result("a", Outcome::Passed, "", cases)));
    run.close(true);
    let xml = Format::Junit.render(&report(vec![run.clone()])).unwrap();
    assert_eq!(xml.matches("… (2)\"").count(), 1, "{xml}");
    // On several hosts the class tells them apart.
    let other = HostRun { host: "i".into(), ..run.clone() };
    let xml = Format::Junit.render(&report(vec![run, other])).unwrap();
    assert!(xml.contains("classname=\"h/a\"") && xml.contains("classname=\"i/a\""), "{xml}");
}

/// 30 MB is the most that GitLab takes.
#[test]
fn a_report_is_bounded_however_much_was_said() {
    let mut run = HostRun::new("h");
    let shout = "<\"&'>".repeat(60);
    for test in 0..100 {
        let cases = (0..400).map(|number| case(&format!("{number}{shout}"), CaseResult::Failed, &shout));
        let mut ended = result(&format!("{test}{shout}"), Outcome::Failed, &shout, cases.collect());
        ended.last_lines = vec![shout.clone(); 100];
        run.results.push(ended);
    }
    run.close(false);
    let report = report(vec![run]);
    let xml = Format::Junit.render(&report).unwrap();
    assert!(xml.len() < 30_000_000, "{}", xml.len());
    assert_eq!(xml.matches("200 further cases").count(), 100);
    assert!(Format::Markdown.render(&report).unwrap().len() < 1 << 20);
    assert!(Format::Html.render(&report).unwrap().len() < 40_000_000);
    must_be_valid(&xml);
}

/// Whether every `<` and `&` of a text that should be XML is one of markup, and the elements close as they open.
fn is_well_formed(xml: &str) -> bool {
    let valid = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    let Some(body) = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>") else { return false };
    let mut open = Vec::new();
    for piece in body.split('<').skip(1) {
        let Some((tag, text)) = piece.split_once('>') else { return false };
        let entities = ["&lt;", "&gt;", "&amp;", "&quot;", "&apos;", "&#"];
        let is_entity = |rest: &str| entities.iter().any(|known| rest.starts_with(known));
        let all = |part: &str| part.match_indices('&').all(|(at, _)| is_entity(&part[at..]));
        if !all(tag) || !all(text) || !piece.chars().all(valid) || tag.matches('"').count() % 2 != 0 {
            return false;
        }
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return false;
            }
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    open.is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_said_gives_a_report_of_the_same_shape(
        said in proptest::collection::vec("(?s).{0,40}|[\u{0}-\u{20}\u{7f}-\u{9f}<>&\"'#\\\\%\u{1b}\u{fffe}\n]{0,40}", 6)
    ) {
        let mut ended = result(&said[0], Outcome::Failed, &said[1], vec![case(&said[2], CaseResult::Failed, &said[3])]);
        ended.last_lines = vec![said[4].clone(), said[5].clone()];
        ended.reproduce = Some(said[5].clone());
        let mut run = HostRun::new(&said[3]);
        run.take(&told(ended));
        run.close(false);
        let report = Report { suite_file: Some(said[1].clone()), ..report(vec![run]) };
        let xml = Format::Junit.render(&report).unwrap();
        prop_assert!(is_well_formed(&xml), "{}", xml);
        let tap = Format::Tap.render(&report).unwrap();
        prop_assert_eq!(tap.lines().filter(|line| line.starts_with("not ok 1 - ")).count(), 1);
        prop_assert!(tap.lines().skip(2).skip(1).all(|line| line.starts_with("  ")), "{}", tap);
        prop_assert!(tap.chars().all(|c| c == '\n' || !c.is_control()));
        prop_assert_eq!(annotations(&report).lines().count(), 1);
        let html = Format::Html.render(&report).unwrap();
        prop_assert_eq!(html.matches("<script").count(), 0);
        prop_assert!(html.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
    }
}
