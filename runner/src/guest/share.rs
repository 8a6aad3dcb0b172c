use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::Patience;
use super::plan::error;
use super::tree::{BOUNDS, copy_tree};
use super::virtiofsd::{Channel, Kind, Virtiofsd};
use crate::account::Account;
use crate::isolation::{Spec, file_placeholder};
use crate::suite::Share;
use crate::supervise::{Member, Part};
use crate::verdict::Verdict;

/// A directory that is ready to be shared with a guest.
#[derive(Debug)]
pub(crate) struct PreparedShare {
    /// What the daemon is to share.
    pub dir: PathBuf,
    /// What the suite named.
    pub original: PathBuf,
    /// Where QEMU finds the daemon.
    pub socket: PathBuf,
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
        folder: &Path,
        patience: &Patience<'_>,
    ) -> Result<PreparedShare, Verdict> {
        let original = base.join(&share.dir);
        // Tests that run as root may have root run any program.
        if daemon.kind == Kind::C && account.uid != 0 {
            daemon.is_roots().map_err(error)?;
            if share.in_place {
                return Err(error(format!(
                    "the virtiofsd of this host runs as root, and so cannot have {} itself, which user {} names: leave \
                     out `in-place`, or use a virtiofsd that any user can run (1.0 and newer)",
                    original.display(),
                    account.name
                )));
            }
        }
        let dir = if share.in_place {
            account.act(|| fs::read_dir(&original).map(drop)).map_err(|why| {
                error(format!("cannot share {} as user {}: {why}", original.display(), account.name))
            })?;
            original.clone()
        } else {
            let copy = folder.join("share");
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
        let socket = folder.join("virtiofsd.sock");
        let listener = listen(&socket, account)
            .map_err(|why| error(format!("cannot make virtiofsd's socket {}: {why}", socket.display())))?;
        Ok(PreparedShare { dir, original, socket, daemon, listener })
    }

    /// The daemon, which finds its socket made: one that makes it itself would have to be waited for, and one that is
    /// asked whether it listens takes whoever asks for QEMU.
    pub(crate) fn member(self, account: &Account, folder: &Path) -> Member {
        let root = Account::root();
        let user = if self.daemon.kind == Kind::C { &root } else { account };
        let argv = self.daemon.argv(&self.dir, Channel::File(&file_placeholder(0)));
        Member {
            part: Part::Support,
            spec: Spec { files: 1, ..user.spec(argv, folder) },
            files: vec![self.listener],
            waits: Vec::new(),
        }
    }
}

fn listen(socket: &Path, account: &Account) -> io::Result<OwnedFd> {
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    chown(socket, Some(account.uid), Some(account.gid))?;
    Ok(listener.into())
}
