//! `download`: a file from elsewhere, known by its hash. Apt fetches it, by its own proxies and its own ways.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, fchown};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use toril_document::Table;
use toril_machine::{Command, FileAttributes, Probe};

use super::attributes::Attributes;
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, parsed, read_path};

/// On every Debian; not on the search path.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

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
fn copy_hashed(from: &mut impl Read, to: &mut impl Write) -> io::Result<String> {
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
    fn fetch(&self, context: Context<'_>, place: &Path, file: &Path) -> Result<(), ResourceError> {
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
        let command = Command::new("prlimit", args).deadline(self.deadline);
        let finished = command.run().map_err(ResourceError::new)?;
        // Apt does not copy a local file but links to it, which no limit on writing stops.
        if fs::metadata(file).is_ok_and(|file| file.len() > self.max_size) {
            return Err(ResourceError(format!(
                "{} is larger than `max-size`, {} bytes",
                self.url, self.max_size
            )));
        }
        if finished.status.success() {
            return Ok(());
        }
        let printed = [finished.stdout.as_slice(), &finished.stderr].map(String::from_utf8_lossy).concat();
        let received = printed.split_once("Hashes of received file:");
        let received =
            received.and_then(|(_, hashes)| hashes.split_once("SHA256:")?.1.split_whitespace().next());
        Err(match received {
            Some(sha256) => self.mismatch(sha256),
            None => {
                // Of apt's errors, the first says why.
                let why = printed.lines().find_map(|line| line.strip_prefix("E: "));
                let why = why.map_or_else(|| command.failed(&finished).to_string(), str::to_owned);
                ResourceError(format!("cannot fetch {}: {why}", self.url))
            }
        })
    }

    fn mismatch(&self, sha256: &str) -> ResourceError {
        ResourceError(format!("{} has the sha256 {sha256}, and the recipe wants {}", self.url, self.sha256))
    }
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
        let FileAttributes { uid, gid, mode } = self.attributes.resolve(context.machine)?;
        let path = context.machine.path(&self.path);
        let directory = path.parent().unwrap_or(Path::new("/"));
        let failed = |error: io::Error| ResourceError(format!("cannot write {}: {error}", self.path));
        // Beside its place, so that it can take the place in one step. What is in it goes with it.
        let mut private = tempfile::Builder::new();
        let private = private.prefix(".toril-").permissions(Permissions::from_mode(0o700));
        let private = private.tempdir_in(directory).map_err(failed)?;
        let fetched = private.path().join("file");
        log(&format!("fetching {}", self.url));
        self.fetch(context, private.path(), &fetched)?;
        // The bytes that are hashed are the bytes that are kept: nobody else can write to this copy.
        let mut copy = tempfile::Builder::new().prefix(".toril-").tempfile_in(directory).map_err(failed)?;
        let sha256 =
            File::open(&fetched).and_then(|mut file| copy_hashed(&mut file, &mut copy)).map_err(failed)?;
        if sha256 != self.sha256 {
            return Err(self.mismatch(&sha256));
        }
        let file = copy.as_file();
        fchown(file, Some(uid), Some(gid)).map_err(failed)?;
        file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        copy.persist(&path).map(drop).map_err(|error| failed(error.error))
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
mod tests {
    use rustix::process::geteuid;
    use toril_machine::Machine;

    use super::*;
    use crate::resource::testing::{self, Fake};

    /// Of `abc`.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn resource(path: &str, url: &str, more: &str) -> Box<dyn Resource> {
        let text = format!("download = {{ url = \"{url}\", path = \"{path}\", sha256 = \"{ABC}\"{more} }}");
        testing::read(&text).unwrap()
    }

    #[test]
    fn the_hash_of_what_is_there_decides() {
        let fake = Fake::new();
        let resource = resource("/etc/f", "https://example.org/f", ", mode = \"0755\"");
        assert_eq!(fake.changes(&*resource), [format!("content: no such file → sha256 {ABC}")]);
        fs::write(fake.path("etc/f"), "abc").unwrap();
        fs::set_permissions(fake.path("etc/f"), Permissions::from_mode(0o644)).unwrap();
        let changes = fake.changes(&*resource);
        assert_eq!(changes.last().unwrap(), "mode: 0644 → 0755");
        fs::write(fake.path("etc/f"), "abd").unwrap();
        assert!(fake.changes(&*resource)[0].starts_with("content: sha256 a52d159f"));
        fs::remove_file(fake.path("etc/f")).unwrap();
        fs::create_dir(fake.path("etc/f")).unwrap();
        assert_eq!(fake.changes(&*resource), ["type: not a regular file → a regular file"]);
    }

    #[test]
    fn is_fetched_verified_and_put_in_place_whole() {
        if !geteuid().is_root() || !Path::new(APT_HELPER).exists() {
            eprintln!("skipped: needs root and {APT_HELPER}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let place = |name: &str| dir.path().join(name).display().to_string();
        let (good, bad) = (place("good"), place("bad"));
        fs::write(&good, "abc").unwrap();
        fs::write(&bad, "abd").unwrap();
        let (fake, machine) = (Fake::new(), Machine::this());
        let context = Context { machine: &machine, facts: &fake.facts };
        let apply = |from: &str, more: &str| {
            let resource = resource(&place("f"), &format!("file://{from}"), more);
            let judged = resource.judge(context).unwrap();
            let result =
                resource.apply(context, &judged.changes, &mut |_| {}).map_err(|error| error.to_string());
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2 + usize::from(result.is_ok()));
            result.map(|()| resource.judge(context).unwrap())
        };
        let error = apply(&bad, "").unwrap_err();
        assert!(error.contains("has the sha256 a52d159f"), "{error}");
        let error = apply(&good, ", max-size = \"2\"").unwrap_err();
        assert!(error.ends_with("is larger than `max-size`, 2 bytes"), "{error}");
        assert_eq!(apply(&good, ", mode = \"0755\"").unwrap(), Judged::default());
    }

    #[test]
    fn wrong_words_are_refused() {
        let with = |keys: &str| format!("download = {{ path = \"/f\", {keys} }}");
        let hash = format!("sha256 = \"{ABC}\"");
        testing::refuses(&[
            (&with(&format!("url = \"example.org/f\", {hash}")), "is no URL that can be fetched"),
            (&with("url = \"https://example.org/f\", sha256 = \"abc\""), "is not 64 hexadecimal digits"),
            (&with("url = \"https://example.org/f\""), "`sha256` is missing"),
            (&with(&format!("uri = \"https://example.org/f\", {hash}")), "did you mean `url`?"),
            (&with(&format!("url = \"https://e.org/f\", max-size = \"1T\", {hash}")), "is not a size"),
        ]);
    }
}
