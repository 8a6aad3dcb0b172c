//! `source-build`: a prefix of what was built from source, known by what it was built from.

mod package;
mod room;
mod run;
mod source;
mod stamp;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{getegid, geteuid};
use toril_archive::{Links, Owner, Rules, everything, pack_in, unpack};
use toril_document::Table;
use toril_machine::{Command, Machine, Probe, User};

use self::room::{MEMORY_PER_JOB, Room};
use self::run::{Build, LOG};
use self::source::{Found, Source};
use self::stamp::Stamp;
use super::manifest::Manifest;
use super::symlink::put_link;
use super::{
    Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, optional_name, optional_path,
    read_path,
};
use crate::unfinished::Unfinished;

/// Neither sources nor products may have more bytes in all.
const MOST_BYTES: u64 = 8 << 30;

/// Neither sources nor products may be more files.
const MOST_FILES: u64 = 1_000_000;

#[derive(Debug)]
struct SourceBuild {
    /// Where programs find it: a link to the directory that was built last.
    path: String,
    source: Source,
    script: String,
    run_as: String,
    /// In bytes.
    memory_per_job: u64,
    deadline: Duration,
}

struct BuildState {
    place: Place,
    /// What it would be built from now.
    source: Found,
}

enum Place {
    Absent,
    /// Something else is there, and it stays.
    Occupied(&'static str),
    Built {
        stamp: Stamp,
        differences: Option<String>,
    },
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let path = read_path(table, "path");
    let both = table.has("source") && table.has("package") && !table.is_imagined();
    let source = optional_path(table, "source").map(Source::Directory);
    let package = optional_name(table, "package").map(Source::Package);
    if both || (source.is_none() && package.is_none() && !table.is_imagined()) {
        let message =
            "a build has either a `source`, which is a directory, or a `package` whose source it is";
        table.note("R032", table.span(), message, None);
        return None;
    }
    let script = table.required_string("shell").map(|text| text.value);
    let run_as = optional_name(table, "run-as").unwrap_or_else(|| "nobody".into());
    let memory_per_job = table.size("memory-per-job").unwrap_or(MEMORY_PER_JOB);
    let deadline = table.duration("deadline").unwrap_or(Duration::from_secs(2 * 3600));
    let source = source.or(package)?;
    Some(Box::new(SourceBuild { path: path?, source, script: script?, run_as, memory_per_job, deadline }))
}

impl SourceBuild {
    fn user(&self, machine: &Machine) -> Result<User, ResourceError> {
        match machine.user(&self.run_as) {
            Probe::Known(user) if user.uid == 0 => {
                Err(ResourceError("a build is not run as root: name another user by `run-as`".into()))
            }
            Probe::Known(user) => Ok(user),
            Probe::Absent => Err(ResourceError(format!("there is no user `{}` to build as", self.run_as))),
            Probe::Unreadable(reason) => Err(ResourceError(reason)),
        }
    }

    /// A name beside the place.
    fn beside(&self, machine: &Machine, name: impl FnOnce(&str) -> String) -> PathBuf {
        let place = machine.path(&self.path);
        let own = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        place.with_file_name(name(&own))
    }

    /// Builds into a directory below the scratch directory, which is removed whatever comes of it, and says how.
    fn build(
        &self,
        context: Context<'_>,
        source: &str,
        scratch: &Path,
        log: &mut dyn FnMut(&str),
    ) -> Result<Stamp, ResourceError> {
        let failed =
            |error: io::Error| ResourceError(format!("cannot build in {}: {error}", scratch.display()));
        let user = self.user(context.machine)?;
        let room = Room::of(context.machine, self.memory_per_job);
        // Others may pass through, and see nothing of it.
        DirBuilder::new().mode(0o711).create(scratch).map_err(failed)?;
        let work = scratch.join("work");
        DirBuilder::new().mode(0o700).create(&work).map_err(failed)?;
        for directory in ["home", "tmp", "out"].map(|name| work.join(name)) {
            DirBuilder::new().mode(0o700).create(&directory).map_err(failed)?;
            chown(&directory, Some(user.uid), Some(user.gid)).map_err(failed)?;
        }
        let printed = File::options().read(true).write(true).create_new(true).open(work.join(LOG));
        let printed = printed.map_err(failed)?;
        fchown(&printed, Some(user.uid), Some(user.gid)).map_err(failed)?;
        let until = Instant::now() + self.deadline;
        let stop = context.stop;
        let build = Build { user: &user, room, directory: &work, log: &printed, until, stop };
        let tree = work.join("source");
        let owner = Owner { uid: user.uid, gid: user.gid };
        let description = self.source.provide(context, source, scratch, (&tree, owner), log)?;
        // Only now: until here nobody could put a link in the way of who fills it.
        chown(&work, Some(user.uid), Some(user.gid)).map_err(failed)?;
        if let Some(description) = description {
            if context.machine.find_program("dpkg-source").is_none() {
                let text = "there is no `dpkg-source` on the host: have the recipe install `dpkg-dev`";
                return Err(ResourceError(text.into()));
            }
            let script = format!("dpkg-source --extract ../fetched/{description} source");
            build.run("unpacking the source", &script, &work, &[], log)?;
        }
        let env = [("PREFIX", self.path.clone()), ("DESTDIR", work.join("out").display().to_string())];
        let (jobs, mib) = (room.jobs, room.memory >> 20);
        log(&format!("building {source} with {jobs} jobs at a time in {mib} MiB"));
        build.run("the build", &self.script, &tree, &env, log)?;
        // Nor can anybody from here on.
        chown(&work, Some(geteuid().as_raw()), Some(getegid().as_raw()))
            .and_then(|()| fs::set_permissions(&work, Permissions::from_mode(0o700)))
            .map_err(failed)?;
        let compiler = Command::new("cc", ["--version"]).output().unwrap_or_default();
        let compiler = compiler.lines().next().unwrap_or_default().to_owned();
        let products = self.collect(&work.join("out"), scratch)?;
        let (source, path) = (source.to_owned(), Some(self.path.clone()));
        Ok(Stamp { source, path, script: self.script.clone(), compiler, jobs, products })
    }

    /// Copies what was built to where only root writes: `tree` in the scratch directory.
    fn collect(&self, out: &Path, scratch: &Path) -> Result<Manifest, ResourceError> {
        let prefix = out.join(self.path.trim_start_matches('/'));
        // All processes of the build are gone, and others of its user do not come in: nobody can put a link there any more.
        let mut part = out.to_owned();
        for name in self.path.trim_start_matches('/').split('/') {
            part.push(name);
            if !fs::symlink_metadata(&part).is_ok_and(|metadata| metadata.is_dir()) {
                let text = format!("the build installed nothing in $DESTDIR$PREFIX ({})", self.path);
                return Err(ResourceError(text));
            }
        }
        let tree = scratch.join("tree");
        DirBuilder::new().mode(0o755).create(&tree).map_err(ResourceError::new)?;
        let owner = Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() };
        let paths = everything(&prefix)
            .map_err(|error| ResourceError(format!("cannot read {}: {error}", prefix.display())))?;
        copy(&prefix, &tree, scratch, owner, &paths)?;
        let products = Manifest::of(&tree, "", 0).map_err(ResourceError::new)?;
        match products.is_empty() {
            false => Ok(products),
            true => {
                Err(ResourceError(format!("the build installed nothing in $DESTDIR$PREFIX ({})", self.path)))
            }
        }
    }

    /// Puts it in its place, from which no other build is then to be had.
    fn install(&self, context: Context<'_>, stamp: &Stamp, tree: &Path) -> Result<(), ResourceError> {
        let failed = |error: io::Error| ResourceError(format!("cannot put {} in place: {error}", self.path));
        stamp.write(tree).map_err(failed)?;
        let id = Stamp::id(&stamp.source, &stamp.script);
        let free = (0..1000).find_map(|number| {
            let place = self.beside(context.machine, |name| match number {
                0 => format!("{name}-{id}"),
                _ => format!("{name}-{id}.{number}"),
            });
            fs::symlink_metadata(&place).is_err().then_some(place)
        });
        let directory = free.ok_or_else(|| failed(io::Error::other("there are too many others")))?;
        let name = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        fs::rename(tree, &directory).map_err(failed)?;
        put_link(&context.machine.path(&self.path), &name).map_err(failed)?;
        self.sweep(context.machine, &name).map_err(failed)
    }

    /// Removes other builds of this place. Beside it may be those of others, whose names begin with this one's.
    fn sweep(&self, machine: &Machine, kept: &str) -> io::Result<()> {
        let place = machine.path(&self.path);
        let own = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for entry in fs::read_dir(place.parent().unwrap_or(Path::new("/")))? {
            let entry = entry?;
            let name = entry.file_name();
            let is_other = name.to_str().is_some_and(|name| name != kept && Stamp::is_name(name, &own));
            if !is_other || !entry.file_type()?.is_dir() {
                continue;
            }
            let stamp = Stamp::read(&entry.path())?;
            if stamp.is_some_and(|stamp| stamp.path.is_none_or(|path| path == self.path)) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Copies these files, directories and links that stay inside, and nothing of their modes but whether they can be executed.
/// On their way they are in the scratch directory.
fn copy(
    from: &Path,
    to: &Path,
    scratch: &Path,
    owner: Owner,
    paths: &[PathBuf],
) -> Result<(), ResourceError> {
    let cannot = |error: io::Error| ResourceError(format!("cannot read {}: {error}", from.display()));
    let paths = paths.iter().map(PathBuf::as_path);
    let parcel = pack_in(scratch, from, paths, &mut |_| {}).map_err(ResourceError::new)?;
    let rules =
        Rules { owner: Some(owner), links: Links::Inside, most_bytes: MOST_BYTES, most_entries: MOST_FILES };
    unpack(parcel.open().map_err(cannot)?, to, &rules).map(drop).map_err(ResourceError::new)
}

impl Kind for SourceBuild {
    type State = BuildState;

    fn observe(&self, context: Context<'_>) -> Result<BuildState, ResourceError> {
        let place = context.machine.path(&self.path);
        let source = self.source.look(context)?;
        let metadata = Probe::of_io(fs::symlink_metadata(&place), &self.path);
        let Some(metadata) = metadata.known().map_err(ResourceError)? else {
            return Ok(BuildState { place: Place::Absent, source });
        };
        let failed = |error: io::Error| ResourceError(format!("cannot read {}: {error}", self.path));
        let place = match Stamp::read(&place).map_err(failed)? {
            _ if !metadata.is_symlink() => Place::Occupied("not a link to what was built"),
            // Of a directory that was removed by hand.
            None if fs::metadata(&place).is_err() => Place::Absent,
            None => Place::Occupied("a link to something else"),
            Some(stamp) => {
                let differences = stamp.products.differences(&place).map_err(failed)?.describe();
                Place::Built { stamp, differences }
            }
        };
        Ok(BuildState { place, source })
    }

    fn compare(&self, _: Context<'_>, state: &BuildState) -> Judged {
        let wanted = || match &state.source {
            Found::Source(source) => format!("built from {source}"),
            Found::Nothing(_) => "built".to_owned(),
        };
        let before = match (&state.place, &state.source) {
            (Place::Absent, _) => "not there".to_owned(),
            (Place::Occupied(what), _) => (*what).to_owned(),
            (Place::Built { .. }, Found::Nothing(why)) => {
                return Judged { undecidable: Some(why.clone()), ..Judged::default() };
            }
            (Place::Built { stamp, .. }, Found::Source(source)) if stamp.source != *source => {
                format!("built from {}", stamp.source)
            }
            (Place::Built { stamp, .. }, _) if stamp.script != self.script => {
                "built by another script".into()
            }
            (Place::Built { differences: Some(differences), .. }, _) => differences.clone(),
            (Place::Built { differences: None, .. }, _) => return Judged::default(),
        };
        vec![Change::new("build", before, wanted())].into()
    }

    fn apply(
        &self,
        context: Context<'_>,
        _: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let state = self.observe(context)?;
        if let Place::Occupied(what) = state.place {
            return Err(ResourceError(format!("{} is {what}; move it away and run this again", self.path)));
        }
        let source = match state.source {
            Found::Source(source) => source,
            Found::Nothing(why) => return Err(ResourceError(why)),
        };
        let scratch = self.beside(context.machine, |name| format!(".toril-build-{name}"));
        let failed = |error: io::Error| ResourceError(format!("cannot make {}: {error}", scratch.display()));
        let unfinished = Unfinished::begin(context.machine, &scratch).map_err(failed)?;
        let built = self.build(context, &source, &scratch, log);
        let installed = built.and_then(|stamp| self.install(context, &stamp, &scratch.join("tree")));
        let removed = unfinished.remove().map_err(failed);
        installed.and(removed)
    }

    fn provides(&self) -> Vec<Thing> {
        vec![Thing::Path(self.path.clone())]
    }

    fn follows(&self) -> Vec<Wanted> {
        let source = match &self.source {
            Source::Directory(path) => Some(Wanted::path(path)),
            Source::Package(_) => None,
        };
        let user = Wanted::User(self.run_as.clone());
        source.into_iter().chain([user, Wanted::Above(self.path.clone()), Wanted::Packages]).collect()
    }

    fn asks_programs(&self) -> bool {
        // Git, where it is a checkout.
        matches!(self.source, Source::Directory(_))
    }
}

#[cfg(test)]
mod tests;
