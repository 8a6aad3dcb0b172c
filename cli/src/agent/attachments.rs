use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use tempfile::NamedTempFile;
use toril_archive::Receipt;
use toril_machine::{Machine, Probe};

use super::run_directory::RunDirectory;
use super::worker::TEST_USER;
use super::{Attached, Attachment};

/// Files that came with an order, in the run's directory under names of their own: another front may be receiving the same.
/// Those that no run takes are gone with this.
pub(super) struct Attachments(Vec<(Attached, NamedTempFile)>);

/// Why attachments cannot be taken.
pub(super) enum ReceiveError<E> {
    /// Nothing more comes.
    Lost(E),
    /// They have come, but not as they were announced, or they could not be kept.
    Spoilt(io::Error),
}

impl Attachments {
    /// Receives what was announced, piece by piece. All of it is received, also where it cannot be kept: what follows it is
    /// understood then.
    pub(super) fn receive<E>(
        run: &RunDirectory,
        announced: &[Attachment],
        mut next: impl FnMut() -> Result<Vec<u8>, E>,
    ) -> Result<Attachments, ReceiveError<E>> {
        let mut received = Vec::new();
        let mut spoilt = None;
        for attachment in announced {
            match receive(run.path(), attachment, &mut next).map_err(ReceiveError::Lost)? {
                Ok(file) => received.push((attachment.what, file)),
                Err(error) => spoilt = Some(error),
            }
        }
        spoilt.map_or(Ok(Attachments(received)), |error| Err(ReceiveError::Spoilt(error)))
    }

    /// Gives them to the run, which will look for them there.
    pub(super) fn hand_over(self, run: &RunDirectory) -> io::Result<()> {
        for (what, file) in self.0 {
            let path = match what {
                Attached::Kernel => run.kernel(),
                Attached::Source => run.source(),
            };
            let file = file.persist(&path).map_err(|error| error.error)?;
            if what == Attached::Kernel {
                for_the_test_user(&file, &path)?;
            }
        }
        Ok(())
    }
}

fn receive<E>(
    directory: &Path,
    attachment: &Attachment,
    next: &mut impl FnMut() -> Result<Vec<u8>, E>,
) -> Result<io::Result<NamedTempFile>, E> {
    let mut file = tempfile::Builder::new().prefix("incoming-").tempfile_in(directory);
    let mut receipt = Receipt::default();
    while receipt.size < attachment.size {
        let piece = next()?;
        receipt.take(&piece);
        if let Err(error) = file.as_mut().map_or(Ok(()), |file| file.write_all(&piece)) {
            file = Err(error);
        }
    }
    let (size, hash) = (receipt.size, receipt.sha256());
    if size != attachment.size || hash != attachment.sha256 {
        return Ok(Err(io::Error::other("what came with the order is not what was sent")));
    }
    Ok(file)
}

/// For the test user, who boots it, and for nobody else.
fn for_the_test_user(file: &File, path: &Path) -> io::Result<()> {
    let mode = match Machine::this().group(TEST_USER) {
        Probe::Known(group) => {
            chown(path, Some(0), Some(group.gid))?;
            0o640
        }
        Probe::Absent | Probe::Unreadable(_) => 0o600,
    };
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(content: &[u8]) -> Attachment {
        let mut receipt = Receipt::default();
        receipt.take(content);
        Attachment { what: Attached::Source, size: receipt.size, sha256: receipt.sha256() }
    }

    #[test]
    fn what_came_whole_is_kept_and_the_rest_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::at(dir.path().to_owned());
        let mut pieces = [&b"one "[..], b"tree", b"other"].into_iter().map(<[u8]>::to_vec);
        let mut next = || pieces.next().ok_or(());
        let attachment = announced(b"one tree");
        let received = Attachments::receive(&run, std::slice::from_ref(&attachment), &mut next);
        received.ok().unwrap().hand_over(&run).unwrap();
        assert_eq!(fs::read(run.source()).unwrap(), b"one tree");
        assert!(matches!(Attachments::receive(&run, &[attachment], &mut next), Err(ReceiveError::Lost(()))));
        let other = Attachment { size: 5, ..announced(b"what") };
        let spoilt = Attachments::receive(&run, &[other], || Ok::<_, ()>(b"whatt".to_vec()));
        assert!(matches!(spoilt, Err(ReceiveError::Spoilt(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
