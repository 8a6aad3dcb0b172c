//! `earlier-build`: what an earlier script built in somebody's home, beside the program that the recipe has now.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use toril_document::Table;
use toril_machine::{Machine, Probe};

use super::earlier_build_files::{beside, closed_to_others, set_aside, version};
use super::symlink::put_link;
use super::{
    Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, optional_path, read_path,
};

/// The home that is in no list of people's accounts.
const ROOT_HOME: &str = "/root";

#[derive(Debug)]
struct EarlierBuild {
    /// Where such builds are: absolute, or below each home.
    paths: Vec<String>,
    /// What the host is to use otherwise.
    program: String,
    /// The text in such a file after which its version stands.
    version_after: Option<String>,
    then: Then,
    /// Where the standard path looks before it looks for `program`.
    on_path: String,
}

/// What is done with those that are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Nothing.
    Keep,
    /// The first one gets a link on the standard path.
    Link,
    /// A link to the recipe's program takes the place of each.
    Replace,
}

struct BuildState {
    found: Vec<Build>,
    /// Places that have a link to the recipe's program, and beside them what was there before.
    replaced: Vec<String>,
    on_path: OnPath,
}

struct Build {
    path: String,
    /// Such as `7.2.0`, or its size.
    version: String,
    /// What of the way to it is closed to others than its owner: they would go on to the next of their path.
    closed: Option<String>,
}

enum OnPath {
    Absent,
    Link(String),
    Other,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let paths = table.required_strings("paths")?;
    let (paths, bad): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| is_path(&path.value));
    for path in bad {
        let message = format!("`{}` must be a path of a file, without `.` and `..`", path.value);
        table.note("R010", path.span, message, None);
    }
    let program = read_path(table, "program");
    let version_after = table.string("version-after").map(|text| text.value);
    let then = table.string("then").and_then(|word| match word.value.as_str() {
        "keep" => Some(Then::Keep),
        "link" => Some(Then::Link),
        "replace" => Some(Then::Replace),
        other if !table.is_imagined() => {
            let message = format!("`{other}` is not what can be done with an earlier build");
            table.note("R042", word.span, message, Some("`keep`, `link` or `replace`".into()));
            None
        }
        _ => None,
    });
    let on_path = optional_path(table, "on-path");
    let program = program?;
    let name = program.rsplit('/').next().unwrap_or_default();
    Some(Box::new(EarlierBuild {
        paths: paths.into_iter().map(|path| path.value).collect(),
        on_path: on_path.unwrap_or_else(|| format!("/usr/local/bin/{name}")),
        program,
        version_after,
        then: then.unwrap_or(Then::Keep),
    }))
}

fn is_path(text: &str) -> bool {
    let mut parts = text.strip_prefix('/').unwrap_or(text).split('/');
    parts.all(|part| !part.is_empty() && part != "." && part != "..") && !text.contains('\0')
}

impl EarlierBuild {
    /// Every place where there may be one: the directory that its owner had no say in, and the rest of the path.
    fn places(&self, context: Context<'_>) -> Vec<(String, &str)> {
        let people = context.facts.homes.values().map(String::as_str);
        let homes: BTreeSet<&str> = people.chain([ROOT_HOME]).filter(|home| is_path(home)).collect();
        let mut places = Vec::new();
        for path in &self.paths {
            match path.strip_prefix('/') {
                Some(rest) => places.push((String::new(), rest)),
                None => places.extend(homes.iter().map(|home| ((*home).to_owned(), path.as_str()))),
            }
        }
        places
    }

    fn observe_place(&self, machine: &Machine, path: &str) -> Result<Option<Seen>, ResourceError> {
        let place = machine.path(path);
        let real = match fs::canonicalize(&place) {
            Ok(real) => real,
            // A link that leads nowhere is no program.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(ResourceError(format!("cannot read {path}: {error}"))),
        };
        let is_link = fs::symlink_metadata(&place).is_ok_and(|metadata| metadata.is_symlink());
        let target = fs::read_link(&place).unwrap_or_default();
        if is_link && target.to_str() == Some(&self.program)
            || Ok(&real) == self.real_program(machine).as_ref()
        {
            return Ok(Some(Seen::Replaced));
        }
        Ok(match version(&real, self.version_after.as_deref()) {
            Probe::Known(Some(version)) => Some(Seen::Build { real, version }),
            // Neither a file nor executable.
            Probe::Known(None) | Probe::Absent => None,
            Probe::Unreadable(reason) => return Err(ResourceError(reason)),
        })
    }

    fn real_program(&self, machine: &Machine) -> Result<PathBuf, ErrorKind> {
        fs::canonicalize(machine.path(&self.program)).map_err(|error| error.kind())
    }

    fn link_change(&self, state: &BuildState, build: &Build) -> Option<Change> {
        let after = format!("a link to {}", build.path);
        let before = match &state.on_path {
            OnPath::Link(target) if *target == build.path => return None,
            OnPath::Link(target) => format!("a link to {target}"),
            OnPath::Absent => "not there".into(),
            OnPath::Other => "something that is no link".into(),
        };
        Some(Change::new(&self.on_path, before, after))
    }
}

enum Seen {
    Build { real: PathBuf, version: String },
    Replaced,
}

impl Kind for EarlierBuild {
    type State = BuildState;

    fn observe(&self, context: Context<'_>) -> Result<BuildState, ResourceError> {
        let mut state = BuildState { found: Vec::new(), replaced: Vec::new(), on_path: OnPath::Absent };
        let mut known = BTreeSet::new();
        for (base, rest) in self.places(context) {
            let path = format!("{base}/{rest}");
            match self.observe_place(context.machine, &path)? {
                // A build has links to itself at the places where it once was.
                Some(Seen::Build { real, version }) if known.insert(real.clone()) => {
                    let closed = closed_to_others(&context.machine.path("/"), &real);
                    state.found.push(Build { path, version, closed });
                }
                Some(Seen::Replaced) if context.machine.exists(&beside(&path)) == Probe::Known(()) => {
                    state.replaced.push(path);
                }
                _ => {}
            }
        }
        let place = context.machine.path(&self.on_path);
        state.on_path = match Probe::of_io(fs::symlink_metadata(&place), &self.on_path) {
            Probe::Absent => OnPath::Absent,
            Probe::Unreadable(reason) => return Err(ResourceError(reason)),
            Probe::Known(metadata) if metadata.is_symlink() => match fs::read_link(&place) {
                Ok(target) => OnPath::Link(target.to_string_lossy().into_owned()),
                Err(error) => return Err(ResourceError(format!("cannot read {}: {error}", self.on_path))),
            },
            Probe::Known(_) => OnPath::Other,
        };
        Ok(state)
    }

    fn compare(&self, _: Context<'_>, state: &BuildState) -> Judged {
        let mut judged = Judged::default();
        let mut kept = state.found.iter();
        match self.then {
            Then::Keep => {}
            Then::Link => {
                if let Some(first) = kept.next() {
                    judged.changes.extend(self.link_change(state, first));
                    let Build { path, version, closed } = first;
                    judged.impossible = closed.as_ref().map(|closed| {
                        format!(
                            "{path} cannot be used by all: {closed} is closed to others than its owner, who would get {} \
                             instead; open it (chmod o+x), or do not link it",
                            self.program
                        )
                    });
                    judged
                        .notices
                        .push(format!("{path} ({version}) is the one that {} stands for", self.on_path));
                }
            }
            Then::Replace => {
                judged.changes.extend(kept.by_ref().map(|Build { path, version, .. }| {
                    let after =
                        format!("a link to {}; what was there is kept as {}", self.program, beside(path));
                    Change::new(path, version, after)
                }));
            }
        }
        for Build { path, version, .. } in kept {
            let linked = matches!(&state.on_path, OnPath::Link(target) if target == path);
            let used = match linked {
                true => format!("{} is a link to it", self.on_path),
                false => format!("the host has {} besides", self.program),
            };
            judged.notices.push(format!("{path} ({version}) was built earlier and is kept as it is; {used}"));
        }
        judged.notices.extend(state.replaced.iter().map(|path| {
            format!("{path} is a link to {}; what was there is kept as {}", self.program, beside(path))
        }));
        judged
    }

    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        _: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let machine = context.machine;
        let state = self.observe(context)?;
        if self.then == Then::Link
            && let Some(build) = state.found.first()
        {
            if matches!(state.on_path, OnPath::Other) {
                return Err(ResourceError(format!(
                    "{} is there and is no link; move it away and run this again",
                    self.on_path
                )));
            }
            return put_link(&machine.path(&self.on_path), &build.path)
                .map_err(|error| ResourceError(format!("cannot make the link {}: {error}", self.on_path)));
        }
        if self.then != Then::Replace {
            return Ok(());
        }
        if self.real_program(machine).is_err() {
            return Err(ResourceError(format!("there is no {} that could be used instead", self.program)));
        }
        for (base, rest) in self.places(context) {
            let path = format!("{base}/{rest}");
            if changes.iter().any(|change| change.what == path) {
                set_aside(&machine.path(&base), rest, &self.program)
                    .map_err(|reason| ResourceError(format!("cannot replace {path}: {reason}")))?;
            }
        }
        Ok(())
    }

    fn provides(&self) -> Vec<Thing> {
        match self.then {
            Then::Link => vec![Thing::Path(self.on_path.clone())],
            Then::Keep | Then::Replace => Vec::new(),
        }
    }

    fn follows(&self) -> Vec<Wanted> {
        vec![Wanted::Packages, Wanted::Above(self.on_path.clone())]
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::resource::testing::{self, Fake};

    const NEW: &str = "home/d/qemuforvmm/build/qemu";
    const OLD: &str = "home/d/qemuforvmm/build/x86/qemu";

    fn resource(then: &str) -> Box<dyn Resource> {
        testing::read(&format!(
            "earlier-build = {{ paths = [\"qemuforvmm/build/x86/qemu\", \"qemuforvmm/build/qemu\"], \
             program = \"/usr/bin/qemu\", version-after = \"version \", then = \"{then}\" }}"
        ))
        .unwrap()
    }

    /// A host with the recipe's program, and a build of `debian`'s with a link to itself.
    fn host() -> Fake {
        let mut fake = Fake::new();
        fake.facts.homes = [("d".to_owned(), "/home/d".to_owned())].into();
        for directory in ["usr/bin", "usr/local/bin", "home/d/qemuforvmm/build/x86"] {
            fs::create_dir_all(fake.path(directory)).unwrap();
        }
        program(&fake, "usr/bin/qemu", "version 7.2.0 (Debian)\n");
        program(&fake, NEW, "\0\u{1}version 5.2.50 (v5.2.0-1)\n\0");
        symlink("../qemu", fake.path(OLD)).unwrap();
        fake
    }

    fn program(fake: &Fake, path: &str, text: &str) {
        fs::write(fake.path(path), text).unwrap();
        fs::set_permissions(fake.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn notices(fake: &Fake, then: &str) -> Vec<String> {
        resource(then).judge(fake.context()).unwrap().notices
    }

    #[test]
    fn one_that_is_kept_is_named_and_nothing_is_done() {
        let fake = host();
        assert_eq!(fake.changes(&*resource("keep")), [""; 0]);
        assert_eq!(
            notices(&fake, "keep"),
            [
                "/home/d/qemuforvmm/build/x86/qemu (5.2.50 (v5.2.0-1)) was built earlier and is kept as it is; \
              the host has /usr/bin/qemu besides"
            ]
        );
        fs::set_permissions(fake.path(NEW), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(notices(&fake, "keep"), [""; 0], "what cannot be run is no program");
        fs::remove_file(fake.path(NEW)).unwrap();
        assert_eq!(notices(&fake, "keep"), [""; 0], "a link that leads nowhere is none");
    }

    #[test]
    fn one_that_is_linked_is_found_by_the_path() {
        let fake = host();
        let resource = resource("link");
        let to = "/home/d/qemuforvmm/build/x86/qemu";
        assert_eq!(fake.changes(&*resource), [format!("/usr/local/bin/qemu: not there → a link to {to}")]);
        fake.apply(&*resource);
        assert_eq!(fake.changes(&*resource), [""; 0]);
        assert_eq!(fs::read_link(fake.path("usr/local/bin/qemu")).unwrap().to_str(), Some(to));
        assert!(notices(&fake, "keep")[0].ends_with("/usr/local/bin/qemu is a link to it"));
        // Who cannot get at it would run something else.
        fs::set_permissions(fake.path("home/d"), fs::Permissions::from_mode(0o700)).unwrap();
        let impossible = resource.judge(fake.context()).unwrap().impossible.unwrap();
        assert!(impossible.contains("/home/d is closed to others"), "{impossible}");
        fs::set_permissions(fake.path("home/d"), fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(resource.judge(fake.context()).unwrap().impossible, None);
        // Somebody's own program is not overwritten.
        fs::remove_file(fake.path("usr/local/bin/qemu")).unwrap();
        fs::write(fake.path("usr/local/bin/qemu"), "mine").unwrap();
        let judged = resource.judge(fake.context()).unwrap();
        let error = resource.apply(fake.context(), &judged.changes, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("move it away"), "{error}");
    }

    #[test]
    fn one_that_is_replaced_is_kept_beside() {
        let fake = host();
        program(&fake, "home/d/other", "nothing of a number");
        fs::remove_file(fake.path(OLD)).unwrap();
        symlink("../../../other", fake.path(OLD)).unwrap();
        let resource = resource("replace");
        let changes = fake.changes(&*resource);
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert_eq!(
            changes[1],
            "/home/d/qemuforvmm/build/qemu: 5.2.50 (v5.2.0-1) → a link to /usr/bin/qemu; what was there is kept as \
             /home/d/qemuforvmm/build/qemu.toril-kept"
        );
        fake.apply(&*resource);
        // The link to the program leads out of the fake root; that it is the right one is enough.
        assert_eq!(fake.changes(&*resource), [""; 0]);
        let link = |path: &str| fs::read_link(fake.path(path)).unwrap();
        assert_eq!((link(NEW), link(OLD)), ("/usr/bin/qemu".into(), "/usr/bin/qemu".into()));
        let kept = fs::read_to_string(fake.path(&format!("{NEW}.toril-kept"))).unwrap();
        assert!(kept.contains("5.2.50"));
        assert!(fake.path("home/d/other").exists());
        assert!(notices(&fake, "keep").iter().all(|notice| notice.contains("is kept as")));
    }

    #[test]
    fn nothing_is_replaced_by_what_is_not_there_or_through_links() {
        let fake = host();
        let resource = resource("replace");
        let judged = resource.judge(fake.context()).unwrap();
        fs::remove_file(fake.path("usr/bin/qemu")).unwrap();
        let error = resource.apply(fake.context(), &judged.changes, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("there is no /usr/bin/qemu"), "{error}");
        // The user of the home may point its directories anywhere.
        program(&fake, "usr/bin/qemu", "version 7.2.0 (Debian)\n");
        fs::rename(fake.path("home/d/qemuforvmm"), fake.path("elsewhere")).unwrap();
        symlink("../../elsewhere", fake.path("home/d/qemuforvmm")).unwrap();
        let judged = resource.judge(fake.context()).unwrap();
        assert!(!judged.changes.is_empty());
        let error = resource.apply(fake.context(), &judged.changes, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("qemuforvmm"), "{error}");
        assert!(fs::read_to_string(fake.path("elsewhere/build/qemu")).unwrap().contains("5.2.50"));
    }

    #[test]
    fn wrong_words_are_refused() {
        testing::refuses(&[
            ("earlier-build = { paths = [\"a\"], program = \"/p\", then = \"burn\" }", "`burn` is not what"),
            ("earlier-build = { paths = [\"a/../b\"], program = \"/p\" }", "must be a path of a file"),
            ("earlier-build = { paths = [], program = \"/p\" }", "paths"),
            ("earlier-build = { paths = [\"a\"], program = \"p\" }", "must be an absolute path"),
            (
                "earlier-build = { paths = [\"a\"], program = \"/p\", than = \"keep\" }",
                "did you mean `then`?",
            ),
        ]);
    }
}
