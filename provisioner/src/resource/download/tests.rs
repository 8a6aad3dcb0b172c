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

/// Whether nothing can be fetched here, which is said.
fn cannot_fetch() -> bool {
    let cannot = !geteuid().is_root() || !Path::new(APT_HELPER).exists();
    if cannot {
        eprintln!("skipped: needs root and {APT_HELPER}");
    }
    cannot
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
    if cannot_fetch() {
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
        let result = resource.apply(context, &judged.changes, &mut |_| {}).map_err(|error| error.to_string());
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
    if cannot_fetch() {
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
    if cannot_fetch() {
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
    if cannot_fetch() {
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
