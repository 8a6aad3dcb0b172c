//! What systemd's files say of a unit. `systemctl is-enabled` says the same, at the price of a process each.

use std::fs;
use std::path::Path;

use toril_machine::{Machine, Probe};

use super::ResourceError;

/// Where units are, the first winning: systemd.unit(5).
const UNITS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Where units are enabled.
const ENABLED: &str = UNITS[0];

/// Whether a unit is started at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enabled {
    Yes,
    No,
    /// It says nothing of when it would be started.
    Static,
    NoUnit,
}

/// What the files say of a unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnitFiles {
    pub(super) enabled: Enabled,
    pub(super) masked: bool,
}

/// Looks at the files of a unit.
pub(super) fn observe(machine: &Machine, name: &str) -> Result<UnitFiles, ResourceError> {
    let mut name = name.to_owned();
    // Aliases are links; systemd follows them, and a circle of them is no unit.
    for _ in 0..8 {
        match find(machine, &name)? {
            Found::Alias(real) => name = real,
            Found::Masked => return Ok(UnitFiles { enabled: Enabled::No, masked: true }),
            Found::Text(text) => {
                let enabled = match is_linked(machine, &name)? {
                    true => Enabled::Yes,
                    false if has_install(&text) => Enabled::No,
                    false => Enabled::Static,
                };
                return Ok(UnitFiles { enabled, masked: false });
            }
            Found::Nothing => break,
        }
    }
    Ok(UnitFiles { enabled: init_script(machine, &name)?, masked: false })
}

/// Whether a unit's text says when it would be started.
pub(super) fn has_install(text: &str) -> bool {
    let keys = ["WantedBy", "RequiredBy", "UpheldBy", "Alias", "Also"];
    let section = text.lines().map(str::trim).skip_while(|line| *line != "[Install]").skip(1);
    section.take_while(|line| !line.starts_with('[')).any(|line| {
        let entry = line.split_once('=');
        entry.is_some_and(|(key, value)| keys.contains(&key.trim()) && !value.trim().is_empty())
    })
}

enum Found {
    Text(String),
    /// Another name of this unit.
    Alias(String),
    Masked,
    Nothing,
}

fn find(machine: &Machine, name: &str) -> Result<Found, ResourceError> {
    // An instance has a file of its own, or its template's.
    let template = name.split_once('@').and_then(|(prefix, rest)| {
        let (_, suffix) = rest.rsplit_once('.')?;
        Some(format!("{prefix}@.{suffix}"))
    });
    for file in [Some(name), template.as_deref()].into_iter().flatten() {
        for directory in UNITS {
            let path = format!("{directory}/{file}");
            let target = Probe::of_io(fs::symlink_metadata(machine.path(&path)), &path);
            let Some(metadata) = target.known().map_err(ResourceError)? else { continue };
            if !metadata.is_symlink() {
                let text = machine.read(&path).known().map_err(ResourceError)?;
                return Ok(Found::Text(text.unwrap_or_default()));
            }
            let target = fs::read_link(machine.path(&path))
                .map_err(|error| ResourceError(format!("cannot read {path}: {error}")))?;
            if target == Path::new("/dev/null") {
                return Ok(Found::Masked);
            }
            let target_name = target.file_name().and_then(|name| name.to_str()).unwrap_or(file);
            if target_name != file {
                return Ok(Found::Alias(target_name.to_owned()));
            }
            let target = Path::new(directory).join(target);
            let text = machine.read(&target.to_string_lossy()).known().map_err(ResourceError)?;
            return Ok(text.map_or(Found::Nothing, Found::Text));
        }
    }
    Ok(Found::Nothing)
}

/// Whether something wants the unit, or it has another name because it is enabled.
fn is_linked(machine: &Machine, name: &str) -> Result<bool, ResourceError> {
    let cannot = |error| ResourceError(format!("cannot read {ENABLED}: {error}"));
    let entries = Probe::of_io(fs::read_dir(machine.path(ENABLED)), ENABLED);
    for entry in entries.known().map_err(ResourceError)?.into_iter().flatten() {
        let entry = entry.map_err(cannot)?;
        let file = entry.file_name();
        let Some(file) = file.to_str() else { continue };
        let is_link = entry.file_type().map_err(cannot)?.is_symlink();
        let linked = if is_link {
            let target = fs::read_link(entry.path()).map_err(cannot)?;
            file != name && target.file_name().and_then(|target| target.to_str()) == Some(name)
        } else if [".wants", ".requires", ".upholds"].iter().any(|suffix| file.ends_with(suffix)) {
            let path = format!("{ENABLED}/{file}/{name}");
            machine.exists(&path).known().map_err(ResourceError)?.is_some()
        } else {
            false
        };
        if linked {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A script of System V, of which systemd makes a unit while it runs.
fn init_script(machine: &Machine, name: &str) -> Result<Enabled, ResourceError> {
    let Some(script) = name.strip_suffix(".service") else { return Ok(Enabled::NoUnit) };
    let there = machine.exists(&format!("/etc/init.d/{script}")).known().map_err(ResourceError)?;
    if there.is_none() {
        return Ok(Enabled::NoUnit);
    }
    for level in 2..=5 {
        let directory = format!("/etc/rc{level}.d");
        let entries = Probe::of_io(fs::read_dir(machine.path(&directory)), &directory);
        let mut entries = entries.known().map_err(ResourceError)?.into_iter().flatten().flatten();
        // Such as `S01ssh`.
        let is_start = |file: &str| file.starts_with('S') && file.get(3..) == Some(script);
        if entries.any(|entry| entry.file_name().to_str().is_some_and(is_start)) {
            return Ok(Enabled::Yes);
        }
    }
    Ok(Enabled::No)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Root(tempfile::TempDir);

    impl Root {
        fn new() -> Root {
            let root = Root(tempfile::tempdir().unwrap());
            let install = "[Unit]\n[Install]\nWantedBy=multi-user.target\n";
            root.file("lib/systemd/system/ssh.service", install);
            root.file("lib/systemd/system/getty@.service", install);
            root.file("lib/systemd/system/dbus.socket", "[Socket]\n# [Install]\nWantedBy=x\n");
            root
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn link(&self, path: &str, target: &str) {
            let path = self.0.path().join("etc/systemd/system").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }

        fn enabled(&self, name: &str) -> Enabled {
            observe(&Machine::at(self.0.path()), name).unwrap().enabled
        }
    }

    #[test]
    fn links_say_what_is_enabled() {
        let root = Root::new();
        assert_eq!(root.enabled("ssh.service"), Enabled::No);
        assert_eq!(root.enabled("none.service"), Enabled::NoUnit);
        assert_eq!(root.enabled("dbus.socket"), Enabled::Static);
        root.link("multi-user.target.wants/ssh.service", "/lib/systemd/system/ssh.service");
        root.link("sshd.service", "/lib/systemd/system/ssh.service");
        assert_eq!(root.enabled("ssh.service"), Enabled::Yes);
        assert_eq!(root.enabled("sshd.service"), Enabled::Yes, "by its other name");
        assert_eq!(root.enabled("getty@tty2.service"), Enabled::No);
        root.link("getty.target.wants/getty@tty1.service", "/lib/systemd/system/getty@.service");
        assert_eq!(root.enabled("getty@tty1.service"), Enabled::Yes);
        assert_eq!(root.enabled("getty@tty2.service"), Enabled::No);
    }

    #[test]
    fn a_masked_unit_is_not_enabled() {
        let root = Root::new();
        root.link("multi-user.target.wants/ssh.service", "/lib/systemd/system/ssh.service");
        root.link("ssh.service", "/dev/null");
        let found = observe(&Machine::at(root.0.path()), "ssh.service").unwrap();
        assert_eq!(found, UnitFiles { enabled: Enabled::No, masked: true });
    }

    #[test]
    fn a_circle_of_links_is_no_unit() {
        let root = Root::new();
        root.link("a.service", "b.service");
        root.link("b.service", "a.service");
        assert_eq!(root.enabled("a.service"), Enabled::NoUnit);
    }

    #[test]
    fn old_scripts_count() {
        let root = Root::new();
        root.file("etc/init.d/old", "");
        assert_eq!(root.enabled("old.service"), Enabled::No);
        root.file("etc/rc3.d/S01old", "");
        assert_eq!(root.enabled("old.service"), Enabled::Yes);
    }
}
