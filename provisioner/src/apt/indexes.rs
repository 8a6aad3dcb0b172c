use std::fs;
use std::time::{Duration, SystemTime};

use toril_machine::{Machine, Probe};

use crate::resource::ResourceError;

pub(super) const LISTS: &str = "/var/lib/apt/lists";
pub(super) const PARTIAL: &str = "/var/lib/apt/lists/partial";

/// Package lists older than this are said to be.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// The package lists that apt has fetched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Indexes {
    /// How many there are.
    pub(crate) count: usize,
    /// Paths of what is left of downloads that did not end.
    pub(crate) partial: Vec<String>,
    /// Paths of lists that are not as long as their release file says.
    pub(crate) truncated: Vec<String>,
    /// How long ago the last of them was fetched.
    pub(crate) age: Duration,
    /// Whether they were fetched a moment ago, in the same apply.
    pub(crate) fresh: bool,
}

impl Indexes {
    pub(crate) fn observe(machine: &Machine) -> Result<Indexes, ResourceError> {
        let names = names(machine, LISTS)?;
        let mut truncated = Vec::new();
        for release in names.iter().filter(|name| name.ends_with("_InRelease") || name.ends_with("_Release"))
        {
            let path = format!("{LISTS}/{release}");
            let Some(text) = machine.read(&path).known().map_err(ResourceError)? else { continue };
            let Some((prefix, _)) = release.rsplit_once('_') else { continue };
            let of_release = |name: &&String| {
                name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')).is_some_and(|rest| {
                    let said = length(&text, rest);
                    let path = machine.path(format!("{LISTS}/{name}"));
                    said.is_some_and(|said| fs::metadata(path).is_ok_and(|data| data.len() != said))
                })
            };
            truncated.extend(names.iter().filter(of_release).map(|name| format!("{LISTS}/{name}")));
        }
        let partial = self::names(machine, PARTIAL)?;
        let partial: Vec<String> = partial.iter().map(|name| format!("{PARTIAL}/{name}")).collect();
        let count = names.iter().filter(|name| name.contains("_Packages")).count();
        Ok(Indexes { count, partial, truncated, age: age(machine), fresh: false })
    }

    /// Why they are fetched, in words.
    pub(crate) fn describe(&self) -> String {
        let lists = |count: usize| if count == 1 { "1 list".into() } else { format!("{count} lists") };
        let days = self.age.as_secs() / STALE.as_secs();
        match (self.count, self.truncated.len(), self.partial.len()) {
            (0, _, 0) => "there are none".into(),
            (_, 0, 0) if days == 1 => "they are 1 day old".into(),
            (_, 0, 0) if days > 1 => format!("they are {days} days old"),
            (_, 0, 0) => "whether they are the newest is for the mirror to say".into(),
            (_, 0, partial) => format!("{} half-downloaded", lists(partial)),
            (_, truncated, _) => format!("{} cut off", lists(truncated)),
        }
    }
}

/// The length of a file, in bytes, by its release file (in any section of it). `name`: with `_` for `/`.
fn length(release: &str, name: &str) -> Option<u64> {
    release.lines().filter(|line| line.starts_with(' ')).find_map(|line| {
        let mut words = line.split_whitespace();
        let (_, length, path) = (words.next()?, words.next()?, words.next()?);
        (path.replace('/', "_") == name).then(|| length.parse().ok())?
    })
}

/// The names of the files in a directory, in order.
pub(super) fn names(machine: &Machine, directory: &str) -> Result<Vec<String>, ResourceError> {
    let entries = Probe::of_io(fs::read_dir(machine.path(directory)), directory);
    let mut names = Vec::new();
    for entry in entries.known().map_err(ResourceError)?.into_iter().flatten() {
        let entry = entry.map_err(|error| ResourceError(format!("cannot read {directory}: {error}")))?;
        // Lists of a mirror on the host's own disk are links.
        let is_file = entry.file_type().is_ok_and(|kind| !kind.is_dir());
        if let (true, Ok(name)) = (is_file && entry.file_name() != "lock", entry.file_name().into_string()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Apt gives lists the mirror's time; what it moves about shows in the directories'.
fn age(machine: &Machine) -> Duration {
    let modified = |path: &str| fs::metadata(machine.path(path)).and_then(|data| data.modified()).ok();
    let newest = modified(LISTS).max(modified(PARTIAL));
    newest.and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_release_file_is_read(text in r"( [0-9a-f]{0,3} {1,2}[0-9]{0,30} (main/)?Packages\n|[a-z: \n]){0,20}") {
            let _ = length(&text, "main_Packages");
        }
    }

    #[test]
    fn lists_that_are_missing_cut_off_or_half_downloaded_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::at(root.path());
        let words = || Indexes::observe(&machine).unwrap().describe();
        assert_eq!(words(), "there are none");
        let lists = root.path().join("var/lib/apt/lists");
        fs::create_dir_all(lists.join("partial")).unwrap();
        fs::write(lists.join("lock"), "").unwrap();
        fs::write(lists.join("m_dists_s_InRelease"), "Suite: s\nSHA256:\n 0a 5 main/binary-amd64/Packages\n")
            .unwrap();
        let list = lists.join("m_dists_s_main_binary-amd64_Packages");
        fs::write(&list, "12345").unwrap();
        assert_eq!(words(), "whether they are the newest is for the mirror to say");
        fs::write(lists.join("partial/x"), "").unwrap();
        assert_eq!(words(), "1 list half-downloaded");
        fs::write(&list, "123").unwrap();
        assert_eq!(words(), "1 list cut off");
        let truncated = Indexes::observe(&machine).unwrap().truncated;
        assert_eq!(truncated, ["/var/lib/apt/lists/m_dists_s_main_binary-amd64_Packages"]);
    }
}
