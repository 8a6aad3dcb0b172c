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
const DOWNLOADS: &str = "/var/lib/toril/downloads";

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
mod tests {
    use std::fs::Permissions;
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::thread;
    use std::time::{SystemTime, UNIX_EPOCH};

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
        let context = fake.context_on(&machine);
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

    /// Serves `abc` once, or what of it is asked for, and returns the lines that asked.
    fn serve_once(listener: &TcpListener) -> Vec<String> {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(&stream).lines().map(Result::unwrap);
        let asked: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let from = asked.iter().find_map(|line| line.strip_prefix("Range: bytes=")?.strip_suffix('-'));
        let from: usize = from.map_or(0, |from| from.parse().unwrap());
        let status = match from {
            0 => "200 OK".to_owned(),
            _ => format!("206 Partial Content\r\nContent-Range: bytes {from}-2/3"),
        };
        let length = 3 - from;
        let date = "Last-Modified: Thu, 01 Jan 1970 00:16:40 GMT";
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{date}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&b"abc"[from..]).unwrap();
        asked
    }

    /// Where a file for this place lies until it is whole.
    fn place_of(path: &Path) -> PathBuf {
        let name = hex::encode(&Sha256::digest(path.as_os_str().as_encoded_bytes())[..8]);
        Path::new(DOWNLOADS).join(name)
    }

    /// What an earlier try left for it, of a file with this hash, as long ago as the server says that the file is old.
    fn leave(path: &Path, sha256: &str, beginning: &str) -> PathBuf {
        let kept = place_of(path);
        fs::create_dir_all(&kept).unwrap();
        let file = kept.join(sha256);
        fs::write(&file, beginning).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(1000);
        File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        file
    }

    #[test]
    fn goes_on_where_an_earlier_try_ended() {
        if !geteuid().is_root() || !Path::new(APT_HELPER).exists() {
            eprintln!("skipped: needs root and {APT_HELPER}");
            return;
        }
        let (fake, machine) = (Fake::new(), Machine::this());
        let context = fake.context_on(&machine);
        // The beginning of this file, and of another one: that is found out by the hash, and costs a second fetch.
        for (beginning, times) in [("a", 1), ("x", 2)] {
            let dir = tempfile::tempdir().unwrap();
            fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
            leave(&dir.path().join("f"), ABC, beginning);
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/f", listener.local_addr().unwrap());
            let server = thread::spawn(move || (0..times).map(|_| serve_once(&listener)).collect::<Vec<_>>());
            let resource = resource(&dir.path().join("f").display().to_string(), &url, "");
            resource.apply(context, &resource.judge(context).unwrap().changes, &mut |_| {}).unwrap();
            assert_eq!(resource.judge(context).unwrap(), Judged::default());
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing temporary is left");
            assert!(!place_of(&dir.path().join("f")).exists());
            let asked = server.join().unwrap();
            let has_range = |lines: &Vec<String>| lines.iter().any(|line| line == "Range: bytes=1-");
            assert_eq!(asked.iter().map(has_range).collect::<Vec<_>>(), [true, false][..times], "{asked:?}");
        }
    }

    #[test]
    fn what_came_before_a_connection_broke_is_kept_and_nothing_else() {
        if !geteuid().is_root() || !Path::new(APT_HELPER).exists() {
            eprintln!("skipped: needs root and {APT_HELPER}");
            return;
        }
        let (fake, machine) = (Fake::new(), Machine::this());
        let context = fake.context_on(&machine);
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let place = dir.path().join("f");
        let path = place.display().to_string();
        // Nobody listens there any more.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/f", listener.local_addr().unwrap());
        drop(listener);
        let resource = resource(&path, &url, "");
        let changes = resource.judge(context).unwrap().changes;
        let apply = || resource.apply(context, &changes, &mut |_| {}).unwrap_err().to_string();
        assert!(apply().contains("cannot fetch http://127.0.0.1"));
        assert!(!place_of(&place).exists(), "nothing came");
        let kept = leave(&place, ABC, "a");
        assert!(apply().contains("cannot fetch http://127.0.0.1"));
        assert_eq!(fs::read_to_string(kept).unwrap(), "a");
        // Once another file is wanted there, or nobody came back for it, it is of no use.
        let other = leave(&place, &"0".repeat(64), "0");
        fs::remove_file(place_of(&place).join(ABC)).unwrap();
        let old = leave(&dir.path().join("old"), ABC, "a");
        File::open(old.parent().unwrap()).unwrap().set_modified(SystemTime::now() - 2 * KEPT).unwrap();
        assert!(apply().contains("cannot fetch http://127.0.0.1"));
        assert!(!other.exists() && !place_of(&place).exists() && !old.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// Root writes into a directory of somebody's who puts a link to another one in its place.
    #[test]
    fn what_others_do_to_its_directory_leads_root_nowhere_else() {
        if !geteuid().is_root() || !Path::new(APT_HELPER).exists() {
            eprintln!("skipped: needs root and {APT_HELPER}");
            return;
        }
        let (fake, machine) = (Fake::new(), Machine::this());
        let context = fake.context_on(&machine);
        let dir = tempfile::tempdir().unwrap();
        let [theirs, elsewhere, moved] = ["theirs", "elsewhere", "moved"].map(|name| dir.path().join(name));
        for path in [&theirs, &elsewhere] {
            fs::create_dir(path).unwrap();
        }
        chown(&theirs, Some(1), Some(1)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/f", listener.local_addr().unwrap());
        let names = |path: &Path| fs::read_dir(path).unwrap().count();
        let resource = resource(&theirs.join("f").display().to_string(), &url, ", owner = \"daemon\"");
        let changes = resource.judge(context).unwrap().changes;
        thread::scope(|scope| {
            scope.spawn(|| {
                // It is being fetched, and nothing of it is where others could reach it.
                let place = place_of(&theirs.join("f"));
                let is_there = |_| {
                    thread::sleep(Duration::from_millis(10));
                    place.exists()
                };
                assert!((0..3000).any(is_there));
                assert_eq!(names(&theirs), 0);
                fs::rename(&theirs, &moved).unwrap();
                std::os::unix::fs::symlink(&elsewhere, &theirs).unwrap();
                serve_once(&listener);
            });
            let applied = resource.apply(context, &changes, &mut |_| {});
            // If nobody asked the server, it waits.
            drop(TcpStream::connect(listener.local_addr().unwrap()));
            applied.unwrap();
        });
        assert_eq!((names(&elsewhere), names(&moved)), (0, 1));
        let metadata = fs::metadata(moved.join("f")).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (1, 0o644));
        assert_eq!(fs::read_to_string(moved.join("f")).unwrap(), "abc");
    }

    #[test]
    fn wrong_words_are_refused() {
        let with = |keys: &str| format!("download = {{ path = \"/f\", {keys} }}");
        let hash = format!("sha256 = \"{ABC}\"");
        testing::refuses(&[
            (&with(&format!("url = \"example.org/f\", {hash}")), "is no URL that can be fetched"),
            (&with("url = \"https://example.org/f\", sha256 = \"abc\""), "is not 64 hexadecimal digits"),
            (&with("url = \"https://example.org/f\""), "`sha256` of `r` is missing, and no lock has it"),
            (&with(&format!("uri = \"https://example.org/f\", {hash}")), "did you mean `url`?"),
            (&with(&format!("url = \"https://e.org/f\", max-size = \"1T\", {hash}")), "is not a size"),
        ]);
    }
}
