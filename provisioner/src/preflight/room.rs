use super::{Check, CheckState};

const MIB: u64 = 1 << 20;

/// apt, virtiofsd and one guest of 256 MiB beside a Debian that does nothing else.
const MEMORY_WANTED: u64 = 900 * MIB;
const MEMORY_NEEDED: u64 = 400 * MIB;

/// What `microvm-host` takes on a fresh Debian (downloads and unpacked), with as much again for runs. Another recipe may
/// do with less, and apt refuses by itself what it has no room for.
const DISK_WANTED: u64 = 2048 * MIB;

pub(super) fn memory(bytes: u64) -> Check {
    check(
        "memory",
        "in all",
        bytes,
        MEMORY_WANTED,
        MEMORY_NEEDED,
        "choose a flavour with more memory, or add swap",
    )
}

pub(super) fn disk(bytes: u64) -> Check {
    check(
        "disk",
        "free under /var",
        bytes,
        DISK_WANTED,
        0,
        "free some space (`apt-get clean`, `journalctl --vacuum-size=50M`), or enlarge the disk",
    )
}

fn check(name: &str, of_what: &str, bytes: u64, wanted: u64, needed: u64, remedy: &str) -> Check {
    let what = format!("{} MiB {of_what}", bytes / MIB);
    if bytes >= wanted {
        return Check::fine(name, what);
    }
    let state = if bytes < needed { CheckState::Bad } else { CheckState::Doubtful };
    Check::trouble(name, state, format!("{what}, where {} MiB are wanted", wanted / MIB), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_doubtful_and_too_little_is_bad() {
        let states = [2000, 600, 300].map(|mib| memory(mib * MIB).state);
        assert_eq!(states, [CheckState::Fine, CheckState::Doubtful, CheckState::Bad]);
        assert_eq!(disk(100 * MIB).what, "100 MiB free under /var, where 2048 MiB are wanted");
    }
}
