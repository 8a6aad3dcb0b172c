use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toril_archive::{Links, Owner, Rules, unpack};

use crate::event::Event;
use crate::execute::Stage;
use crate::step::Step;

/// Where a run's tree comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supply {
    /// An archive on this machine, which is removed once it is unpacked.
    Archive {
        /// The archive.
        file: PathBuf,
        /// What is in it.
        info: SourceInfo,
    },
    /// A repository that is fetched here.
    Fetch {
        /// Its URL.
        url: String,
        /// A branch, a tag, or a commit's whole name.
        reference: String,
    },
}

/// What tree was tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// Such as `the working tree`, or `ref main`.
    pub origin: String,
    /// The commit that it is, or was before it was changed; nothing where there is none yet.
    pub commit: Option<String>,
    /// How many files are not as in that commit, additional ones included.
    pub changed: u64,
}

/// Such as `the working tree, commit 0d146a0c1b2a and 3 changed files`.
impl fmt::Display for SourceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.commit {
            Some(commit) => write!(f, "{}, commit {}", self.origin, commit.get(..12).unwrap_or(commit))?,
            None => write!(f, "{}, no commit yet", self.origin)?,
        }
        match self.changed {
            0 => Ok(()),
            1 => f.write_str(" and 1 changed file"),
            count => write!(f, " and {count} changed files"),
        }
    }
}

/// A larger tree is not taken, in bytes.
const MOST_BYTES: u64 = 16 << 30;

/// One of more files, directories and links is not taken.
const MOST_ENTRIES: u64 = 4_000_000;

/// What git is told in a file, for it tells the half that reads a repository of the host's own nothing else. The second version
/// of its protocol lets any commit be asked for.
const SETTINGS: &str = "[safe]\n\tdirectory = *\n[protocol]\n\tversion = 2\n";

/// How long a repository may take to be fetched.
const FETCH: Duration = Duration::from_secs(600);

impl Stage<'_> {
    /// Lays the tree out in the run's folder, for the test user, and tells of it. An error is why no test can be run.
    pub(crate) fn lay_out(&self, supply: &Supply, sink: &mut dyn FnMut(Event)) -> Result<PathBuf, String> {
        let directory = self.directory.path().join("source");
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        let source = match supply {
            Supply::Archive { file, info } => {
                self.unpack_source(file, &directory)?;
                info.clone()
            }
            Supply::Fetch { url, reference } => self.fetch(url, reference, &directory)?,
        };
        sink(Event::SourceReady { source, directory: directory.to_string_lossy().into_owned() });
        Ok(directory)
    }

    fn unpack_source(&self, archive: &Path, directory: &Path) -> Result<(), String> {
        let (uid, gid) = (self.account.uid, self.account.gid);
        let rules = Rules {
            owner: Some(Owner { uid, gid }),
            links: Links::Inside,
            most_bytes: MOST_BYTES,
            most_entries: MOST_ENTRIES,
        };
        let file = File::open(archive)
            .map_err(|error| format!("cannot open the tree that came with the run: {error}"))?;
        unpack(io::BufReader::new(file), directory, &rules)
            .map_err(|error| format!("cannot unpack the tree that came with the run: {error}"))?;
        // Only now: until here nobody else could be in it.
        chown(directory, Some(uid), Some(gid))
            .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o755)))
            .map_err(|error| format!("cannot give {} to the test user: {error}", directory.display()))?;
        // It is as large as the tree, and is in it.
        let _ = fs::remove_file(archive);
        Ok(())
    }

    /// Fetches a commit as the test user, who has no key that a server would ask for. A repository of the host's own may be
    /// another user's: git would not read it, lest it run a program that is named there, which the tests may do anyway.
    fn fetch(&self, url: &str, reference: &str, directory: &Path) -> Result<SourceInfo, String> {
        chown(directory, Some(self.account.uid), Some(self.account.gid))
            .map_err(|error| format!("cannot give {} to the test user: {error}", directory.display()))?;
        let home = self.directory.for_test(&self.account).and_then(|home| {
            let settings = home.path().join(".gitconfig");
            self.account.act(|| fs::write(&settings, SETTINGS))?;
            Ok(home)
        });
        let home = home.map_err(|error| format!("cannot make a folder for git: {error}"))?;
        let git = |arguments: &[&str]| {
            let words = ["git", "-c", "protocol.ext.allow=never", "-c", "advice.detachedHead=false"];
            let argv: Vec<String> = words.iter().chain(arguments).map(|word| (*word).to_owned()).collect();
            let env = [("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned())];
            let step =
                Step { argv: &argv, env: &env, dir: directory, deadline: FETCH, output_limit: 64 << 20 };
            let end = step.run(&self.account, &self.options.isolate, self.stop, home.path());
            match end.trouble {
                None => Ok(end.stdout.last_lines(1).pop().unwrap_or_default()),
                Some(trouble) => {
                    let said = end.printed.last_lines(3).join("; ");
                    let said = if said.is_empty() { said } else { format!(": {said}") };
                    Err(format!("cannot fetch {reference} of {url} on the host: {trouble}{said}"))
                }
            }
        };
        git(&["init", "--quiet", "."])?;
        git(&["fetch", "--quiet", "--no-tags", "--depth", "1", "--", url, reference])?;
        git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"])?;
        let commit = git(&["rev-parse", "HEAD"])?;
        Ok(SourceInfo { origin: format!("{reference} of {url}"), commit: Some(commit), changed: 0 })
    }
}
