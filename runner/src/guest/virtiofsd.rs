use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toril_machine::{CommandError, Probe};

use crate::account::Account;

/// Where Debian has it: from 13 on as a package of its own, before as a part of QEMU's; and where the recipe puts it when
/// that part is lost.
const PLACES: [&str; 3] =
    ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/local/lib/toril/virtiofsd"];

/// How long it may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// A daemon for virtio-fs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Virtiofsd {
    pub path: PathBuf,
    pub kind: Kind,
}

/// The two programs of that name, which take different options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// QEMU's own until 7.2, which only root can run.
    C,
    /// The one that took its place, which any user can run.
    Rust,
}

impl Virtiofsd {
    /// Finds out which one is there; `named` is a path that the suite gives. An error is why there is none to be used.
    pub(crate) fn find(named: Option<&Path>, account: &Account) -> Result<Virtiofsd, String> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => PLACES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(missing)?,
        };
        if let Probe::Absent = Probe::of_io(fs::metadata(&path), "the daemon") {
            return Err(format!("there is no {}, which is named as virtiofsd", path.display()));
        }
        let help = account.command(&path.to_string_lossy(), &["--help"]).deadline(PATIENCE).run();
        let said = match help {
            Ok(finished) => [finished.stdout, finished.stderr].concat(),
            Err(error @ CommandError::NotFound { .. }) => {
                return Err(format!("{error} (package util-linux)"));
            }
            Err(error) => return Err(format!("cannot find out what {} is: {error}", path.display())),
        };
        let said = String::from_utf8_lossy(&said);
        let kind = kind_of(&said).ok_or_else(|| {
            let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
            format!("{} is no virtiofsd: to --help it says: {}", path.display(), said.trim())
        })?;
        Ok(Virtiofsd { path, kind })
    }

    /// The program and its arguments; `channel` is what it listens at, as two words of its own language.
    pub(crate) fn argv(&self, dir: &Path, channel: Channel<'_>) -> Vec<String> {
        let (path, dir) = (self.path.to_string_lossy().into_owned(), dir.to_string_lossy());
        let channel = match channel {
            Channel::File(number) => format!("--fd={number}"),
            Channel::Socket(path) => format!("--socket-path={}", path.display()),
        };
        match self.kind {
            // A guest can have it make files of any owner and mode: it must make no devices, nor privileged programs.
            Kind::C => {
                let source = format!("source={}", dir.replace('\\', r"\\").replace(',', r"\,"));
                vec![path, channel, "-o".into(), source, "-o".into(), "modcaps=-mknod:-setfcap".into()]
            }
            // It has no rights that it could give up.
            Kind::Rust => {
                vec![
                    path,
                    channel,
                    "--shared-dir".into(),
                    dir.into_owned(),
                    "--sandbox".into(),
                    "none".into(),
                ]
            }
        }
    }

    /// Whether nobody but root could have put the program there, so that root may run it. An error is why not.
    pub(crate) fn is_roots(&self) -> Result<(), String> {
        let real = match Probe::of_io(fs::canonicalize(&self.path), &self.path.to_string_lossy()) {
            Probe::Known(real) => real,
            Probe::Absent => return Err(format!("{} is not there", self.path.display())),
            Probe::Unreadable(why) => return Err(why),
        };
        for part in real.ancestors() {
            let metadata =
                fs::metadata(part).map_err(|error: io::Error| format!("{}: {error}", part.display()))?;
            // Everybody may write to /tmp, but not over what is another's.
            let open = metadata.mode() & 0o022 != 0 && !(metadata.is_dir() && metadata.mode() & 0o1000 != 0);
            if metadata.uid() != 0 || open {
                return Err(format!(
                    "{} must be run as root, and others than root can change {}",
                    self.path.display(),
                    part.display()
                ));
            }
        }
        Ok(())
    }
}

/// What the daemon listens at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Channel<'c> {
    /// An open file, by its number or what stands for it.
    File(&'c str),
    /// A socket that it makes.
    Socket(&'c Path),
}

fn missing() -> String {
    format!(
        "there is no virtiofsd on the host (looked for {}): apply the recipe to it, or say where it is by \
         `virtiofsd`",
        PLACES.join(" and ")
    )
}

fn kind_of(help: &str) -> Option<Kind> {
    if help.contains("--shared-dir") {
        return Some(Kind::Rust);
    }
    (help.contains("source=PATH") && help.contains("--fd=")).then_some(Kind::C)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_are_told_apart_by_what_they_say() {
        let c = "usage: /usr/lib/qemu/virtiofsd [options]\n    -o source=PATH             shared directory tree\n    --fd=FDNUM                 fd number of vhost-user socket\n";
        let rust = "Launch a virtiofsd backend.\n\nUsage: virtiofsd --shared-dir <SHARED_DIR> --socket-path <SOCKET_PATH> [OPTIONS]\n  -o <COMPAT_OPTIONS>\n";
        assert_eq!(
            [kind_of(c), kind_of(rust), kind_of("usage: ls")],
            [Some(Kind::C), Some(Kind::Rust), None]
        );
    }

    #[test]
    fn each_is_spoken_to_in_its_language() {
        let of = |kind| Virtiofsd { path: "/v".into(), kind };
        let argv = of(Kind::C).argv(Path::new("/a,b"), Channel::File("7")).join(" ");
        assert_eq!(argv, r"/v --fd=7 -o source=/a\,b -o modcaps=-mknod:-setfcap");
        let argv = of(Kind::Rust).argv(Path::new("/a,b"), Channel::Socket(Path::new("/s"))).join(" ");
        assert_eq!(argv, "/v --socket-path=/s --shared-dir /a,b --sandbox none");
    }

    #[test]
    fn what_others_can_change_is_not_for_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("virtiofsd");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o757)).unwrap();
        let why = Virtiofsd { path, kind: Kind::C }.is_roots().unwrap_err();
        assert!(why.contains("must be run as root, and others than root can change"), "{why}");
        assert!(Virtiofsd { path: "/bin/sh".into(), kind: Kind::C }.is_roots().is_ok());
    }
}
