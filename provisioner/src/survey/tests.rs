use std::fs;

use proptest::prelude::*;

use super::*;

fn fake(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let machine = Machine::at(root.path());
    (root, machine)
}

const HOST: &[(&str, &str)] = &[
    ("etc/os-release", "ID=debian\nVERSION_ID=\"10\"\nVERSION_CODENAME=buster\n"),
    ("etc/passwd", "root:$6$hash:0:0:root:/root:/bin/sh\nanna:x:1000:1000:Anna A.,,,:/home/anna:/bin/sh\n"),
    ("etc/group", "kvm:x:105:anna\n"),
    ("etc/shadow", "root:$6$hash:1:2:3\n"),
    ("etc/apt/sources.list", "deb http://dead.example/debian buster main\n"),
    ("etc/udev/rules.d/65-kvm.rules", "# mine\nKERNEL==\"kvm\", GROUP=\"kvm\"\n"),
    ("lib/udev/rules.d/50-default.rules", "KERNEL==\"null\"\nKERNEL==\"kvm\", MODE=\"0660\"\n"),
    ("proc/cpuinfo", "processor\t: 0\nflags\t: svm\n\nprocessor\t: 1\nflags\t: svm\n\n"),
    ("proc/meminfo", "MemTotal: 2048 kB\nMemFree: 5 kB\n"),
    ("proc/sys/kernel/osrelease", "4.19.0-1-amd64\n"),
    ("proc/sys/kernel/hostname", "h\n"),
    ("proc/self/status", "Name: x\nCapBnd:\t000001ffffffffff\n"),
    ("proc/1/environ", "SECRET=a\0container=crun\0TOKEN=b\0"),
    ("lib/modules/4.19.0-1-amd64/modules.dep", "kernel/v/vhost_vsock.ko: kernel/v/vhost.ko\nkernel/x.ko:\n"),
    ("sys/module/kvm/x", ""),
    (
        "var/lib/dpkg/status",
        "Package: socat\nStatus: hold ok installed\nArchitecture: amd64\nVersion: 1.7.3.2-2\n\n\
         Package: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 2.28-10\n",
    ),
    (
        "var/lib/apt/lists/m_debian_dists_buster_InRelease",
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nCodename: buster\n\
         Date: Sat, 09 Sep 2023 10:00:00 UTC\nSHA256:\n 00 1 main/binary-amd64/Packages\nSuite: late\n",
    ),
];

#[test]
fn what_matters_is_seen_and_nothing_secret() {
    let (_root, machine) = fake(HOST);
    let seen = survey(&machine, &["socat".into()], &["/etc/motd".into()]);
    let known = |path: &str| seen.files[path].clone().known().unwrap().unwrap();
    assert_eq!(known("/etc/passwd"), "root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\n");
    assert_eq!(known("/proc/cpuinfo"), "processor\t: 0\nflags\t: svm\n\nprocessor\t: 1\n\n");
    assert_eq!(known("/proc/1/environ"), "container=crun\0");
    assert_eq!(known("/lib/udev/rules.d/50-default.rules"), "KERNEL==\"kvm\", MODE=\"0660\"\n");
    assert!(known("/etc/udev/rules.d/65-kvm.rules").starts_with("# mine"));
    assert_eq!(seen.version("socat"), Some("1.7.3.2-2"));
    assert_eq!(
        seen.packages.clone().known().unwrap().unwrap(),
        BTreeMap::from([
            ("libc6:i386".into(), "2.28-10 i386 install ok installed".into()),
            ("socat".into(), "1.7.3.2-2 amd64 hold ok installed".into())
        ])
    );
    assert_eq!(seen.dpkg.clone().known().unwrap().unwrap().held, ["socat"]);
    let releases = seen.release_files.clone().known().unwrap().unwrap();
    assert_eq!(releases[0].fields["Codename"], "buster");
    assert_eq!((releases[0].fields.len(), releases[0].sha256.len()), (3, 64));
    let Probe::Known(module) = &seen.modules["vhost_vsock"] else { panic!("{:?}", seen.modules) };
    assert_eq!((module.loaded, module.file.as_deref()), (false, Some("kernel/v/vhost_vsock.ko")));
    assert_eq!(seen.modules["vsock"], Probe::Absent);
    assert_eq!(seen.places["/etc/motd"], Probe::Absent);
    let text = serde_json::to_string(&seen).unwrap();
    for secret in ["$6$", "Anna", "SECRET", "TOKEN", "shadow"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[test]
fn a_root_that_is_laid_out_looks_the_same() {
    let (_root, machine) = fake(HOST);
    let seen = survey(&machine, &[], &["/etc/motd".into(), "/etc/apt".into()]);
    let text = serde_json::to_string(&seen).unwrap();
    let read: Survey = serde_json::from_str(&text).unwrap();
    assert_eq!(read, seen);
    let copy = tempfile::tempdir().unwrap();
    read.lay_out(copy.path()).unwrap();
    let again = Machine::at(copy.path());
    let look = survey(&again, &[], &["/etc/motd".into(), "/etc/apt".into()]);
    assert_eq!((&look.files, &look.packages, &look.modules), (&seen.files, &seen.packages, &seen.modules));
    let (facts, expected) = (again.facts().unwrap(), machine.facts().unwrap());
    assert_eq!(
        (facts.version, facts.container, facts.cpus),
        (expected.version, expected.container, expected.cpus)
    );
}

#[test]
fn nothing_is_laid_out_elsewhere() {
    let (_root, machine) = fake(HOST);
    for path in ["/../evil", "etc/x", "/etc/../../x", "/", "//x", "/a/./b", "/a\0b", ""] {
        let mut seen = survey(&machine, &[], &[]);
        seen.files.insert(path.into(), Probe::Known("x".into()));
        let copy = tempfile::tempdir().unwrap();
        let error = seen.lay_out(copy.path()).unwrap_err();
        assert!(matches!(error, LayOutError::Path { .. }), "{path}: {error}");
        assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 0, "{path}");
    }
}

#[test]
fn what_was_changed_is_told() {
    let (root, machine) = fake(HOST);
    let before = Traces::of(&machine);
    assert!(before.len() > 8, "{before:?}");
    assert_eq!(Traces::of(&machine).changes_since(&before), Vec::<String>::new());
    fs::write(root.path().join("etc/shadow"), "root:other\n").unwrap();
    fs::write(root.path().join("etc/new"), "").unwrap();
    fs::remove_file(root.path().join("etc/group")).unwrap();
    fs::write(root.path().join("var/lib/dpkg/status"), "").unwrap();
    let changes = Traces::of(&machine).changes_since(&before);
    let names: Vec<&str> = changes.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, ["/etc/new", "/etc/shadow", "/var/lib/dpkg/status", "/etc/group"], "{changes:?}");
    assert!(!changes.concat().contains("other"), "{changes:?}");
}

#[test]
fn what_apt_says_is_read() {
    let text = "qemu-system-x86:\n  Installed: (none)\n  Candidate: 1:5.2+dfsg-9~bpo10+1\n  Version table:\n     \
                1:5.2+dfsg-9~bpo10+1 100\nsocat:\n  Installed: 1.7.3.2-2\n  Candidate: 1.7.3.2-2\n";
    let read = apt::parse_policy(text);
    let of = |installed: Option<&str>, candidate: &str| Candidate {
        installed: installed.map(str::to_owned),
        candidate: Some(candidate.to_owned()),
    };
    assert_eq!(read["qemu-system-x86"], of(None, "1:5.2+dfsg-9~bpo10+1"));
    assert_eq!(read["socat"], of(Some("1.7.3.2-2"), "1.7.3.2-2"));
}

#[test]
fn a_name_may_hold_anything() {
    let read = traces::name_and_parent("7 (a (b) c) S 12 7 7");
    assert_eq!(read, Some(("a (b) c".into(), 12)));
}

proptest! {
    #[test]
    fn any_text_is_read(text in r"([a-z]+:\n|  (Installed|Candidate): [a-z0-9().:~]*\n|Origin: x\n|[0-9]+ \(|\) S [0-9]|.|\n)*") {
        for (name, candidate) in apt::parse_policy(&text) {
            prop_assert!(text.contains(&name));
            prop_assert!(candidate.candidate.is_none_or(|version| text.contains(&version)));
        }
        apt::parse_release(&text);
        traces::name_and_parent(&text);
        prop_assert!(texts::accounts(&text).lines().all(|line| line.split(':').nth(1).is_none_or(|field| field == "x")));
        prop_assert!(texts::container(&text).is_empty() || text.contains("container="));
        texts::processors(&text);
    }

    /// Any path in a survey from elsewhere stays below the root, or is refused.
    #[test]
    fn any_path_stays_below_the_root(path in r"(/|\.|\.\.|a|b|\x00)*") {
        let (_root, machine) = fake(&HOST[..2]);
        let mut seen = survey(&machine, &[], &[]);
        seen.files = BTreeMap::from([(path, Probe::Known("x".into()))]);
        let around = tempfile::tempdir().unwrap();
        let inner = around.path().join("in");
        fs::create_dir(&inner).unwrap();
        drop(seen.lay_out(&inner));
        prop_assert_eq!(fs::read_dir(around.path()).unwrap().count(), 1);
    }
}
