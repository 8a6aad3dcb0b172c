//! `git-checkout`: one commit of a repository, as it is in the repository.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::Path;
use std::time::Duration;

use toril_document::Table;
use toril_machine::{Probe, User};

use super::download::parse_hex;
use super::git::Git;
use super::place::put_in_place;
use super::{
    Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, optional_name, parsed, read_path,
};
use crate::unfinished::Unfinished;

#[derive(Debug)]
struct GitCheckout {
    url: String,
    commit: String,
    path: String,
    run_as: Option<String>,
    deadline: Duration,
}

enum CheckoutState {
    Absent,
    /// Something else is there, and it stays.
    Occupied(&'static str),
    /// Somebody else's; git would refuse it too.
    OwnedBy(String),
    /// There is something that only git can tell more of, and no git.
    NoGit,
    Checkout(Status),
}

/// What git says of a checkout.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    commit: String,
    modified: usize,
    untracked: usize,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let url = parsed(table, "url", "R033", parse_url);
    let commit = parsed(table, "commit", "R035", |text| {
        parse_hex(text, 40).map_err(|_| format!("`{text}` is not a commit's full 40 hexadecimal digits"))
    });
    let path = read_path(table, "path");
    let run_as = optional_name(table, "run-as");
    let deadline = table.duration("deadline").unwrap_or(Duration::from_secs(1800));
    Some(Box::new(GitCheckout { url: url?, commit: commit?, path: path?, run_as, deadline }))
}

fn parse_url(text: &str) -> Result<String, String> {
    let known = ["https://", "http://", "ssh://", "git://", "file:///"];
    let is_known = known.iter().any(|start| text.len() > start.len() && text.starts_with(start));
    match is_known && text.chars().all(|c| c.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is no URL of a repository: begin it with https://, http://, ssh://, git:// or file:///"
        )),
    }
}

/// Reads `git status --porcelain=v2 --branch`.
fn parse_status(text: &str) -> Status {
    let mut status = Status::default();
    for line in text.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["#", "branch.oid", commit] => status.commit = commit.to_owned(),
            ["1" | "2" | "u", ..] => status.modified += 1,
            ["?", ..] => status.untracked += 1,
            _ => {}
        }
    }
    status
}

impl Status {
    fn describe(&self) -> String {
        let mut text = self.commit.clone();
        for (count, what) in [(self.modified, "changed"), (self.untracked, "not of the repository")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text
    }
}

impl GitCheckout {
    fn user(&self, context: Context<'_>) -> Result<User, ResourceError> {
        let name = self.run_as.as_deref().unwrap_or("root");
        match context.machine.user(name) {
            Probe::Known(user) => Ok(user),
            Probe::Absent => Err(ResourceError(format!("there is no user `{name}` to check it out as"))),
            Probe::Unreadable(reason) => Err(ResourceError(reason)),
        }
    }

    /// Runs git as the checkout's user in a directory.
    fn git(&self, context: Context<'_>, dir: &Path, args: &[&str]) -> Result<String, ResourceError> {
        let (run_as, deadline) = (self.run_as.as_deref(), self.deadline);
        Git { run_as, directory: dir, env: &[], deadline }.run(context, args)
    }

    /// Gets the commit into a new directory. Not every server gives out a commit by its name.
    fn fill(&self, context: Context<'_>, dir: &Path, log: &mut dyn FnMut(&str)) -> Result<(), ResourceError> {
        let git = |args: &[&str]| self.git(context, dir, args);
        git(&["init", "--quiet", "--template=", "."])?;
        git(&["remote", "add", "origin", "--", &self.url])?;
        log(&format!("fetching {} of {}", self.commit, self.url));
        let one = git(&["fetch", "--quiet", "--no-tags", "--depth=1", "origin", &self.commit]);
        if let Err(error) = one {
            log(&format!("{error}; fetching all of it"));
            git(&["fetch", "--quiet", "--tags", "origin"])?;
        }
        let name = format!("{}^{{commit}}", self.commit);
        git(&["cat-file", "-e", &name]).map_err(|_| {
            ResourceError(format!("{} has no commit {} in its branches and tags", self.url, self.commit))
        })?;
        git(&["checkout", "--quiet", "--force", "--detach", &self.commit]).map(drop)
    }
}

impl Kind for GitCheckout {
    type State = CheckoutState;

    fn observe(&self, context: Context<'_>) -> Result<CheckoutState, ResourceError> {
        let place = context.machine.path(&self.path);
        let metadata = Probe::of_io(fs::symlink_metadata(&place), &self.path);
        let Some(metadata) = metadata.known().map_err(ResourceError)? else {
            return Ok(CheckoutState::Absent);
        };
        if !metadata.is_dir() {
            return Ok(CheckoutState::Occupied("something that is no directory"));
        }
        let git = format!("{}/.git", self.path);
        if context.machine.exists(&git).known().map_err(ResourceError)?.is_none() {
            let mut entries = fs::read_dir(&place)
                .map_err(|error| ResourceError(format!("cannot read {}: {error}", self.path)))?;
            return Ok(match entries.next() {
                None => CheckoutState::Absent,
                Some(_) => CheckoutState::Occupied("a directory that is no checkout of git"),
            });
        }
        // Git runs as the owner only, or a checkout could have it do things as somebody else.
        let owner = context.machine.user_name(metadata.uid());
        if owner != self.run_as.as_deref().unwrap_or("root") {
            return Ok(CheckoutState::OwnedBy(owner));
        }
        if context.machine.find_program("git").is_none() {
            return Ok(CheckoutState::NoGit);
        }
        let args = ["status", "--porcelain=v2", "--branch", "--untracked-files=normal"];
        self.git(context, &place, &args).map(|text| CheckoutState::Checkout(parse_status(&text)))
    }

    fn compare(&self, _: Context<'_>, state: &CheckoutState) -> Judged {
        let change = match state {
            CheckoutState::Absent => Change::new("checkout", "not there", &self.commit),
            CheckoutState::Occupied(what) => Change::new("checkout", *what, &self.commit),
            CheckoutState::OwnedBy(owner) => {
                Change::new("owner", owner, self.run_as.as_deref().unwrap_or("root"))
            }
            CheckoutState::NoGit => {
                let undecidable = Some("there is no git here to look at the checkout with".into());
                return Judged { undecidable, ..Judged::default() };
            }
            // What a build leaves beside the sources is no drift.
            CheckoutState::Checkout(status) if status.commit == self.commit && status.modified == 0 => {
                return Judged::default();
            }
            CheckoutState::Checkout(status) => Change::new("checkout", status.describe(), &self.commit),
        };
        vec![change].into()
    }

    fn apply(
        &self,
        context: Context<'_>,
        _: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        if let CheckoutState::Occupied(what) = self.observe(context)? {
            return Err(ResourceError(format!("{} is {what}; move it away and run this again", self.path)));
        }
        let user = self.user(context)?;
        let path = context.machine.path(&self.path);
        let failed = |error: io::Error| ResourceError(format!("cannot make {}: {error}", self.path));
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let fresh = path.with_file_name(format!(".toril-checkout-{name}"));
        let unfinished = Unfinished::begin(context.machine, &fresh).map_err(failed)?;
        DirBuilder::new().mode(0o755).create(&fresh).map_err(failed)?;
        // Above it may be the user's own directory, who could put a link in its place.
        lchown(&fresh, Some(user.uid), Some(user.gid)).map_err(failed)?;
        let filled = self.fill(context, &fresh, log);
        let filled = filled.and_then(|()| put_in_place(&fresh, &path).map_err(failed));
        // What was there before, if anything, has the other's name now and goes with it.
        let removed = unfinished.remove().map_err(failed);
        filled.and(removed)
    }

    fn provides(&self) -> Vec<Thing> {
        vec![Thing::Path(self.path.clone())]
    }

    fn follows(&self) -> Vec<Wanted> {
        let user = self.run_as.iter().map(|user| Wanted::User(user.clone()));
        user.chain([Wanted::Above(self.path.clone()), Wanted::Packages]).collect()
    }

    fn asks_programs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use toril_machine::{Command, Machine};

    use super::*;
    use crate::resource::testing::{self, Fake};

    fn git(dir: &Path, args: &[&str]) -> String {
        let identity =
            ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main"];
        let command = Command::new("git", identity.iter().chain(args)).dir(dir);
        command.output().unwrap().trim().to_owned()
    }

    /// A repository with two commits.
    fn repository(dir: &Path) -> [String; 2] {
        fs::create_dir(dir).unwrap();
        git(dir, &["init", "--quiet"]);
        ["one", "two"].map(|text| {
            fs::write(dir.join("f"), text).unwrap();
            git(dir, &["add", "f"]);
            git(dir, &["commit", "--quiet", "-m", text]);
            git(dir, &["rev-parse", "HEAD"])
        })
    }

    #[test]
    fn a_commit_is_checked_out_looked_at_and_mended() {
        let machine = Machine::this();
        let is_root = rustix::process::geteuid().is_root();
        if machine.find_program("git").is_none() || !is_root {
            eprintln!("skipped: needs git and root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (source, place) = (dir.path().join("source"), dir.path().join("place"));
        let [one, two] = repository(&source);
        let fake = Fake::new();
        let context = fake.context_on(&machine);
        let resource = |commit: &str| {
            let (url, path) = (source.display(), place.display());
            let keys = format!("url = \"file://{url}\", commit = \"{commit}\", path = \"{path}\"");
            testing::read(&format!("git-checkout = {{ {keys} }}")).unwrap()
        };
        let mend = |commit: &str, before: &str| {
            let resource = resource(commit);
            let judged = resource.judge(context).unwrap();
            assert_eq!(judged.changes, [Change::new("checkout", before, commit)]);
            resource.apply(context, &judged.changes, &mut |_| {}).unwrap();
            assert_eq!(resource.judge(context).unwrap(), Judged::default());
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing temporary is left");
        };
        mend(&one, "not there");
        assert_eq!(fs::read_to_string(place.join("f")).unwrap(), "one");
        fs::write(place.join("built"), "").unwrap();
        assert_eq!(
            resource(&one).judge(context).unwrap(),
            Judged::default(),
            "a build's product is no drift"
        );
        fs::write(place.join("f"), "changed").unwrap();
        mend(&one, &format!("{one}, 1 changed, 1 not of the repository"));
        mend(&two, &one);
        assert_eq!(fs::read_to_string(place.join("f")).unwrap(), "two");
        let missing = "0".repeat(40);
        let error = resource(&missing).apply(context, &[], &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("has no commit"), "{error}");
        assert_eq!(fs::read_to_string(place.join("f")).unwrap(), "two", "what was there is as it was");
    }

    #[test]
    fn what_is_no_checkout_stays() {
        let fake = Fake::new();
        let commit = "a".repeat(40);
        let text = format!(
            "git-checkout = {{ url = \"https://example.org/r\", commit = \"{commit}\", path = \"/etc/r\" }}"
        );
        let resource = testing::read(&text).unwrap();
        assert_eq!(fake.changes(&*resource), [format!("checkout: not there → {commit}")]);
        fs::create_dir(fake.path("etc/r")).unwrap();
        assert_eq!(fake.changes(&*resource), [format!("checkout: not there → {commit}")], "it is empty");
        fs::write(fake.path("etc/r/precious"), "").unwrap();
        assert!(fake.changes(&*resource)[0].contains("no checkout of git"));
        let error = resource.apply(fake.context(), &[], &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("move it away"), "{error}");
        fs::create_dir(fake.path("etc/r/.git")).unwrap();
        let judged = resource.judge(fake.context()).unwrap();
        assert!(judged.changes.is_empty() && judged.undecidable.unwrap().contains("no git here"));
    }

    #[test]
    fn status_is_read() {
        let text =
            "# branch.oid abc\n# branch.head (detached)\n1 .M N... 1 1 1 a a f\nu x\n? new\n! ignored\n";
        let expected = Status { commit: "abc".into(), modified: 2, untracked: 1 };
        assert_eq!(parse_status(text), expected);
    }

    #[test]
    fn wrong_words_are_refused() {
        let with = |keys: &str| format!("git-checkout = {{ path = \"/f\", {keys} }}");
        let commit = format!("commit = \"{}\"", "a".repeat(40));
        testing::refuses(&[
            (&with("url = \"https://e.org/r\", commit = \"main\""), "full 40 hexadecimal digits"),
            (&with("url = \"https://e.org/r\", comit = \"main\""), "did you mean `commit`?"),
            (&with(&format!("url = \"--upload-pack=x\", {commit}")), "is no URL of a repository"),
            (&with(&format!("url = \"ext::sh -c x\", {commit}")), "is no URL of a repository"),
        ]);
    }
}
