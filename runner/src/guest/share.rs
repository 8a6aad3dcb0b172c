use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use toril_machine::Probe;

use super::Patience;
use super::plan::error;
use super::tree::{BOUNDS, copy_tree};
use super::virtiofsd::{Channel, Kind, Virtiofsd};
use crate::account::Account;
use crate::folder::Folder;
use crate::isolation::{Spec, file_placeholder};
use crate::run_directory::RunDirectory;
use crate::suite::Share;
use crate::supervise::{Member, Part};
use crate::verdict::Verdict;

/// Where the system says whether links can be made to files that one may not write to.
const HARD_LINKS: &str = "/proc/sys/fs/protected_hardlinks";

/// The folder of what a guest shares: the copy, which is the test user's, and the daemon's socket. Root alone gives names in it.
/// A daemon that is root goes to the copy by its path, again and again, and would go wherever a link leads that is there
/// instead.
#[derive(Debug)]
pub(crate) struct ShareFolder(Folder);

impl ShareFolder {
    /// Makes it, with an empty directory for the copy.
    fn make(directory: &RunDirectory, account: &Account) -> io::Result<ShareFolder> {
        let folder = ShareFolder(directory.of_root(account)?);
        let copy = folder.copy();
        DirBuilder::new().mode(0o755).create(&copy)?;
        chown(&copy, Some(account.uid), Some(account.gid))?;
        Ok(folder)
    }

    fn copy(&self) -> PathBuf {
        self.0.path().join("share")
    }

    /// Where QEMU finds the daemon.
    pub(super) fn socket(&self) -> PathBuf {
        self.0.path().join("virtiofsd.sock")
    }

    fn listen(&self, account: &Account) -> io::Result<OwnedFd> {
        let socket = self.socket();
        let listener = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        chown(&socket, Some(account.uid), Some(account.gid))?;
        Ok(listener.into())
    }

    /// Lets it stay, without its socket.
    pub(crate) fn keep(mut self) {
        let _ = fs::remove_file(self.socket());
        self.0.keep();
    }
}

/// A directory that is ready to be shared with a guest.
#[derive(Debug)]
pub(crate) struct PreparedShare {
    /// What the daemon is to share.
    pub dir: PathBuf,
    /// What the suite named.
    pub original: PathBuf,
    pub folder: ShareFolder,
    pub daemon: Virtiofsd,
    listener: OwnedFd,
}

impl PreparedShare {
    /// Makes the copy of the directory (a relative path starts at `base`) and the socket. An error is the verdict, where the guest cannot
    /// have it.
    pub(crate) fn prepare(
        share: &Share,
        daemon: Virtiofsd,
        base: &Path,
        account: &Account,
        directory: &RunDirectory,
        patience: &Patience<'_>,
    ) -> Result<PreparedShare, Verdict> {
        let original = base.join(&share.dir);
        // Tests that run as root may have root run any program.
        if daemon.kind == Kind::C && account.uid != 0 {
            daemon.is_roots().map_err(error)?;
            has_no_links_to_others(Probe::of_io(fs::read_to_string(HARD_LINKS), HARD_LINKS))
                .map_err(error)?;
            if share.in_place {
                return Err(error(format!(
                    "the virtiofsd of this host runs as root, and so cannot have {} itself, which user {} names: leave \
                     out `in-place`, or use a virtiofsd that any user can run (1.0 and newer)",
                    original.display(),
                    account.name
                )));
            }
        }
        let folder = ShareFolder::make(directory, account)
            .map_err(|why| error(format!("cannot make a folder for what is to be shared: {why}")))?;
        let dir = if share.in_place {
            account.act(|| fs::read_dir(&original).map(drop)).map_err(|why| {
                error(format!("cannot share {} as user {}: {why}", original.display(), account.name))
            })?;
            original.clone()
        } else {
            let copy = folder.copy();
            account.act(|| copy_tree(&original, &copy, BOUNDS, patience)).map_err(|why| {
                patience.verdict(&why, &original, || {
                    format!(
                        "cannot copy {}, which is to be shared, as user {}: {why}",
                        original.display(),
                        account.name
                    )
                })
            })?;
            copy
        };
        let listener = folder.listen(account).map_err(|why| {
            error(format!("cannot make virtiofsd's socket {}: {why}", folder.socket().display()))
        })?;
        Ok(PreparedShare { dir, original, folder, daemon, listener })
    }

    /// The daemon, which finds its socket made: one that makes it itself would have to be waited for, and one that is
    /// asked whether it listens takes whoever asks for QEMU. `home` is the test's own folder.
    pub(crate) fn member(self, account: &Account, home: &Path) -> (Member, ShareFolder) {
        let root = Account::root();
        let (user, dir) = match self.daemon.kind {
            Kind::C => (&root, self.folder.0.path()),
            Kind::Rust => (account, home),
        };
        let argv = self.daemon.argv(&self.dir, Channel::File(&file_placeholder(0)));
        // A guest is root to a daemon that is, and has it make files of root's with any mode.
        let forbids_set_id = self.daemon.kind == Kind::C;
        let member = Member {
            part: Part::Support,
            spec: Spec { files: 1, forbids_set_id, ..user.spec(argv, dir) },
            files: vec![self.listener],
            waits: Vec::new(),
        };
        (member, self.folder)
    }
}

/// Whether nobody can put a link to somebody else's file into a copy that a daemon of root's shares: whoever writes to that writes
/// to the file. An error is why it may be so, by what the system says.
fn has_no_links_to_others(setting: Probe<String>) -> Result<(), String> {
    let why = match setting {
        Probe::Known(text) if text.trim() != "0" => return Ok(()),
        Probe::Known(_) => "fs.protected_hardlinks is 0".to_owned(),
        Probe::Absent => format!("there is no {HARD_LINKS}"),
        Probe::Unreadable(why) => why,
    };
    Err(format!(
        "the virtiofsd of this host runs as root, and whatever the tests put into the copy it could write to, files of root's \
         included, to which any user can make a link here ({why}): `sysctl -w fs.protected_hardlinks=1` ends that, which is \
         Debian's default"
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn the_test_user_changes_what_is_in_a_copy_and_not_what_it_is() {
        let root = Account::root();
        if root.act(|| Ok(())).is_err() {
            println!("skipped: it is not root that runs this, and nobody else can become another user");
            return;
        }
        let nobody = Account { name: "nobody".into(), uid: 65534, gid: 65534, groups: vec![65534], ..root };
        let other = Account { uid: 65533, gid: 65533, groups: vec![65533], ..nobody.clone() };
        let state = tempfile::tempdir().unwrap();
        fs::set_permissions(state.path(), Permissions::from_mode(0o755)).unwrap();
        let run = RunDirectory::create(state.path()).unwrap();
        let folder = ShareFolder::make(&run, &nobody).unwrap();
        let _listener = folder.listen(&nobody).unwrap();
        let (copy, socket) = (folder.copy(), folder.socket());
        let away = folder.0.path().join("away");
        let denied = |work: &(dyn Fn() -> io::Result<()> + Sync)| {
            let error = nobody.act(work).unwrap_err();
            assert!(matches!(error.kind(), io::ErrorKind::PermissionDenied), "{error}");
        };
        for path in [&copy, &socket, &folder.0.path().to_owned()] {
            denied(&|| fs::rename(path, state.path().join("away")));
            denied(&|| fs::remove_file(path));
        }
        denied(&|| fs::rename(&copy, &away));
        denied(&|| fs::remove_dir(&copy));
        denied(&|| symlink("/etc", &away));
        nobody.act(|| fs::write(copy.join("file"), "")).unwrap();
        assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(&socket).unwrap().uid(), nobody.uid);
        // What a guest makes as root is nothing that the other users of the host come to.
        let error = other.act(|| fs::metadata(copy.join("file")).map(drop)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        folder.keep();
        assert!(copy.exists() && !socket.exists());
    }

    #[test]
    fn where_anybody_can_link_to_anything_no_daemon_runs_as_root() {
        assert!(has_no_links_to_others(Probe::Known("1\n".into())).is_ok());
        for setting in [Probe::Known("0\n".into()), Probe::Absent, Probe::Unreadable("no".into())] {
            let why = has_no_links_to_others(setting).unwrap_err();
            assert!(why.contains("`sysctl -w fs.protected_hardlinks=1`"), "{why}");
        }
    }
}
