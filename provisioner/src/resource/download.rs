//! `download`: a file from elsewhere, known by its hash. Apt fetches it, by its own proxies and its own ways.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use toril_document::Table;
use toril_machine::{Command, CommandError, FileAttributes, Machine, Probe};

use super::attributes::Attributes;
use super::incoming::Incoming;
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, parsed, read_path};
use crate::unfinished::Unfinished;

/// On every Debian; not on the search path.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// What is fetched lies here until it is whole, in a directory for each place: only root can make something here, and only
/// root and apt's user enter those.
pub(crate) const DOWNLOADS: &str = "/var/lib/toril/downloads";

/// How long the beginning of a file is kept for a next try.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Debug)]
struct Download {
    url: String,
    sha256: String,
    path: String,
    attributes: Attributes,
    /// In bytes.
    max_size: u64,
    deadline: Duration,
}

/// Why there is no file with the right hash.
enum Failure {
    /// It is another file, or too large: nothing of it is of use.
    Wrong(ResourceError),
    /// It did not come whole. What came is the beginning of the next try.
    Broken(ResourceError),
}

enum DownloadState {
    Absent,
    Other,
    File { sha256: String, attributes: Attributes },
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let url = parsed(table, "url", "R033", parse_url);
    let sha256 = parsed(table, "sha256", "R035", |text| parse_hex(text, 64));
    let path = read_path(table, "path");
    let attributes = Attributes::read(table, 0o644);
    let max_size = table.size("max-size").unwrap_or(1 << 30);
    let deadline = table.duration("deadline").unwrap_or(Duration::from_secs(1800));
    let (url, sha256, path) = (url?, sha256?, path?);
    Some(Box::new(Download { url, sha256, path, attributes, max_size, deadline }))
}

fn parse_url(text: &str) -> Result<String, String> {
    let known = ["https://", "http://", "file:///"];
    let is_good = known.iter().any(|start| text.len() > start.len() && text.starts_with(start));
    match is_good && text.chars().all(|c| c.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is no URL that can be fetched: begin it with https://, http:// or file:///"
        )),
    }
}

/// Reads a hash: hexadecimal digits, this many of them.
pub(super) fn parse_hex(text: &str, digits: usize) -> Result<String, String> {
    match text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!("`{text}` is not {digits} hexadecimal digits")),
    }
}

/// Copies all there is and returns its hash.
pub(super) fn copy_hashed(from: &mut impl Read, to: &mut impl Write) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => {
                hash.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
            }
        }
    }
}

impl Download {
    /// Has apt fetch it to a file of its own. Apt gives up root for its unprivileged user where that user may write.
    fn fetch(&self, context: Context<'_>, place: &Path, file: &Path) -> Result<(), Failure> {
        if let Probe::Known(user) = context.machine.user("_apt") {
            // Without it apt fetches as root, and says so.
            let _ = chown(place, Some(user.uid), None);
        }
        let target = file.display().to_string();
        let hash = format!("SHA256:{}", self.sha256);
        let limit = format!("--fsize={}", self.max_size.saturating_add(1));
        let args = [
            &limit,
            "--",
            APT_HELPER,
            "-o",
            "Acquire::Retries=3",
            "download-file",
            &self.url,
            &target,
            &hash,
        ];
        let command = Command::new("prlimit", args).deadline(self.deadline).ends_with_us();
        let finished = command.run_unless(&|| context.is_stopped()).map_err(|error| {
            let url = &self.url;
            Failure::Broken(ResourceError(match error {
                CommandError::Stopped { .. } => {
                    format!("fetching {url} was ended, since the run was stopped")
                }
                CommandError::TimedOut { deadline, .. } => format!(
                    "cannot fetch {url}: it was not here after {} s, its `deadline`; what came is gone on from",
                    deadline.as_secs()
                ),
                error => format!("cannot fetch {url}: {error}"),
            }))
        })?;
        // Apt does not copy a local file but links to it, which no limit on writing stops.
        if fs::metadata(file).is_ok_and(|file| file.len() > self.max_size) {
            return Err(Failure::Wrong(ResourceError(format!(
                "{} is larger than `max-size`, {} bytes",
                self.url, self.max_size
            ))));
        }
        if finished.status.success() {
            return Ok(());
        }
        let printed = [finished.stdout.as_slice(), &finished.stderr].map(String::from_utf8_lossy).concat();
        let received = printed.split_once("Hashes of received file:");
        let received =
            received.and_then(|(_, hashes)| hashes.split_once("SHA256:")?.1.split_whitespace().next());
        Err(match received {
            Some(sha256) => Failure::Wrong(self.mismatch(sha256)),
            None => {
                // Of apt's errors, the first says why.
                let why = printed.lines().find_map(|line| line.strip_prefix("E: "));
                let why = why.map_or_else(|| command.failed(&finished).to_string(), str::to_owned);
                Failure::Broken(ResourceError(format!("cannot fetch {}: {why}", self.url)))
            }
        })
    }

    /// A directory for what is fetched, with what an earlier try has left of the same file.
    fn place(&self, machine: &Machine) -> io::Result<(PathBuf, Unfinished)> {
        let downloads = machine.path(DOWNLOADS);
        let name = hex::encode(&Sha256::digest(&self.path)[..8]);
        let place = downloads.join(name);
        let unfinished = Unfinished::resume(machine, &place)?;
        DirBuilder::new().recursive(true).mode(0o711).create(&downloads)?;
        sweep(&downloads)?;
        if fs::symlink_metadata(self.fetched(&place)).is_err() {
            // Of another file, which the recipe wanted before.
            drop(unfinished);
            let unfinished = Unfinished::begin(machine, &place)?;
            DirBuilder::new().mode(0o700).create(&place)?;
            return Ok((place, unfinished));
        }
        Ok((place, unfinished))
    }

    /// What is fetched, in its directory.
    fn fetched(&self, place: &Path) -> PathBuf {
        place.join(&self.sha256)
    }

    /// Has it fetched into this directory, from where an earlier try left off. A beginning that was of another file costs
    /// one more try.
    fn fetch_on(
        &self,
        context: Context<'_>,
        place: &Path,
        log: &mut dyn FnMut(&str),
    ) -> Result<PathBuf, Failure> {
        let fetched = self.fetched(place);
        let begun = fs::symlink_metadata(&fetched).map_or(0, |file| file.len());
        match begun {
            0 => log(&format!("fetching {}", self.url)),
            _ => log(&format!("fetching {}, of which {begun} bytes are here", self.url)),
        }
        match self.fetch(context, place, &fetched) {
            Err(Failure::Wrong(error)) if begun > 0 => {
                log(&format!("{error}; fetching it from its beginning"));
                match fs::remove_file(&fetched) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        let text = format!("cannot remove {}: {error}", fetched.display());
                        return Err(Failure::Wrong(ResourceError(text)));
                    }
                    _ => self.fetch(context, place, &fetched)?,
                }
            }
            result => result?,
        }
        Ok(fetched)
    }

    /// Puts what was fetched where it belongs. The bytes that are hashed are the bytes that are kept.
    fn put(
        &self,
        machine: &Machine,
        incoming: &Incoming,
        attributes: FileAttributes,
        fetched: &Path,
    ) -> Result<(), ResourceError> {
        let fill = |file: &mut File| {
            let sha256 = File::open(fetched).and_then(|mut from| copy_hashed(&mut from, file));
            match sha256.map_err(|error| self.failed(&error))? {
                sha256 if sha256 == self.sha256 => Ok(()),
                sha256 => Err(self.mismatch(&sha256)),
            }
        };
        incoming.put(machine, attributes, fill, |error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> ResourceError {
        ResourceError(format!("cannot write {}: {error}", self.path))
    }

    fn mismatch(&self, sha256: &str) -> ResourceError {
        ResourceError(format!("{} has the sha256 {sha256}, and the recipe wants {}", self.url, self.sha256))
    }
}

/// Removes beginnings that nobody came back for.
fn sweep(downloads: &Path) -> io::Result<()> {
    for entry in fs::read_dir(downloads)? {
        let entry = entry?;
        let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
        if matches!(age, Ok(Ok(age)) if age > KEPT) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

impl Kind for Download {
    type State = DownloadState;

    fn observe(&self, context: Context<'_>) -> Result<DownloadState, ResourceError> {
        let place = context.machine.path(&self.path);
        let metadata = Probe::of_io(fs::symlink_metadata(&place), &self.path);
        let Some(metadata) = metadata.known().map_err(ResourceError)? else {
            return Ok(DownloadState::Absent);
        };
        if !metadata.is_file() {
            return Ok(DownloadState::Other);
        }
        let hash = File::open(&place).and_then(|mut file| copy_hashed(&mut file, &mut io::sink()));
        let sha256 = hash.map_err(|error| ResourceError(format!("cannot read {}: {error}", self.path)))?;
        Ok(DownloadState::File { sha256, attributes: Attributes::of(&metadata, context.machine) })
    }

    fn compare(&self, _: Context<'_>, state: &DownloadState) -> Judged {
        let wanted = || format!("sha256 {}", self.sha256);
        match state {
            DownloadState::Absent => vec![Change::new("content", "no such file", wanted())],
            DownloadState::Other => vec![Change::new("type", "not a regular file", "a regular file")],
            DownloadState::File { sha256, attributes } => {
                let content = (*sha256 != self.sha256)
                    .then(|| Change::new("content", format!("sha256 {sha256}"), wanted()));
                content.into_iter().chain(self.attributes.compare(attributes)).collect()
            }
        }
        .into()
    }

    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        if changes.iter().all(|change| matches!(change.what.as_str(), "owner" | "group" | "mode")) {
            return self.attributes.apply(&self.path, context.machine);
        }
        let attributes = self.attributes.resolve(context.machine)?;
        let failed = |error: io::Error| self.failed(&error);
        let incoming = Incoming::to(&context.machine.path(&self.path)).map_err(failed)?;
        let (place, unfinished) = self.place(context.machine).map_err(failed)?;
        match self.fetch_on(context, &place, log) {
            Ok(fetched) => {
                let put = self.put(context.machine, &incoming, attributes, &fetched);
                unfinished.remove().map_err(failed).and(put)
            }
            Err(Failure::Wrong(error)) => unfinished.remove().map_err(failed).and(Err(error)),
            // One that is empty goes, one with a beginning in it stays.
            Err(Failure::Broken(error)) => {
                if fs::remove_dir(&place).is_err() {
                    unfinished.keep();
                }
                Err(error)
            }
        }
    }

    fn provides(&self) -> Vec<Thing> {
        vec![Thing::Path(self.path.clone())]
    }

    fn follows(&self) -> Vec<Wanted> {
        // Among the packages may be the certificates without which https cannot be.
        self.attributes.follows(&self.path).into_iter().chain([Wanted::Packages]).collect()
    }
}

#[cfg(test)]
mod tests;
