//! What dpkg recorded of a package's files. The formats are those of dpkg's own database: dpkg-query(1), deb-md5sums(5),
//! dpkg-divert(1), dpkg-statoverride(1).

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;

use toril_machine::{Machine, Probe};

use crate::resource::ResourceError;

/// Images of hosts are made without these as often as with them: dpkg's `path-exclude`.
const DOCUMENTATION: [&str; 5] =
    ["/usr/share/doc/", "/usr/share/info/", "/usr/share/lintian/", "/usr/share/locale/", "/usr/share/man/"];

/// The files of one package.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) package: String,
    /// Everything but documentation and configuration, where it really is.
    pub(super) paths: Vec<String>,
    /// MD5 by path, where dpkg has one: none for links and directories.
    pub(super) sums: HashMap<String, [u8; 16]>,
    /// When the package was unpacked here, as (seconds, nanoseconds): the list is written last.
    pub(super) unpacked: (i64, i64),
}

impl Manifest {
    pub(super) fn read(
        machine: &Machine,
        package: &str,
        diversions: &Diversions,
    ) -> Result<Manifest, ResourceError> {
        let info = |end: &str| {
            // Packages that may be installed for several architectures at once have theirs in the name.
            let names = ["", ":amd64"].map(|arch| format!("/var/lib/dpkg/info/{package}{arch}.{end}"));
            let found = names.iter().find(|path| matches!(machine.exists(path), Probe::Known(())));
            found.unwrap_or(&names[0]).clone()
        };
        let list_path = info("list");
        let list = machine.read(&list_path).known().map_err(ResourceError)?;
        let list = list.ok_or_else(|| ResourceError(format!("dpkg has lost its list {list_path}")))?;
        let metadata = Probe::of_io(std::fs::metadata(machine.path(&list_path)), &list_path);
        let metadata = metadata.known().map_err(ResourceError)?;
        let unpacked = metadata.map_or((0, 0), |metadata| (metadata.ctime(), metadata.ctime_nsec()));
        let sums = machine.read(&info("md5sums")).known().map_err(ResourceError)?.unwrap_or_default();
        Ok(Manifest {
            package: package.to_owned(),
            paths: read_list(&list).map(|path| diversions.of(path, package)).collect(),
            sums: read_sums(&sums).map(|(path, sum)| (diversions.of(&path, package), sum)).collect(),
            unpacked,
        })
    }
}

/// Absolute paths, one a line. Configuration is the administrator's: /etc is left out.
fn read_list(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|path| {
        path.starts_with('/')
            && *path != "/."
            && !path.starts_with("/etc/")
            && !DOCUMENTATION.iter().any(|prefix| path.starts_with(prefix))
    })
}

/// `MD5  PATH`, one a line; the path has no slash at its beginning.
fn read_sums(text: &str) -> impl Iterator<Item = (String, [u8; 16])> {
    text.lines().filter_map(|line| {
        let (sum, path) = line.split_once("  ")?;
        let mut bytes = [0; 16];
        hex::decode_to_slice(sum, &mut bytes).ok()?;
        Some((format!("/{path}"), bytes))
    })
}

/// Files that were moved aside for another package's, or an administrator's, by dpkg-divert.
#[derive(Debug, Default)]
pub(super) struct Diversions(Vec<(String, String, String)>);

impl Diversions {
    pub(super) fn read(machine: &Machine) -> Result<Diversions, ResourceError> {
        let text = machine.read("/var/lib/dpkg/diversions").known().map_err(ResourceError)?;
        Ok(Diversions::parse(&text.unwrap_or_default()))
    }

    /// Three lines each: from, to, and the package whose file stays; `:` where it is nobody's.
    fn parse(text: &str) -> Diversions {
        let lines: Vec<&str> = text.lines().collect();
        let (groups, _) = lines.as_chunks::<3>();
        Diversions(groups.iter().map(|group| group.map(str::to_owned).into()).collect())
    }

    fn of(&self, path: &str, package: &str) -> String {
        let diverted = self.0.iter().find(|(from, _, by)| from == path && by != package);
        diverted.map_or(path, |(_, to, _)| to).to_owned()
    }
}

/// Paths whose owner and mode the administrator has set by dpkg-statoverride: `USER GROUP MODE PATH`, one a line.
pub(super) fn overrides(machine: &Machine) -> HashSet<String> {
    let text = machine.read("/var/lib/dpkg/statoverride").known().ok().flatten().unwrap_or_default();
    text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_without_what_is_not_the_packages_to_keep() {
        let text = "/.\n/usr\n/usr/bin/git\n/etc/git.conf\n/usr/share/doc/git/README\n\nusr/bin/x\n";
        assert_eq!(read_list(text).collect::<Vec<_>>(), ["/usr", "/usr/bin/git"]);
    }

    #[test]
    fn sums_of_paths() {
        let text = "d41d8cd98f00b204e9800998ecf8427e  usr/bin/a b\nno sum\nzz  usr/x\n";
        let sums: Vec<_> = read_sums(text).collect();
        assert_eq!(sums.len(), 1);
        assert_eq!((sums[0].0.as_str(), sums[0].1[0]), ("/usr/bin/a b", 0xd4));
    }

    #[test]
    fn diverted_files_are_looked_for_where_they_are() {
        let diversions = Diversions::parse("/usr/bin/a\n/usr/bin/a.real\nother\n/usr/bin/b\n/b.distrib\n:\n");
        assert_eq!(diversions.of("/usr/bin/a", "mine"), "/usr/bin/a.real");
        assert_eq!(diversions.of("/usr/bin/a", "other"), "/usr/bin/a");
        assert_eq!(diversions.of("/usr/bin/b", "mine"), "/b.distrib");
        assert_eq!(diversions.of("/usr/bin/c", "mine"), "/usr/bin/c");
    }

    proptest! {
        #[test]
        fn anything_can_be_in_dpkgs_files(text in "(/[a-z/.]*|[0-9a-f]{32}  [a-z/]*|:|\n)*") {
            prop_assert!(read_list(&text).all(|path| path.starts_with('/')));
            prop_assert!(read_sums(&text).all(|(path, _)| path.starts_with('/')));
            let diversions = Diversions::parse(&text);
            prop_assert!(diversions.0.len() <= text.lines().count() / 3);
        }
    }
}
