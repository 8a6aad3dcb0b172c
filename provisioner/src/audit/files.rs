//! Files of packages that are gone, that are not what was unpacked, or that give rights away.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use md5::{Digest, Md5};
use toril_machine::{Machine, Probe};

use super::manifest::Manifest;
use super::{Depth, Finding, reinstall};

/// Bits of a mode that give everybody the rights of the file's owner or group, or let everybody write to it.
const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const OTHERS_WRITE: u32 = 0o0002;

/// More findings than this of one package are counted, and not listed.
const MOST_LISTED: usize = 5;

pub(super) fn look(
    machine: &Machine,
    manifest: &Manifest,
    overrides: &HashSet<String>,
    depth: Depth,
) -> Vec<Finding> {
    let mut findings: Vec<String> = Vec::new();
    for path in &manifest.paths {
        findings.extend(look_at(machine, manifest, path, overrides.contains(path), depth));
    }
    let more = findings.len().saturating_sub(MOST_LISTED);
    if more > 0 {
        findings.truncate(MOST_LISTED);
        findings.push(format!("{more} more of its files are missing or changed"));
    }
    let finding = |what| Finding {
        about: format!("package {}", manifest.package),
        what,
        remedy: reinstall(&manifest.package),
    };
    findings.into_iter().map(finding).collect()
}

fn look_at(
    machine: &Machine,
    manifest: &Manifest,
    path: &str,
    overridden: bool,
    depth: Depth,
) -> Vec<String> {
    let metadata = match Probe::of_io(fs::symlink_metadata(machine.path(path)), path) {
        Probe::Known(metadata) => metadata,
        Probe::Absent => return vec![format!("{path} is missing, though the package is installed")],
        Probe::Unreadable(reason) => return vec![format!("could not look: {reason}")],
    };
    let mut findings = Vec::new();
    let touched = (metadata.ctime(), metadata.ctime_nsec()) > manifest.unpacked;
    if metadata.is_file() && touched && !overridden {
        findings.extend(
            rights(&metadata)
                .map(|rights| format!("{path} {rights} (mode {:04o})", metadata.mode() & 0o7777)),
        );
    }
    let Some(sum) = manifest.sums.get(path) else { return findings };
    if !metadata.is_file() {
        findings.push(format!("{path} is no regular file any more"));
    } else if touched || depth == Depth::All {
        match sum_of(machine, path) {
            Ok(found) if found == *sum => {}
            Ok(_) => findings.push(format!("{path} is not the package's: its MD5 sum is another")),
            Err(error) => findings.push(format!("could not look: cannot read {path}: {error}")),
        }
    }
    findings
}

/// The rights that a file gives away and no package of Debian's gives by accident.
fn rights(metadata: &Metadata) -> Option<&'static str> {
    match metadata.mode() {
        mode if mode & SET_USER != 0 => Some("has become setuid"),
        mode if mode & SET_GROUP != 0 => Some("has become setgid"),
        mode if mode & OTHERS_WRITE != 0 => Some("can be written to by everybody"),
        _ => None,
    }
}

fn sum_of(machine: &Machine, path: &str) -> io::Result<[u8; 16]> {
    struct Hasher(Md5);
    impl io::Write for Hasher {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hasher = Hasher(Md5::new());
    io::copy(&mut File::open(machine.path(path))?, &mut hasher)?;
    Ok(hasher.0.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::manifest::Diversions;
    use super::*;

    /// A root with a package `p` of three files and a link.
    fn fake() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let mut sums = String::new();
        let mut list = "/.\n/usr\n/usr/bin\n/usr/bin/link\n/usr/share/doc/p/gone\n".to_owned();
        for (path, text) in [("usr/bin/one", "1"), ("usr/bin/two", "2"), ("usr/lib/three", "3")] {
            write(path, text);
            sums.push_str(&format!("{}  {path}\n", hex::encode(Md5::digest(text))));
            list.push_str(&format!("/{path}\n"));
        }
        std::os::unix::fs::symlink("one", dir.path().join("usr/bin/link")).unwrap();
        write("var/lib/dpkg/info/p:amd64.md5sums", &sums);
        write("var/lib/dpkg/info/p:amd64.list", &list);
        dir
    }

    fn found(dir: &tempfile::TempDir, depth: Depth, overrides: &[&str]) -> Vec<String> {
        let machine = Machine::at(dir.path());
        let manifest = Manifest::read(&machine, "p", &Diversions::default()).unwrap();
        let overrides = overrides.iter().map(|path| (*path).to_owned()).collect();
        look(&machine, &manifest, &overrides, depth).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn what_is_as_it_was_unpacked_is_no_finding() {
        let dir = fake();
        assert_eq!(found(&dir, Depth::Touched, &[]), [""; 0]);
        assert_eq!(found(&dir, Depth::All, &[]), [""; 0]);
    }

    #[test]
    fn what_is_gone_or_changed_is_named() {
        let dir = fake();
        let path = |name: &str| dir.path().join(name);
        // The clock of file systems ticks every few milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::remove_file(path("usr/bin/link")).unwrap();
        fs::write(path("usr/bin/one"), "x").unwrap();
        fs::set_permissions(path("usr/bin/two"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::remove_file(path("usr/lib/three")).unwrap();
        fs::create_dir(path("usr/lib/three")).unwrap();
        let expected = [
            "/usr/bin/link is missing, though the package is installed",
            "/usr/bin/one is not the package's: its MD5 sum is another",
            "/usr/bin/two has become setuid (mode 4755)",
            "/usr/lib/three is no regular file any more",
        ];
        assert_eq!(found(&dir, Depth::Touched, &[]), expected);
        assert_eq!(found(&dir, Depth::All, &["/usr/bin/two"]), [expected[0], expected[1], expected[3]]);
    }

    #[test]
    fn many_are_counted() {
        let dir = fake();
        let list = dir.path().join("var/lib/dpkg/info/p:amd64.list");
        let gone: String = (0..9).map(|number| format!("/usr/gone/{number}\n")).collect();
        fs::write(list, gone).unwrap();
        let found = found(&dir, Depth::Touched, &[]);
        assert_eq!((found.len(), found[5].as_str()), (6, "4 more of its files are missing or changed"));
    }
}
