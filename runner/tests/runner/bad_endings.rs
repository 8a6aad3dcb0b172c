//! Every way to end badly that a table of the book names, made for real, has just that verdict, reason and exit status.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use toril_runner::{Outcome, exit_status};

use crate::devices::{guest, place_with_data, script, share};
use crate::guests::stand_in;
use crate::place::{Place, boot, processes};

const BOOK: &str = include_str!("../../../docs/src/reference/verdicts.md");

/// A row of the book's table.
#[derive(Debug)]
struct Row {
    ending: &'static str,
    verdict: &'static str,
    /// With `…` for what varies.
    reason: &'static str,
    status: u8,
}

fn rows() -> Vec<Row> {
    let (_, table) = BOOK.split_once("\n| ending | verdict | reason | exit status |\n").unwrap();
    let lines = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [ending, verdict, reason, status] = cells[..] else { panic!("{line}") };
            Row { ending, verdict, reason: reason.trim_matches('*'), status: status.parse().unwrap() }
        })
        .collect()
}

/// Whether a text is as a pattern says in which `…` is anything.
fn fits(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        open = part.is_empty();
    }
    open || rest.is_empty()
}

/// Makes an ending happen: the suite, in a place that was made for it.
fn suite_of(ending: &str, place: &mut Place) -> String {
    let folder = place.state.path().display().to_string();
    let real = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap();
    match ending {
        "nothing is installed" => {
            place.options.qemu = "qemu-of-toril-that-is-not-there".into();
            boot("pass", "60s")
        }
        "an empty report" => boot("silent", "60s"),
        "a report of an earlier run" => {
            let suite = |mode: &str| {
                guest(&format!("console=report mode={mode}"), "consoles = [\"report\"]")
                    .replace("deadline", "cases-from = [\"report\"]\ndeadline")
            };
            let earlier = place.result(&suite("pass"));
            assert_eq!((earlier.outcome, earlier.cases.len()), (Outcome::Passed, 5), "{earlier:#?}");
            suite("silent")
        }
        "a kernel of an earlier build" => {
            let source = place.state.path().join("source");
            fs::create_dir(&source).unwrap();
            fs::set_permissions(&source, Permissions::from_mode(0o777)).unwrap();
            fs::write(source.join("kernel.elf"), "of yesterday").unwrap();
            format!(
                "[[build]]\nname = \"kernel\"\ndir = \"{folder}/source\"\noutputs = [\"kernel.elf\"]\n\
                 command = [\"echo\", \"kernel.elf is up to date\"]\n{}",
                guest("", "exit-status = 33")
                    .replace("builtin:toolkit", &format!("{folder}/source/kernel.elf"))
            )
        }
        "a wrong tag" => guest("fs=other", &share(place, "")),
        "memory that is not shared" => {
            // The daemon as a companion, and QEMU's device by hand, so that nobody sees to it that the memory is shared.
            place.options.run_as = Some("root".into());
            let socket = "--socket-path={{ dirs.test }}/fs.sock";
            let daemon = match real.contains("libexec") {
                true => format!(
                    "\"{real}\", \"--shared-dir\", \"{folder}/data\", \"{socket}\", \"--sandbox\", \"none\""
                ),
                false => format!("\"{real}\", \"-o\", \"source={folder}/data\", \"{socket}\""),
            };
            let keys = format!(
                "qemu-args = [\"-chardev\", \"socket,id=c,path={{{{ dirs.test }}}}/fs.sock\", \"-device\", \
                 \"vhost-user-fs-device,chardev=c,tag=data\"]\n[test.companion]\ncommand = [{daemon}]\n\
                 ready = \"Waiting for vhost-user socket\""
            );
            guest("fs=data", &keys).replace("20s", "3s")
        }
        "virtiofsd is missing" => guest("fs=data", &share(place, ", virtiofsd = \"/nonexistent/virtiofsd\"")),
        "virtiofsd is killed while the guest runs" => {
            place.options.run_as = Some("root".into());
            // By then the guest runs on the slowest of machines.
            let text = format!(
                "case \"$*\" in *--help*) exec {real} --help ;; esac\n(sleep 6; kill -KILL $$) &\nexec {real} \"$@\""
            );
            let daemon = script(place, "killed", &text);
            guest("fs=data seconds=60", &share(place, &format!(", virtiofsd = \"{daemon}\"")))
        }
        "QEMU aborts" => {
            stand_in(place, "echo 'error: failed to set MSR 0x10a to 0x69' >&2; kill -ABRT $$");
            boot("pass", "60s")
        }
        "QEMU aborts before the guest runs" => {
            stand_in(place, "kill -ABRT $$");
            boot("pass", "60s")
        }
        "KVM gives up" => {
            let script =
                "echo 'KVM internal error. Suberror: 1' >&2; echo 'emulation failure' >&2; exec sleep 300";
            stand_in(place, script);
            boot("pass", "60s")
        }
        "a triple fault" => boot("triple-fault", "60s"),
        "a panic" => boot("panic", "60s"),
        "silence" => boot("hang", "8s"),
        "a storm of exceptions" => boot("exception", "60s"),
        "a flood" => guest("console=report mode=flood", "consoles = [\"report\"]")
            .replace("deadline", "output-limit = \"8M\"\ndeadline"),
        "a case is missing" => boot("missing", "60s"),
        "a case is not written as one" => format!(
            "[[test]]\nname = \"t\"\ncases = \"toril\"\ncommand = [\"echo\", \"{}\"]\n",
            "case a: PASSED\\ncase b: FAILED why"
        ),
        "a case comes twice" => boot("duplicate", "60s"),
        "a case comes after the end" => boot("late", "60s"),
        other => panic!("the book has an ending that is not tried: {other}"),
    }
}

/// Nothing where the verdict is the book's.
fn trouble(row: &Row) -> Option<String> {
    let mut place = place_with_data()?;
    let suite = suite_of(row.ending, &mut place);
    let (summary, _) = place.run(&suite);
    let [result] = &summary.results[..] else { return Some(format!("{row:?}: {summary:#?}")) };
    let same = result.outcome.words() == row.verdict
        && fits(&result.reason, row.reason)
        && exit_status(&summary) == row.status;
    let left = processes(&place.state.path().display().to_string());
    if !left.is_empty() {
        return Some(format!("{}: these are left: {left:?}", row.ending));
    }
    (!same)
        .then(|| format!("{row:?}: {}: {}, {}", result.outcome.words(), result.reason, exit_status(&summary)))
}

#[test]
fn every_bad_ending_is_told_apart_and_none_passes() {
    if place_with_data().is_none() {
        return;
    }
    let rows = rows();
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|row| !["passed", "flaky", "skipped"].contains(&row.verdict) && row.status != 0));
    let queue = Mutex::new(rows.into_iter());
    let troubles = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some(row) = next else { break };
                    let trouble = trouble(&row);
                    troubles.lock().unwrap().extend(trouble);
                }
            });
        }
    });
    let troubles = troubles.into_inner().unwrap();
    assert!(troubles.is_empty(), "{}", troubles.join("\n"));
}

#[test]
fn what_varies_is_anything() {
    assert!(fits("there is no /x, which", "there is no …, which") && fits("a b", "a …") && fits("a", "a"));
    assert!(!fits("a b", "a") && !fits("b", "a…") && !fits("there is no /x", "there is no …, which"));
}
