//! More cases, counted work, and reports that contradict themselves.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use super::super::contract::{CASES, END, HEADER, METRIC, MORE_CASES, WORK, Work};
use super::{Guest, STATUS_ENDED, boot, cases, names, passed, told};

#[test]
fn all_cases_pass_again_and_again() {
    let Some(ran) = boot("cases=all") else { return };
    assert_eq!(cases(&ran.serial), passed(&[CASES.as_slice(), &MORE_CASES].concat()));
    let Some(ran) = boot("cases=all cases=20") else { return };
    assert_eq!(cases(&ran.serial).len(), 20);
    assert!(cases(&ran.serial).iter().all(|(_, reason)| reason.is_none()), "{}", ran.serial);
    assert_eq!(names(&ran.serial)[17..], ["ring3-2", "long-mode-3", "sse-3"]);
    assert_eq!(ran.status, Some(STATUS_ENDED));
}

#[test]
fn the_order_of_a_wrong_report() {
    let all = CASES.map(|name| format!("case {name}: PASSED"));
    let [first, .., last] = &all;
    let [header, end] = [format!("{HEADER}{}", env!("CARGO_PKG_VERSION")), END.to_owned()];
    for (mode, before, cases, after) in [
        ("duplicate", vec![&header], all.as_slice(), vec![first, &end]),
        ("missing", vec![&header], &all[..4], vec![&end]),
        ("late", vec![&header], &all[..4], vec![&end, last]),
        ("headless", vec![], &all, vec![]),
    ] {
        let Some(ran) = boot(&format!("mode={mode}")) else { return };
        let lines: Vec<&String> = before.into_iter().chain(cases).chain(after).collect();
        assert_eq!(ran.serial.lines().collect::<Vec<_>>(), lines, "{mode}");
        assert_eq!(ran.status, Some(STATUS_ENDED));
    }
}

#[test]
fn work_is_counted_and_timed() {
    let counts =
        [(Work::Integer, 1_000_000_u64), (Work::Memory, 100_000), (Work::Cpuid, 1000), (Work::Port, 1000)];
    let words: Vec<String> = counts.iter().map(|(kind, count)| format!("{}:{count}", kind.name())).collect();
    let Some(ran) = boot(&format!("cases=0 work={}", words.join(","))) else { return };
    for (kind, count) in counts {
        let name = kind.name();
        let begun = ran.serial.find(&format!("{WORK}{name}: begin {count}\n"));
        assert!(
            begun.is_some() && begun < ran.serial.find(&format!("{WORK}{name}: end {count}\n")),
            "{name}"
        );
        for (what, unit) in [("ticks", " ticks"), ("time", " us")] {
            let told = told(&ran.serial, METRIC, &format!("work-{name}-{what}")).unwrap();
            let number: u64 = told.strip_suffix(unit).unwrap().parse().unwrap();
            assert!(number > 0, "{name}: {told}");
        }
    }
    assert_eq!(ran.status, Some(STATUS_ENDED));
}

/// Waits for QEMU to answer a command of its monitor; what it tells of itself meanwhile is passed over.
fn monitor(stream: &mut BufReader<UnixStream>, command: &str) {
    writeln!(stream.get_mut(), "{{\"execute\":\"{command}\"}}").unwrap();
    let mut line = String::new();
    while !line.contains("\"return\"") {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0 && !line.contains("\"error\""), "{command}: {line}");
    }
}

#[test]
fn an_nmi_frees_the_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let [monitor_socket, report] = ["monitor", "serial"].map(|name| folder.path().join(name));
    let listener = UnixListener::bind(&monitor_socket).unwrap();
    let shown = UnixListener::bind(&report).unwrap();
    let host = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        monitor(&mut stream, "qmp_capabilities");
        // The console's header comes before the guest waits.
        let mut report = BufReader::new(shown.accept().unwrap().0);
        let mut header = String::new();
        report.read_line(&mut header).unwrap();
        // Until it waits, they are lost.
        report.get_ref().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut line = String::new();
        while report.read_line(&mut line).is_err() {
            monitor(&mut stream, "inject-nmi");
        }
        (header, line)
    });
    let guest = Guest::new("mode=stuck console=on")
        .with(["-qmp", &format!("unix:{}", monitor_socket.display()), "-device", "virtio-serial-device"])
        .with(["-chardev", &format!("socket,id=c,path={}", report.display())])
        .with(["-device", "virtconsole,chardev=c"]);
    let Some(ran) = guest.boot() else { return };
    let (header, line) = host.join().unwrap();
    assert!(header.starts_with(HEADER), "{header}");
    assert_eq!(line, "case long-mode: PASSED\n");
    assert_eq!(ran.status, Some(STATUS_ENDED));
}
