//! Programs that stand on the path before those of the recipe's packages.

use std::fs;
use std::path::Path;

use toril_machine::{Machine, STANDARD_PATH};

use super::Finding;
use super::manifest::Manifest;

/// `own` are paths that the recipe means to be there.
pub(super) fn look(machine: &Machine, manifest: &Manifest, own: &[String]) -> Vec<Finding> {
    let is_on_path = |path: &str| {
        Path::new(path)
            .parent()
            .is_some_and(|parent| STANDARD_PATH.split(':').any(|dir| parent == Path::new(dir)))
    };
    let mut findings = Vec::new();
    for path in manifest.paths.iter().filter(|path| is_on_path(path)) {
        let Some(name) = Path::new(path).file_name().and_then(|name| name.to_str()) else { continue };
        let Some(first) = machine.find_program(name) else { continue };
        let shown = shown(machine, &first);
        if is_same(&first, &machine.path(path)) || own.contains(&shown) {
            continue;
        }
        findings.push(Finding {
            about: format!("package {}", manifest.package),
            what: format!("{shown} stands on the path before its {path}"),
            remedy: Some(format!("remove {shown}, or have the recipe put it there")),
        });
    }
    findings
}

/// /bin may be a link to /usr/bin.
fn is_same(one: &Path, other: &Path) -> bool {
    let (one, other) = (fs::canonicalize(one), fs::canonicalize(other));
    // A file that is missing is told as such.
    other.is_err() || matches!((one, other), (Ok(one), Ok(other)) if one == other)
}

fn shown(machine: &Machine, path: &Path) -> String {
    let below = path.strip_prefix(machine.path("/")).unwrap_or(path);
    Path::new("/").join(below).display().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_program_before_the_packages_own_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::at(dir.path());
        let program = |path: &str| {
            let path = machine.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "#!").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        program("/usr/bin/qemu");
        symlink("usr/bin", machine.path("/bin")).unwrap();
        let manifest = Manifest {
            package: "qemu".into(),
            paths: vec!["/bin/qemu".into(), "/usr/lib/qemu".into()],
            sums: Default::default(),
            unpacked: (0, 0),
        };
        assert_eq!(look(&machine, &manifest, &[]), []);
        program("/usr/local/bin/qemu");
        let found = look(&machine, &manifest, &[]);
        assert_eq!(found[0].what, "/usr/local/bin/qemu stands on the path before its /bin/qemu");
        assert_eq!(look(&machine, &manifest, &["/usr/local/bin/qemu".into()]), []);
        // A link to it is it.
        fs::remove_file(machine.path("/usr/local/bin/qemu")).unwrap();
        symlink("../../bin/qemu", machine.path("/usr/local/bin/qemu")).unwrap();
        assert_eq!(look(&machine, &manifest, &[]), []);
    }
}
