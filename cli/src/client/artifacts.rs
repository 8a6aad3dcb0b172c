use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use toril_archive::{Links, Receipt, Rules, unpack};

use super::{Client, ClientError};
use crate::agent::{Report, Request};

/// A larger archive of artifacts is not taken, in bytes: a host keeps less than that unpacked.
const LARGEST: u64 = 128 << 20;

/// What is taken of an archive that a host sends, which may have been tampered with.
const RULES: Rules =
    Rules { owner: None, links: Links::Refuse, most_bytes: 256 << 20, most_entries: 200_000 };

impl Client {
    /// Fetches what a run of the host has kept, and unpacks it below a directory: in HOST/RUN, which is returned.
    pub(crate) async fn fetch_artifacts(&mut self, run: &str, below: &Path) -> Result<PathBuf, ClientError> {
        self.send(&Request::Artifacts { run: run.to_owned() }).await?;
        let Report::Artifacts { size, sha256 } = self.report().await? else {
            return Err(ClientError::Unexpected);
        };
        let cannot = |why: &dyn std::fmt::Display| ClientError::Artifacts {
            run: run.to_owned(),
            below: below.to_owned(),
            why: why.to_string(),
        };
        if size > LARGEST {
            return Err(cannot(&format!("the host sends {} MiB of them", size >> 20)));
        }
        let mut archive = tempfile::tempfile().map_err(|error| cannot(&error))?;
        let mut receipt = Receipt::default();
        while receipt.size < size {
            let piece = self.blob().await?;
            receipt.take(&piece);
            archive.write_all(&piece).map_err(|error| cannot(&error))?;
        }
        self.done().await?;
        if receipt.size != size || receipt.sha256() != sha256 {
            return Err(cannot(&"what arrived is not what was sent"));
        }
        place(archive, &below.join(plain(&self.host.name)), &plain(run)).map_err(|error| cannot(&error))
    }
}

/// Unpacks an archive beside its place first, so that what is found there is whole.
fn place(mut archive: File, directory: &Path, name: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    archive.seek(SeekFrom::Start(0))?;
    let unfinished = tempfile::Builder::new().prefix(".toril-").tempdir_in(directory)?;
    unpack(io::BufReader::new(archive), unfinished.path(), &RULES).map_err(io::Error::other)?;
    let place = directory.join(name);
    if place.exists() {
        return Err(io::Error::other(format!("{} is there already", place.display())));
    }
    fs::rename(unfinished.path(), &place)?;
    // It has another name now, and nothing is left to be removed.
    drop(unfinished.keep());
    Ok(place)
}

/// A name that is one part of a path. Without colons: uploads of GitHub's CI refuse them.
/// Source: the check of names in `@actions/artifact`.
fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.@".contains(c) { c } else { '_' };
    let text: String = name.chars().map(plain).collect();
    if text.starts_with('.') { format!("_{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use toril_archive::{everything, pack};

    use super::*;

    fn archive(tree: &Path) -> File {
        let paths = everything(tree).unwrap();
        let parcel = pack(tree, paths.iter().map(PathBuf::as_path), &mut |_| {}).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        io::copy(&mut parcel.open().unwrap(), &mut file).unwrap();
        file
    }

    #[test]
    fn what_is_there_is_whole_and_is_not_replaced() {
        let (tree, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(tree.path().join("tests/001-boot")).unwrap();
        fs::write(tree.path().join("tests/001-boot/serial.txt"), "hello").unwrap();
        let host = into.path().join("alpha");
        let place_it = || place(archive(tree.path()), &host, "run");
        let place = place_it().unwrap();
        assert_eq!(fs::read_to_string(place.join("tests/001-boot/serial.txt")).unwrap(), "hello");
        assert!(place_it().unwrap_err().to_string().ends_with("run is there already"));
        assert_eq!(fs::read_dir(&host).unwrap().count(), 1);
    }

    #[test]
    fn a_host_leads_nowhere_else() {
        let (tree, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink("x", tree.path().join("link")).unwrap();
        assert!(place(archive(tree.path()), into.path(), "run").is_err());
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
        for (name, expected) in [
            ("debian@a.example", "debian@a.example"),
            ("../x", "_.._x"),
            ("sandbox/a", "sandbox_a"),
            ("debian@10.0.0.1:2222", "debian@10.0.0.1_2222"),
            ("..", "_.."),
        ] {
            assert_eq!(plain(name), expected);
        }
    }
}
