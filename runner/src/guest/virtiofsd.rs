use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::step::StepEnd;

/// Where Debian has it: from 13 on as a package of its own, before as a part of QEMU's; and where the recipe puts it when
/// that part is lost.
const PLACES: [&str; 3] =
    ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/local/lib/toril/virtiofsd"];

/// A daemon for virtio-fs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Virtiofsd {
    /// Without a link in it: one that others may change could lead elsewhere the next moment.
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
    /// Finds out which one is there; `named` is a path that the suite gives, and `ask` has a program say what it can do, as the
    /// test's user. An error is why there is none to be used.
    pub(crate) fn find(
        named: Option<&Path>,
        account: &Account,
        ask: impl FnOnce(&Path) -> StepEnd,
    ) -> Result<Virtiofsd, String> {
        let path = match named {
            Some(path) => path,
            None => PLACES.map(Path::new).into_iter().find(|path| path.exists()).ok_or_else(missing)?,
        };
        let shown = path.display();
        let real = account.act(|| fs::canonicalize(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("there is no {shown}, which is named as virtiofsd"),
            _ => format!(
                "cannot look for {shown}, which is named as virtiofsd, as user {}: {error}",
                account.name
            ),
        })?;
        let StepEnd { trouble, printed, .. } = ask(&real);
        let said = printed.into_bytes();
        let said = String::from_utf8_lossy(&said);
        if let Some(kind) = kind_of(&said) {
            return Ok(Virtiofsd { path: real, kind });
        }
        Err(match (said.lines().find(|line| !line.trim().is_empty()), trouble) {
            (Some(line), Some(why)) => {
                format!("{shown} is no virtiofsd: to --help it says: {} ({why})", line.trim())
            }
            (Some(line), None) => format!("{shown} is no virtiofsd: to --help it says: {}", line.trim()),
            (None, Some(why)) => format!("cannot find out what {shown} is: {why}"),
            (None, None) => format!("{shown} is no virtiofsd: to --help it says nothing"),
        })
    }

    /// The program and its arguments; `channel` is what it listens at, as two words of its own language.
    pub(crate) fn argv(&self, dir: &Path, channel: Channel<'_>) -> Vec<String> {
        let (path, dir) = (self.path.to_string_lossy().into_owned(), dir.to_string_lossy());
        let channel = match channel {
            Channel::File(number) => format!("--fd={number}"),
            Channel::Socket(path) => format!("--socket-path={}", path.display()),
        };
        match self.kind {
            // A guest can have it make files of any owner: it must make no devices, nor give programs capabilities. That it
            // sets no bits by which they get their owner's rights is seen to where it is started.
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

    /// Whether root alone can put another program there, so that root may run it. An error is why not.
    pub(crate) fn is_roots(&self) -> Result<(), String> {
        for part in self.path.ancestors() {
            let metadata = fs::symlink_metadata(part)
                .map_err(|error| format!("cannot look at {}: {error}", part.display()))?;
            if metadata.is_symlink() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
                return Err(format!(
                    "{} must be run as root, and others than root can change {}: use one that belongs to root, in \
                     directories that do and that nobody else may write to, or one that any user can run (1.0 and newer)",
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
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::capture::Capture;

    /// Nothing, after saying why, where nobody can become another user.
    fn root() -> Option<Account> {
        let root = Account::root();
        let is_root = root.act(|| Ok(())).is_ok();
        if !is_root {
            println!("skipped: it is not root that runs this");
        }
        is_root.then_some(root)
    }

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

    fn said(text: &str, trouble: Option<&str>) -> StepEnd {
        let mut printed = Capture::default();
        printed.take(text.as_bytes());
        StepEnd { trouble: trouble.map(str::to_owned), stdout: Capture::default(), printed }
    }

    #[test]
    fn what_is_asked_is_what_is_run_wherever_a_link_leads_by_then() {
        let Some(root) = root() else { return };
        let folder = tempfile::tempdir().unwrap();
        let (evil, link) = (folder.path().join("evil"), folder.path().join("v"));
        fs::write(&evil, "").unwrap();
        std::os::unix::fs::chown(&evil, Some(65534), None).unwrap();
        symlink(&evil, &link).unwrap();
        let evil = fs::canonicalize(&evil).unwrap();
        let found = Virtiofsd::find(Some(&link), &root, |program| {
            assert_eq!(program, evil);
            // What is asked has the link lead to root's own by the time that it is judged.
            fs::remove_file(&link).unwrap();
            symlink("/bin/sh", &link).unwrap();
            said("source=PATH --fd=FDNUM", Some("it exited with status 1"))
        });
        let found = found.unwrap();
        assert_eq!(found, Virtiofsd { path: evil.clone(), kind: Kind::C });
        assert_eq!(found.argv(Path::new("/d"), Channel::File("3"))[0], evil.to_string_lossy());
        let why = found.is_roots().unwrap_err();
        assert!(why.contains("must be run as root, and others than root can change"), "{why}");
    }

    #[test]
    fn what_is_no_daemon_is_told_by_the_name_that_the_suite_gives() {
        let Some(root) = root() else { return };
        let find = |name: &str, end: StepEnd| Virtiofsd::find(Some(Path::new(name)), &root, |_| end);
        let why = find("/nonexistent/v", said("", None)).unwrap_err();
        assert_eq!(why, "there is no /nonexistent/v, which is named as virtiofsd");
        let why = find("/bin/sh", said("\nusage: sh\n", Some("it exited with status 2"))).unwrap_err();
        assert_eq!(why, "/bin/sh is no virtiofsd: to --help it says: usage: sh (it exited with status 2)");
        let why = find("/bin/sh", said("", Some("it was killed by SIGSEGV"))).unwrap_err();
        assert_eq!(why, "cannot find out what /bin/sh is: it was killed by SIGSEGV");
        let why = find("/bin/sh", said("", None)).unwrap_err();
        assert_eq!(why, "/bin/sh is no virtiofsd: to --help it says nothing");
    }

    #[test]
    fn what_others_can_change_is_not_for_root() {
        let Some(_) = root() else { return };
        let of = |path: &Path| Virtiofsd { path: path.to_owned(), kind: Kind::C };
        let shell = fs::canonicalize("/bin/sh").unwrap();
        assert!(of(&shell).is_roots().is_ok());
        let folder = tempfile::tempdir().unwrap();
        let (open, link) = (folder.path().join("open"), folder.path().join("link"));
        let path = open.join("virtiofsd");
        fs::create_dir(&open).unwrap();
        fs::write(&path, "").unwrap();
        symlink(&shell, &link).unwrap();
        // A directory in which others may put files but not replace root's, such as /tmp: they may have had root put it there.
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        for (program, mode, changed) in
            [(&path, 0o757, &path), (&path, 0o775, &path), (&path, 0o755, &open), (&link, 0o755, &link)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let why = of(program).is_roots().unwrap_err();
            let expected =
                format!("must be run as root, and others than root can change {}: ", changed.display());
            assert!(why.contains(&expected), "{why}");
        }
    }
}
