//! `unpack`: a directory of what is in an archive that is known by its hash.

mod stream;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::geteuid;
use toril_archive::{Links, Owner, Rules, unpack_foreign};
use toril_document::Table;
use toril_machine::Probe;

use self::stream::{Format, Stream};
use super::download::{copy_hashed, parse_hex};
use super::manifest::Manifest;
use super::place::put_in_place;
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, parsed, read_path};
use crate::unfinished::Unfinished;

#[derive(Debug)]
struct Unpack {
    archive: String,
    sha256: String,
    path: String,
    format: Format,
    strip: usize,
    /// In bytes, of all files.
    max_size: u64,
    max_files: u64,
}

enum UnpackState {
    Absent,
    /// Something else is there, and it stays.
    Occupied(&'static str),
    Unpacked {
        sha256: String,
        strip: usize,
        differences: Option<String>,
    },
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let archive = read_path(table, "archive");
    let sha256 = parsed(table, "sha256", "R035", |text| parse_hex(text, 64));
    let path = read_path(table, "path");
    let place = table.place("archive");
    let format = table.string("format");
    let format = match format {
        Some(text) if !table.is_imagined() => Format::named(&text.value).map_err(|why| (text.span, why)),
        _ => archive.as_deref().and_then(Format::of_file).ok_or_else(|| {
            (place, "the archive's name does not say how it is packed: say it by `format`".to_owned())
        }),
    };
    let format = format.map_err(|(span, why)| {
        if !table.is_imagined() {
            table.note("R043", span, why, None);
        }
    });
    let strip = table.integer("strip", 0..=100).and_then(|count| usize::try_from(count).ok());
    let max_size = table.size("max-size").unwrap_or(4 << 30);
    let max_files = table.integer("max-files", 1..=10_000_000).and_then(|count| u64::try_from(count).ok());
    Some(Box::new(Unpack {
        archive: archive?,
        sha256: sha256?,
        path: path?,
        format: format.ok()?,
        strip: strip.unwrap_or(0),
        max_size,
        max_files: max_files.unwrap_or(200_000),
    }))
}

impl Unpack {
    /// The archive as it is now. Nobody but who runs this may be able to change it between two looks at it.
    fn open(&self, context: Context<'_>) -> Result<File, ResourceError> {
        let failed = |error: io::Error| ResourceError(format!("cannot read {}: {error}", self.archive));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(context.machine.path(&self.archive), flags, Mode::empty());
        let mut file = File::from(file.map_err(|error| failed(error.into()))?);
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(ResourceError(format!("{} is not a regular file", self.archive)));
        }
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            let text = format!("{} is not unpacked: others than root can write to it", self.archive);
            return Err(ResourceError(text));
        }
        let sha256 = copy_hashed(&mut file, &mut io::sink()).map_err(failed)?;
        match sha256 == self.sha256 {
            true => Ok(file),
            false => Err(ResourceError(format!(
                "{} has the sha256 {sha256}, and the recipe wants {}: nothing of it is unpacked",
                self.archive, self.sha256
            ))),
        }
    }

    /// Unpacks it into a directory that only root can enter.
    fn fill(&self, context: Context<'_>, file: File, tree: &Path) -> Result<Manifest, ResourceError> {
        DirBuilder::new().mode(0o755).create(tree).map_err(ResourceError::new)?;
        let rules = Rules {
            owner: Some(Owner { uid: geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }),
            links: Links::Inside,
            most_bytes: self.max_size,
            most_entries: self.max_files,
        };
        let mut stream = Stream::open(self.format, file, context.machine)?;
        let cannot = |why: String| ResourceError(format!("cannot unpack {}: {why}", self.archive));
        if let Err(error) = unpack_foreign(&mut stream, tree, &rules, self.strip) {
            return Err(cannot(format!("{}{error}", stream.complaint())));
        }
        stream.finish().map_err(|error| cannot(error.to_string()))?;
        let manifest = Manifest::of(tree, &self.sha256, self.strip).map_err(ResourceError::new)?;
        match manifest.files.is_empty() {
            true => Err(cannot(format!("nothing is left of it without {} parts of each path", self.strip))),
            false => manifest.write(tree).map(|()| manifest).map_err(ResourceError::new),
        }
    }

    /// Beside its place, so that what is unpacked can take the place in one step.
    fn scratch(&self, context: Context<'_>) -> PathBuf {
        let place = context.machine.path(&self.path);
        let name = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        place.with_file_name(format!(".toril-unpack-{name}"))
    }
}

impl Kind for Unpack {
    type State = UnpackState;

    fn observe(&self, context: Context<'_>) -> Result<UnpackState, ResourceError> {
        let place = context.machine.path(&self.path);
        let metadata = Probe::of_io(fs::symlink_metadata(&place), &self.path);
        let Some(metadata) = metadata.known().map_err(ResourceError)? else {
            return Ok(UnpackState::Absent);
        };
        if !metadata.is_dir() {
            return Ok(UnpackState::Occupied("not a directory"));
        }
        let failed = |error: io::Error| ResourceError(format!("cannot read {}: {error}", self.path));
        if let Some(manifest) = Manifest::read(&place).map_err(failed)? {
            let differences = manifest.differences(&place).map_err(failed)?.describe();
            return Ok(UnpackState::Unpacked { sha256: manifest.sha256, strip: manifest.strip, differences });
        }
        match fs::read_dir(&place).map_err(failed)?.next().is_none() {
            true => Ok(UnpackState::Absent),
            false => Ok(UnpackState::Occupied("a directory of something else")),
        }
    }

    fn compare(&self, _: Context<'_>, state: &UnpackState) -> Judged {
        let wanted = format!("sha256 {}, unpacked", self.sha256);
        let before = match state {
            UnpackState::Absent => "not there".to_owned(),
            UnpackState::Occupied(what) => (*what).to_owned(),
            UnpackState::Unpacked { sha256, .. } if *sha256 != self.sha256 => format!("sha256 {sha256}"),
            UnpackState::Unpacked { strip, .. } if *strip != self.strip => {
                format!("unpacked without {strip} parts of each path")
            }
            UnpackState::Unpacked { differences: Some(differences), .. } => differences.clone(),
            UnpackState::Unpacked { differences: None, .. } => return Judged::default(),
        };
        vec![Change::new("content", before, wanted)].into()
    }

    fn apply(
        &self,
        context: Context<'_>,
        _: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        if let UnpackState::Occupied(what) = self.observe(context)? {
            return Err(ResourceError(format!("{} is {what}; move it away and run this again", self.path)));
        }
        let archive = self.open(context)?;
        let (place, scratch) = (context.machine.path(&self.path), self.scratch(context));
        let failed = |error: io::Error| ResourceError(format!("cannot make {}: {error}", self.path));
        let unfinished = Unfinished::begin(context.machine, &scratch).map_err(failed)?;
        DirBuilder::new().mode(0o700).create(&scratch).map_err(failed)?;
        log(&format!("unpacking {}", self.archive));
        let tree = scratch.join("tree");
        let filled = self.fill(context, archive, &tree);
        let filled = filled.and_then(|_| put_in_place(&tree, &place).map_err(failed));
        // What was there before, if anything, is in it now.
        let removed = unfinished.remove().map_err(failed);
        filled.and(removed)
    }

    fn provides(&self) -> Vec<Thing> {
        vec![Thing::Path(self.path.clone())]
    }

    fn follows(&self) -> Vec<Wanted> {
        // Among the packages may be what unpacks it.
        vec![Wanted::path(&self.archive), Wanted::Above(self.path.clone()), Wanted::Packages]
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use sha2::{Digest, Sha256};
    use tar::{Builder, EntryType, Header};
    use toril_machine::Machine;

    use super::*;
    use crate::resource::testing::{self, Fake};

    /// An archive, and a place to unpack it to, on this machine.
    struct Scene {
        dir: tempfile::TempDir,
        fake: Fake,
        machine: Machine,
    }

    impl Scene {
        fn new() -> Scene {
            Scene { dir: tempfile::tempdir().unwrap(), fake: Fake::new(), machine: Machine::this() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// Writes a file and says its hash.
        fn archive(&self, name: &str, bytes: &[u8]) -> String {
            fs::write(self.path(name), bytes).unwrap();
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o644)).unwrap();
            hex::encode(Sha256::digest(bytes))
        }

        fn resource(&self, name: &str, sha256: &str, more: &str) -> Box<dyn Resource> {
            let (archive, path) = (self.path(name), self.path("place"));
            let (archive, path) = (archive.display(), path.display());
            let keys = format!("archive = \"{archive}\", sha256 = \"{sha256}\", path = \"{path}\"{more}");
            testing::read(&format!("unpack = {{ {keys} }}")).unwrap()
        }

        fn context(&self) -> Context<'_> {
            self.fake.context_on(&self.machine)
        }

        /// What is in the directory afterwards, or why not.
        fn apply(&self, resource: &dyn Resource) -> Result<Vec<String>, String> {
            let judged = resource.judge(self.context()).unwrap();
            let result = resource.apply(self.context(), &judged.changes, &mut |_| {});
            let beside: Vec<_> = fs::read_dir(self.dir.path()).unwrap().collect();
            assert!(beside.iter().all(|entry| {
                !entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(".toril")
            }));
            result.map_err(|error| error.to_string())?;
            assert_eq!(resource.judge(self.context()).unwrap(), Judged::default());
            let found = toril_archive::everything(&self.path("place")).unwrap();
            Ok(found.iter().map(|path| path.display().to_string()).collect())
        }
    }

    fn tar(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (kind, path, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o6755);
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            if *kind == EntryType::Symlink {
                header.set_link_name_literal(content).unwrap();
            }
            let content = if *kind == EntryType::Regular { content } else { "" };
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn good() -> Vec<u8> {
        tar(&[(EntryType::Regular, "x-1.0/bin/x", "x"), (EntryType::Symlink, "x-1.0/y", "bin/x")])
    }

    fn packed_by(words: &[&str], scene: &Scene) -> Vec<u8> {
        fs::write(scene.path("plain"), good()).unwrap();
        let output = Command::new(words[0]).args(&words[1..]).arg(scene.path("plain")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    #[test]
    fn each_format_is_unpacked_and_its_drift_named_and_mended() {
        let scene = Scene::new();
        let mut formats = vec![("a.tar", good()), ("a.tgz", packed_by(&["gzip", "-c"], &scene))];
        for (program, name) in [("xz", "a.tar.xz"), ("zstd", "a.tar.zst")] {
            match scene.machine.find_program(program).is_some() && geteuid().is_root() {
                true => formats.push((name, packed_by(&[program, "-q", "-c"], &scene))),
                false => eprintln!("{name} is skipped: needs root and {program}"),
            }
        }
        for (name, bytes) in formats {
            let sha256 = scene.archive(name, &bytes);
            let resource = scene.resource(name, &sha256, ", strip = 1");
            assert_eq!(scene.apply(&*resource).unwrap(), [".toril-unpacked", "bin", "y", "bin/x"], "{name}");
            let program = scene.path("place/bin/x");
            assert_eq!(fs::metadata(&program).unwrap().mode() & 0o7777, 0o755);
            fs::write(scene.path("place/made"), "").unwrap();
            assert_eq!(resource.judge(scene.context()).unwrap(), Judged::default());
            fs::write(&program, "other").unwrap();
            let judged = resource.judge(scene.context()).unwrap();
            assert_eq!(judged.changes[0].before, "1 changed, bin/x among them");
            scene.apply(&*resource).unwrap();
            assert!(!scene.path("place/made").exists());
            let other = scene.resource(name, &sha256, "");
            assert!(scene.apply(&*other).unwrap().contains(&"x-1.0/bin/x".to_owned()));
        }
    }

    #[test]
    fn what_is_not_as_it_should_be_is_refused_and_nothing_is_left() {
        let scene = Scene::new();
        let sha256 = scene.archive("good.tar", &good());
        scene.apply(&*scene.resource("good.tar", &sha256, "")).unwrap();
        let refused = |name: &str, sha256: &str, more: &str, why: &str| {
            let error = scene.apply(&*scene.resource(name, sha256, more)).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert_eq!(fs::read_to_string(scene.path("place/x-1.0/bin/x")).unwrap(), "x", "as it was");
        };
        let mut changed = good();
        changed[600] ^= 1;
        scene.archive("bad.tar", &changed);
        refused("bad.tar", &sha256, "", "and the recipe wants");
        for (name, entries, why) in [
            ("out.tar", &[(EntryType::Regular, "../beside", "x")][..], "`.` or `..`"),
            ("absolute.tar", &[(EntryType::Regular, "/etc/x", "x")], "it is absolute"),
            ("link.tar", &[(EntryType::Symlink, "l", "/etc"), (EntryType::Regular, "l/x", "x")], "leads out"),
            ("device.tar", &[(EntryType::Char, "null", "")], "a device"),
        ] {
            let sha256 = scene.archive(name, &tar(entries));
            refused(name, &sha256, ", strip = 0", why);
        }
        refused("good.tar", &sha256, ", strip = 9", "nothing is left of it");
        let many: Vec<String> = (0..100).map(|number| format!("f{number}")).collect();
        let many: Vec<_> = many.iter().map(|name| (EntryType::Regular, name.as_str(), "x")).collect();
        let sha256 = scene.archive("many.tar", &tar(&many));
        refused("many.tar", &sha256, ", max-files = 99", "more than the 99 entries");
        refused("many.tar", &sha256, ", max-size = \"99\"", "more than the 99 bytes");
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        io::copy(&mut io::Read::take(io::repeat(0), 64 << 20), &mut bomb).unwrap();
        let sha256 = scene.archive("bomb.tar.gz", &bomb.finish().unwrap());
        refused("bomb.tar.gz", &sha256, ", max-size = \"1M\"", "more than the 1048576 bytes of padding");
        fs::set_permissions(scene.path("many.tar"), fs::Permissions::from_mode(0o666)).unwrap();
        refused("many.tar", &sha256, "", "others than root can write to it");
    }

    #[test]
    fn what_was_packed_badly_is_told_in_the_unpackers_words() {
        let scene = Scene::new();
        if scene.machine.find_program("xz").is_none() || !geteuid().is_root() {
            eprintln!("skipped: needs root and xz");
            return;
        }
        let mut cut = packed_by(&["xz", "-c"], &scene);
        cut.truncate(cut.len() - 20);
        let sha256 = scene.archive("cut.tar.xz", &cut);
        let error = scene.apply(&*scene.resource("cut.tar.xz", &sha256, "")).unwrap_err();
        assert!(error.contains("xz: ") && error.contains("end of input"), "{error}");
        let sha256 = scene.archive("no.tar.xz", b"not at all");
        let error = scene.apply(&*scene.resource("no.tar.xz", &sha256, "")).unwrap_err();
        assert!(error.contains("xz: ") && error.contains("format not recognized"), "{error}");
        assert!(!scene.path("place").exists());
    }

    #[test]
    fn what_is_something_else_stays() {
        let scene = Scene::new();
        let sha256 = scene.archive("a.tar", &good());
        fs::create_dir(scene.path("place")).unwrap();
        fs::write(scene.path("place/precious"), "").unwrap();
        let error = scene.apply(&*scene.resource("a.tar", &sha256, "")).unwrap_err();
        assert!(error.contains("move it away"), "{error}");
        assert!(scene.path("place/precious").exists());
    }

    #[test]
    fn wrong_words_are_refused() {
        let hash = format!("sha256 = \"{}\"", "0".repeat(64));
        testing::refuses(&[
            (&format!("unpack = {{ archive = \"/a.zip\", path = \"/p\", {hash} }}"), "say it by `format`"),
            (
                &format!("unpack = {{ archive = \"/a\", path = \"/p\", format = \"zip\", {hash} }}"),
                "`zip` is no format that can be unpacked: tar, tar.gz, tar.xz, tar.zst",
            ),
            ("unpack = { archive = \"/a.tar\", path = \"/p\" }", "`sha256` is missing"),
            (
                &format!("unpack = {{ archiv = \"/a.tar\", path = \"/p\", {hash} }}"),
                "did you mean `archive`?",
            ),
        ]);
    }
}
