use std::os::unix::fs::symlink;

use super::*;
use crate::agent::journal::{JournalWriter, prepare};
use crate::agent::{Ended, RunEvent};

/// A machine with all that toril keeps, and with what is not toril's.
struct Scene {
    root: tempfile::TempDir,
    machine: Machine,
}

impl Scene {
    fn lay_out() -> Scene {
        let root = tempfile::tempdir().unwrap();
        let scene = Scene { machine: Machine::at(root.path()), root };
        scene.write("proc/self/mountinfo", "21 1 0:19 / / rw - ext4 /dev/sda1 rw\n");
        scene.write("etc/passwd", "root:x:0:0::/root:/bin/sh\ntoril:x:9:9::/var/lib/toril/home:/bin/sh\n");
        scene.write("var/lib/toril/home/.profile", "mine");
        for (path, _) in OWN {
            scene.write(path.trim_start_matches('/'), "x");
        }
        for path in ["downloads", "unfinished"].map(|name| format!("var/lib/toril/{name}")) {
            fs::remove_file(scene.at(&path)).unwrap();
            scene.write(&format!("{path}/of-an-apply"), "");
        }
        scene.write("var/lib/toril/runs/run-1/test-1/file", "x");
        scene.write("var/lib/toril/journals/00000000000000000007-0123456789abcdef/order.json", "{}");
        scene.write("var/lib/toril/kernels/toolkit-1.elf", "x");
        scene.write("var/lib/toril/figures.json", "{}");
        scene.write("var/lib/toril/.toril-Ab3", "half");
        scene.write("var/lib/toril/agents/toril-0123", "x");
        scene.write("run/toril/lock", "");
        scene.write("run/toril/cids/1000", "");
        scene.write("srv/data", "somebody's");
        symlink("../../../../srv", scene.at("var/lib/toril/runs/run-1/link")).unwrap();
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn is(&self, path: &str) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    fn uninstall(&self, kept: &[PathBuf]) -> Result<Report, String> {
        uninstall(&self.machine, &Uninstall { who: "me".into(), delivered: true, kept: kept.to_vec() })
    }

    #[track_caller]
    fn removed(&self, kept: &[PathBuf]) -> Footprint {
        match self.uninstall(kept).unwrap() {
            Report::Footprint(footprint) => footprint,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn in_use(&self) -> Option<LockHolder> {
        match self.uninstall(&[]).unwrap() {
            Report::InUse { holder } => holder,
            other => panic!("{other:?}"),
        }
    }

    fn run(&self) -> RunDirectory {
        RunDirectory::at(self.at("var/lib/toril/journals/00000000000000000007-0123456789abcdef"))
    }
}

fn troubles(footprint: &Footprint) -> Vec<(&str, &str)> {
    let troubles = footprint.own.iter().filter_map(|own| Some((own.path.to_str()?, own.trouble.as_deref()?)));
    troubles.collect()
}

#[test]
fn all_that_is_torils_own_goes_and_nothing_else() {
    let scene = Scene::lay_out();
    let seen = footprint(&scene.machine, true).unwrap();
    let removed = scene.removed(&[]);
    assert_eq!(troubles(&removed), []);
    let paths = |of: &Footprint| of.own.iter().map(|own| own.path.clone()).collect::<Vec<_>>();
    let (seen, paths) = (paths(&seen), paths(&removed));
    assert_eq!(paths, seen);
    let own = places().map(|(path, _)| path).chain(["/var/lib/toril/.toril-Ab3", AGENTS]);
    assert_eq!(paths, own.map(PathBuf::from).collect::<Vec<_>>());
    assert!(paths.iter().all(|path| !scene.machine.path(path).exists()));
    // The home is no stranger: its user is told of.
    let stays: Vec<_> = removed.stays.iter().map(|made| made.what.as_str()).collect();
    assert_eq!(stays, ["the user toril, with the home /var/lib/toril/home"]);
    assert_eq!(names(&scene.at("var/lib/toril")).unwrap(), ["home"]);
    assert_eq!(fs::read_to_string(scene.at("var/lib/toril/home/.profile")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(scene.at("srv/data")).unwrap(), "somebody's");
    assert!(!scene.is("run/toril") && scene.is("var/log") && scene.is("var/cache/apt"));

    // A second time there is nothing but the agent that was put there for that.
    fs::create_dir(scene.at("var/lib/toril/agents")).unwrap();
    assert_eq!(scene.removed(&[]).own, []);
    assert!(!scene.is("var/lib/toril/agents") && !scene.is("run/toril") && scene.is("var/lib/toril/home"));
    fs::remove_dir_all(scene.at("var/lib/toril/home")).unwrap();
    scene.removed(&[]);
    assert!(!scene.is("var/lib/toril") && scene.is("var/lib"));
}

#[test]
fn links_and_mounts_lead_nowhere() {
    let scene = Scene::lay_out();
    fs::remove_dir_all(scene.at("var/lib/toril/kernels")).unwrap();
    symlink("../../../srv", scene.at("var/lib/toril/kernels")).unwrap();
    let mounts = "21 1 0:19 / / rw - ext4 /dev/sda1 rw\n\
        22 21 0:20 / /var/lib/toril/runs/run-1/a\\040b rw shared:1 - tmpfs tmpfs rw\n\
        23 21 0:20 / /var/lib/toril/runs-of-others rw shared:1 - tmpfs tmpfs rw\n";
    scene.write("proc/self/mountinfo", mounts);
    let removed = scene.removed(&[]);
    let [(path, why)] = troubles(&removed)[..] else { panic!("{removed:?}") };
    assert_eq!(path, RUNS);
    assert!(why.contains("something is mounted at /var/lib/toril/runs/run-1/a b: unmount it"), "{why}");
    assert!(scene.is("var/lib/toril/runs/run-1/test-1/file") && scene.is("srv/data"));
    let link = removed.own.iter().find(|own| own.path == Path::new(KERNELS)).unwrap();
    assert_eq!(link.what, "kernels of guests; a link: what is in ../../../srv stays");
    assert!(!scene.is("var/lib/toril/kernels"));
}

#[test]
fn torils_directory_may_be_elsewhere() {
    let scene = Scene::lay_out();
    fs::rename(scene.at("var/lib/toril"), scene.at("srv/toril")).unwrap();
    symlink("../../srv/toril", scene.at("var/lib/toril")).unwrap();
    scene.write("proc/self/mountinfo", "22 21 0:20 / /srv/toril/kernels rw - tmpfs tmpfs rw\n");
    let removed = scene.removed(&[]);
    let [(path, _)] = troubles(&removed)[..] else { panic!("{removed:?}") };
    assert_eq!(path, KERNELS);
    assert_eq!(names(&scene.at("srv/toril")).unwrap(), ["home", "kernels"]);
    let stays: Vec<_> = removed.stays.iter().map(|made| made.what.as_str()).collect();
    assert!(stays.contains(&"/var/lib/toril itself: it is a link to ../../srv/toril"), "{stays:?}");
}

#[test]
fn what_somebody_wants_kept_goes_only_if_it_was_told_and_homes_do_not_go_at_all() {
    let scene = Scene::lay_out();
    scene.write("var/lib/toril/runs/run-1/.kept", "{}");
    let error = scene.uninstall(&[]).unwrap_err();
    assert!(error.contains("/var/lib/toril/runs/run-1 was kept since you were told"), "{error}");
    assert!(scene.is("var/lib/toril/runs/run-1/.kept") && scene.is("var/log/toril-apt.log"));

    scene.write("etc/passwd", "ci:x:9:9::/var/lib/toril/runs/ci:/bin/sh\n");
    scene.write("var/lib/toril/notes", "somebody's");
    let kept = [scene.at("var/lib/toril/runs/run-1")];
    let removed = scene.removed(&kept);
    assert_eq!(troubles(&removed), [(RUNS, "/var/lib/toril/runs/ci is the home of the user ci")]);
    assert_eq!(names(&scene.at("var/lib/toril")).unwrap(), ["home", "notes", "runs"]);
    let stays: Vec<_> = removed.stays.iter().map(|made| made.what.as_str()).collect();
    let strangers = ["/var/lib/toril/home: none of toril's own", "/var/lib/toril/notes: none of toril's own"];
    assert_eq!(stays[1..], strangers);

    scene.write("etc/passwd", "");
    assert_eq!(scene.removed(&kept).kept.len(), 1);
    assert!(!scene.is("var/lib/toril/runs"));
}

#[test]
fn what_a_killed_apply_has_left_is_found_and_removed() {
    let scene = Scene::lay_out();
    scene.write("opt/.toril-build-x/half", "");
    scene.write("opt/x", "whole");
    let left = scene.at("opt/.toril-build-x");
    scene.write("var/lib/toril/unfinished/of-an-apply", left.to_str().unwrap());
    let in_the_way = "22 21 0:20 / /opt/.toril-build-x/proc rw - proc proc rw\n";
    scene.write("proc/self/mountinfo", in_the_way);
    let removed = scene.removed(&[]);
    let paths: Vec<_> = troubles(&removed).iter().map(|(path, _)| *path).collect();
    // It is found again by the record, which therefore stays.
    assert_eq!(paths, ["/opt/.toril-build-x", UNFINISHED]);
    scene.write("proc/self/mountinfo", "");
    let removed = scene.removed(&[]);
    assert_eq!(troubles(&removed), []);
    assert!(!left.exists() && scene.is("opt/x") && !scene.is("var/lib/toril/unfinished"));
}

#[test]
fn a_machine_that_is_in_use_is_left_alone() {
    let scene = Scene::lay_out();
    let holder = LockHolder { who: "ci".into(), what: "test smoke".into(), since: 1, pid: 7 };
    let lock = HostLock::try_acquire(&scene.at("run/toril/lock"), &holder).unwrap();
    assert_eq!(scene.in_use(), Some(holder));
    drop(lock);

    let run = scene.run();
    fs::write(run.order(), r#"{"who": "ci@builder"}"#).unwrap();
    let beginning = run.try_beginning().unwrap();
    assert_eq!(scene.in_use(), None);
    drop(beginning);
    let alive = run.hold_alive().unwrap();
    prepare(&run).unwrap();
    let mut journal = JournalWriter::begin(&run).unwrap();
    journal.write(RunEvent::Began { pid: 77 }).unwrap();
    let waits = LockHolder {
        who: "ci@builder".into(),
        what: "a run that waits for the host".into(),
        since: 0,
        pid: 77,
    };
    assert_eq!(scene.in_use(), Some(waits));
    assert!(scene.is("var/lib/toril/runs/run-1/test-1/file"));

    // A run that has told its end is not waited for, though it is not gone yet.
    journal.write(RunEvent::Ended { ended: Ended::default() }).unwrap();
    assert_eq!(troubles(&scene.removed(&[])), []);
    drop(alive);
}
