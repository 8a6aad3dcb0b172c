use std::time::Duration;

use serde::{Deserialize, Serialize};
use toril_machine::Command;

/// What a transaction would fetch, as far as the package lists on the host tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Number of packages to fetch, dependencies included.
    pub packages: usize,
    /// Bytes to fetch.
    pub download: u64,
    /// Bytes that more is on the disk afterwards, as apt rounds them.
    #[serde(default)]
    pub unpacked: u64,
}

/// Whether apt may use its caches, and write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caches {
    /// It may. Without them it takes seconds to read its lists.
    Used,
    /// It must not: nothing is to change.
    Unused,
}

/// Asks apt what installing packages would fetch, without its locks. `None` where it cannot tell, as on a host that has
/// no package lists yet.
pub(crate) fn estimate(packages: &[&str], recommends: bool, caches: Caches) -> Option<Estimate> {
    let mut args = vec!["install", "--print-uris", "--fix-broken", "--yes", "-o", "Debug::NoLocking=1"];
    if caches == Caches::Unused {
        args.extend(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]);
    }
    // Whether they may change is asked elsewhere.
    args.extend(["--allow-downgrades", "--allow-change-held-packages"]);
    args.push(if recommends { "--install-recommends" } else { "--no-install-recommends" });
    args.push("--");
    args.extend(packages);
    let command = Command::new("apt-get", args).deadline(Duration::from_secs(30));
    Some(parse(&command.output().ok()?))
}

/// Reads lines such as `'http://…' qemu_7.2_amd64.deb 12345 SHA256:…`, and `After this operation, 83.1 MB of …`.
fn parse(text: &str) -> Estimate {
    let sizes = text.lines().filter(|line| line.starts_with('\''));
    let sizes = sizes.filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    let unpacked = text.lines().find_map(unpacked).unwrap_or(0);
    sizes.fold(Estimate { packages: 0, download: 0, unpacked }, |sum, size| Estimate {
        packages: sum.packages + 1,
        download: sum.download.saturating_add(size),
        unpacked,
    })
}

/// apt counts in thousands.
fn unpacked(line: &str) -> Option<u64> {
    let words = line.strip_prefix("After this operation, ")?;
    let (number, rest) = words.split_once(' ')?;
    let unit = rest.strip_suffix(" of additional disk space will be used.")?;
    let factor = match unit {
        "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let tenths = whole.replace(',', "").parse::<u64>().ok()?.checked_mul(10)?;
    let tenth = tenth.parse::<u64>().ok()?;
    Some(tenths.checked_add(tenth)?.checked_mul(factor)? / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_added_up() {
        let text = "'http://m/a_1.deb' a_1_amd64.deb 100 SHA256:0\nW: odd\nAfter this operation, 83.1 MB of additional disk space will be used.\n'http://m/b.deb' b.deb 23 MD5Sum:1\n";
        assert_eq!(parse(text), Estimate { packages: 2, download: 123, unpacked: 83_100_000 });
    }
}
