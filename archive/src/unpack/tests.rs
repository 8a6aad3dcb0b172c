use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::Header;

use super::*;
use crate::{PackError, Parcel, everything, pack, pack_in};

const ALL: Rules = Rules { owner: None, links: Links::Inside, most_bytes: 1 << 20, most_entries: 100 };

/// One entry of a hostile archive.
#[derive(Debug, Clone)]
struct Hostile {
    kind: u8,
    path: Vec<u8>,
    link: Vec<u8>,
    content: Vec<u8>,
    mode: u32,
}

fn entry(kind: u8, path: &str, link: &str) -> Hostile {
    Hostile { kind, path: path.into(), link: link.into(), content: Vec::new(), mode: 0o6777 }
}

fn archive(entries: &[Hostile]) -> Vec<u8> {
    packed(&plain(entries))
}

fn plain(entries: &[Hostile]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[156] = entry.kind;
        let fields = header.as_mut_bytes();
        let path = &entry.path[..entry.path.len().min(100)];
        fields[..path.len()].copy_from_slice(path);
        let link = &entry.link[..entry.link.len().min(100)];
        fields[157..157 + link.len()].copy_from_slice(link);
        header.set_mode(entry.mode);
        header.set_size(entry.content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&entry.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A directory `tree` to unpack into, and beside it a file that must stay as it is.
fn scene() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("tree")).unwrap();
    fs::write(dir.path().join("beside"), "untouched").unwrap();
    dir
}

fn refused(entries: &[Hostile]) -> String {
    let dir = scene();
    let error = unpack(Cursor::new(archive(entries)), &dir.path().join("tree"), &ALL).unwrap_err();
    untouched(&dir);
    error.to_string()
}

fn untouched(dir: &tempfile::TempDir) {
    assert_eq!(fs::read_to_string(dir.path().join("beside")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_tree_arrives_as_it_was() {
    let from = tempfile::tempdir().unwrap();
    let long = format!("deep/{}/{}", "d".repeat(120), "f".repeat(120));
    fs::create_dir_all(from.path().join(&long).parent().unwrap()).unwrap();
    fs::write(from.path().join(&long), "long").unwrap();
    fs::write(from.path().join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.path().join("run.sh"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("../run.sh", from.path().join("deep/link")).unwrap();
    fs::create_dir(from.path().join("empty")).unwrap();
    let paths = everything(from.path()).unwrap();
    let mut read = 0;
    let parcel = pack(from.path(), paths.iter().map(PathBuf::as_path), &mut |bytes| read = bytes).unwrap();
    assert_eq!(read, 14);
    let dir = scene();
    let tree = dir.path().join("tree");
    let done = unpack(parcel.open().unwrap(), &tree, &ALL).unwrap();
    assert_eq!(done.bytes, 14);
    assert_eq!(everything(&tree).unwrap(), paths);
    assert_eq!(fs::read_to_string(tree.join("deep/link")).unwrap(), "#!/bin/sh\n");
    let (before, after) = (from.path().join("run.sh").metadata(), tree.join("run.sh").metadata());
    let (before, after) = (before.unwrap(), after.unwrap());
    assert_eq!((after.mode() & 0o7777, after.mtime()), (0o755, before.mtime()));
    assert_eq!(tree.join(&long).metadata().unwrap().mode() & 0o7777, 0o644);
    let again = Parcel::of(parcel_file(&parcel)).unwrap();
    assert_eq!((again.size, &again.sha256), (parcel.size, &parcel.sha256));
}

fn parcel_file(parcel: &Parcel) -> File {
    let mut file = tempfile::tempfile().unwrap();
    io::copy(&mut parcel.open().unwrap(), &mut file).unwrap();
    file
}

#[test]
fn what_may_not_be_in_an_archive_is_refused() {
    for (entries, why) in [
        (vec![entry(b'0', "/etc/x", "")], "it is absolute"),
        (vec![entry(b'0', "../beside", "")], "`.` or `..`"),
        (vec![entry(b'0', "a/../../beside", "")], "`.` or `..`"),
        (vec![entry(b'0', "", "")], "it is empty"),
        (vec![entry(b'1', "a", "../beside")], "a hard link"),
        (vec![entry(b'2', "a", "/etc/passwd")], "leads out"),
        (vec![entry(b'2', "a", "../beside")], "leads out"),
        (vec![entry(b'2', "a/b", "../../beside")], "leads out"),
        (vec![entry(b'3', "a", "")], "a device"),
        (vec![entry(b'6', "a", "")], "a pipe"),
        (vec![entry(b'x', "a", "")], "no file"),
        (vec![entry(b'S', "a", "")], "no file"),
        // Through a link, wherever it leads.
        (vec![entry(b'2', "a", "."), entry(b'0', "a/b", "")], "below something that is no directory"),
        (vec![entry(b'2', "a", "b"), entry(b'0', "a", "")], "twice"),
        (vec![entry(b'0', "a", ""), entry(b'0', "a", "")], "twice"),
        (vec![entry(b'0', "a", ""), entry(b'5', "a/b", "")], "below something that is no directory"),
    ] {
        let error = refused(&entries);
        assert!(error.contains(why), "{entries:?}: {error}");
    }
}

#[test]
fn links_are_refused_where_none_are_taken() {
    let dir = scene();
    let rules = Rules { links: Links::Refuse, ..ALL };
    let bytes = archive(&[entry(b'2', "a", "b")]);
    let error = unpack(Cursor::new(bytes), &dir.path().join("tree"), &rules).unwrap_err();
    assert!(error.to_string().contains("a symbolic link"), "{error}");
}

#[test]
fn more_than_is_taken_is_refused() {
    let mut large = entry(b'0', "large", "");
    large.content = vec![0; (1 << 20) + 1];
    assert!(refused(&[large]).contains("more than the 1048576 bytes"));
    let many: Vec<_> = (0..101).map(|number| entry(b'5', &format!("d{number}"), "")).collect();
    assert!(refused(&many).contains("more than the 100 entries"));
    // A name of many megabytes, and zeros without end after the archive.
    let mut name = entry(b'L', "././@LongLink", "");
    name.content = vec![b'x'; 8 << 20];
    assert!(refused(&[name, entry(b'0', "a", "")]).contains("too long"));
    let dir = scene();
    let bomb = packed(&vec![0; 8 << 20]);
    let error = unpack(Cursor::new(bomb), &dir.path().join("tree"), &ALL).unwrap_err();
    assert!(matches!(error, UnpackError::TooMuch { .. }), "{error}");
}

#[test]
fn what_is_cut_off_is_never_whole() {
    let mut file = entry(b'0', "a", "");
    file.content = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let whole = archive(&[file]);
    for length in (0..whole.len()).step_by(997) {
        let dir = scene();
        let cut = Cursor::new(&whole[..length]);
        assert!(unpack(cut, &dir.path().join("tree"), &ALL).is_err(), "{length} of {}", whole.len());
    }
}

#[test]
fn what_cannot_be_sent_is_named() {
    let dir = tempfile::tempdir().unwrap();
    symlink("/etc/passwd", dir.path().join("out")).unwrap();
    let error = pack(dir.path(), [Path::new("out")], &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("out leads to /etc/passwd"), "{error}");
    let error = pack(dir.path(), [Path::new("gone")], &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("gone: No such file"), "{error}");
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap());
    let error = pack(dir.path(), [Path::new("socket")], &mut |_| {}).unwrap_err();
    assert!(matches!(error, PackError::Special(_)), "{error}");
    let error = pack(dir.path(), [Path::new("../x")], &mut |_| {}).unwrap_err();
    assert!(matches!(error, PackError::Name { .. }), "{error}");
}

#[test]
fn an_archive_is_where_it_was_told_to_be() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let (gone, paths) = (dir.path().join("gone"), [Path::new("f")]);
    let error = pack_in(&gone, dir.path(), paths, &mut |_| {}).unwrap_err();
    assert!(matches!(error, PackError::Write(_)), "{error}");
    pack_in(dir.path(), dir.path(), paths, &mut |_| {}).unwrap();
    assert_eq!(everything(dir.path()).unwrap(), paths);
}

/// What others' archives come to, one part of each path taken off.
fn foreign(entries: &[Hostile]) -> Result<Vec<String>, String> {
    let dir = scene();
    let tree = dir.path().join("tree");
    let done = unpack_foreign(Cursor::new(plain(entries)), &tree, &ALL, 1);
    untouched(&dir);
    let found = everything(&tree).unwrap().iter().map(|path| path.display().to_string()).collect();
    done.map(|_| found).map_err(|error| error.to_string())
}

fn file(path: &str) -> Hostile {
    Hostile { content: path.as_bytes().to_vec(), ..entry(b'0', path, "") }
}

fn pax(key: &str, value: &str) -> Hostile {
    let record = format!(" {key}={value}\n");
    let digits = (record.len() + 2).to_string().len();
    let record = format!("{}{record}", record.len() + digits);
    Hostile { content: record.into_bytes(), ..entry(b'x', "PaxHeaders/x", "") }
}

#[test]
fn archives_of_others_are_taken_with_what_they_usually_have() {
    let long = format!("top/{}", "n".repeat(150));
    let entries = [
        Hostile { content: b"52 comment=aaaaaaaaaaaaaaaa".to_vec(), ..entry(b'g', "pax_global_header", "") },
        entry(b'5', "./", ""),
        entry(b'5', "./top/", ""),
        file("README"),
        file("./top/a/f"),
        entry(b'1', "top/g", "./top/a/f"),
        entry(b'2', "top/a/l", "../g"),
        entry(b'0', "top/old/", ""),
        pax("path", &long),
        file("top/nnn"),
    ];
    let n = "n".repeat(150);
    assert_eq!(foreign(&entries).unwrap(), ["a", "g", &n, "old", "a/f", "a/l"]);
    let dir = scene();
    let tree = dir.path().join("tree");
    unpack_foreign(Cursor::new(plain(&entries)), &tree, &ALL, 1).unwrap();
    assert_eq!(fs::read_to_string(tree.join("a/l")).unwrap(), "./top/a/f");
    let all = unpack_foreign(
        Cursor::new(plain(&[file("a"), file("./x/c")])),
        &dir.path().join("tree/old"),
        &ALL,
        0,
    );
    assert_eq!(all.unwrap().entries, 2);
}

#[test]
fn archives_of_others_may_have_nothing_that_leads_out() {
    for (entries, why) in [
        (vec![file("/t/x")], "it is absolute"),
        (vec![file("t/../../beside")], "`.` or `..`"),
        (vec![file("./../beside")], "`.` or `..`"),
        (vec![pax("path", "../beside"), file("t/x")], "`.` or `..`"),
        (vec![entry(b'2', "t/a", "../beside")], "leads out"),
        (vec![pax("linkpath", "/etc/passwd"), entry(b'2', "t/a", "b")], "leads out"),
        (vec![entry(b'1', "t/a", "../beside")], "is no file that came before"),
        (vec![entry(b'1', "t/a", "/etc/passwd")], "is no file that came before"),
        (vec![entry(b'1', "t/a", "t/b")], "is no file that came before"),
        // It would be a link at another depth.
        (vec![entry(b'2', "t/d/l", "../x"), entry(b'1', "t/l", "t/d/l")], "is no file that came before"),
        (vec![entry(b'2', "t/l", "."), entry(b'1', "t/a", "t/l/b")], "is no file that came before"),
        (vec![file("t/a"), file("t/a")], "twice"),
        (vec![file("t/a"), entry(b'1', "t/a", "t/a")], "twice"),
        (vec![entry(b'2', "t/l", "."), file("t/l/b")], "below something that is no directory"),
        (vec![entry(b'3', "t/a", "")], "a device"),
        (vec![entry(b'6', "t/a", "")], "a pipe"),
        (vec![pax("size", "9"), file("t/a")], "8 GiB"),
        (vec![pax("GNU.sparse.major", "1"), file("t/a")], "sparse"),
    ] {
        let error = foreign(&entries).unwrap_err();
        assert!(error.contains(why), "{entries:?}: {error}");
    }
}

#[test]
fn nothing_is_packed_through_a_link() {
    let dir = scene();
    let tree = dir.path().join("tree");
    fs::create_dir(tree.join("d")).unwrap();
    fs::write(tree.join("d/beside"), "of the tree").unwrap();
    let pack = || crate::pack(&tree, [Path::new("d/beside")], &mut |_| {});
    pack().unwrap();
    // In the place of the directory, by the time that what is in it is read.
    fs::remove_dir_all(tree.join("d")).unwrap();
    symlink("..", tree.join("d")).unwrap();
    let error = pack().unwrap_err();
    assert!(matches!(error, PackError::Read { .. }), "{error}");
}

#[test]
fn bombs_of_others_are_refused() {
    let mut large = file("t/large");
    large.content = vec![0; (1 << 20) + 1];
    assert!(foreign(&[large]).unwrap_err().contains("more than the 1048576 bytes"));
    let many: Vec<_> = (0..101).map(|number| file(&format!("t/{number}"))).collect();
    assert!(foreign(&many).unwrap_err().contains("more than the 100 entries"));
    // Where nothing of it is a file's.
    let mut name = entry(b'g', "g", "");
    name.content = vec![b'x'; 8 << 20];
    assert!(foreign(&[name]).unwrap_err().contains("it is of more than"));
}

fn any_entry() -> impl Strategy<Value = Hostile> {
    let path = "(/|\\.\\./|\\./|a/|b/|c/|a|b|c|\\.\\.|x{0,3}/?){0,4}";
    let kind = prop::sample::select(b"0012555LKxg1346".to_vec());
    (kind, path, path, prop::collection::vec(any::<u8>(), 0..40), 0..0o10000_u32).prop_map(
        |(kind, path, link, content, mode)| {
            let content = if matches!(kind, b'0' | b'L' | b'K') { content } else { Vec::new() };
            Hostile { kind, path: path.into(), link: link.into(), content, mode }
        },
    )
}

proptest! {
    #[test]
    fn nothing_outside_is_touched(
        entries in prop::collection::vec(any_entry(), 0..8),
        strip in prop::option::of(0..3_usize),
    ) {
        let dir = scene();
        let tree = dir.path().join("tree");
        // Whatever comes of it.
        let _ = match strip {
            None => unpack(Cursor::new(archive(&entries)), &tree, &ALL),
            Some(strip) => unpack_foreign(Cursor::new(plain(&entries)), &tree, &ALL, strip),
        };
        untouched(&dir);
        for path in everything(&tree).unwrap() {
            let full = tree.join(&path);
            let metadata = fs::symlink_metadata(&full).unwrap();
            prop_assert_eq!(metadata.mode() & 0o7000, 0);
            if let Ok(real) = fs::canonicalize(&full) {
                prop_assert!(real.starts_with(fs::canonicalize(&tree).unwrap()), "{:?} leads to {:?}", path, real);
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let dir = scene();
        let _ = unpack(Cursor::new(&bytes), &dir.path().join("tree"), &ALL);
        let _ = unpack(Cursor::new(packed(&bytes)), &dir.path().join("tree"), &ALL);
        let _ = unpack_foreign(Cursor::new(&bytes), &dir.path().join("tree"), &ALL, 1);
        untouched(&dir);
    }
}
